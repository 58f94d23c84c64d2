"""The rate limit of one endpoint: GCRA in one 64-bit word that all workers share.

The generic cell rate algorithm (ITU-T I.371; ATM Forum, Traffic Management 4.0) needs only the
theoretical arrival time (TAT): the moment at which the endpoint's allowance would be whole again. A
request may go while the TAT is at most `(burst - 1) * interval_ns` ahead, and moves it one interval
on; so a burst of `burst` may go at once, and one more each interval after it.
"""

from __future__ import annotations

__all__ = ["admit", "is_possible"]


def admit(tat_ns: int, now_ns: int, interval_ns: int, burst: int) -> tuple[int, int]:
    """Return the new TAT, and how long to wait: 0, the request may go now; otherwise nothing was
    admitted.

    Begin with a TAT of 0. Write the new TAT with compare-and-swap if it differs, after a refusal
    too: it is never left further ahead of `now_ns` than a full burst can put it, so that a limit that
    was made smaller, or a damaged word, cannot stop the endpoint. `now_ns` is engine time.
    """
    tat_ns = min(max(tat_ns, now_ns), now_ns + burst * interval_ns)
    wait_ns = tat_ns - now_ns - (burst - 1) * interval_ns
    if wait_ns > 0:
        return tat_ns, wait_ns
    return tat_ns + interval_ns, 0


def is_possible(tat_ns: int, now_ns: int, interval_ns: int, burst: int) -> bool:
    """Return whether `admit` under this limit can have left such a TAT."""
    return tat_ns <= now_ns + burst * interval_ns

"""Which deliveries of the store are out with which worker."""

from __future__ import annotations

__all__ = ["WorkerLeases"]


class WorkerLeases:
    """Beside the store's leases, which do not know who has one. For each worker that ever was."""

    def __init__(self) -> None:
        #: what was put into a worker's inbox
        self.sent: list[set[int]] = []
        #: what a worker had from a publisher and the store took over, with the sequence number of the
        #: report that said so
        self.taken_over: list[dict[int, int]] = []

    def add_worker(self) -> None:
        self.sent.append(set())
        self.taken_over.append({})

    def take_over(self, worker: int, delivery_id: int, seq: int) -> None:
        """Note that a worker goes on with a delivery that the store keeps, as its report of that
        number says."""
        self.taken_over[worker][delivery_id] = seq

    @property
    def sent_in_all(self) -> int:
        return sum(map(len, self.sent))

    def reported(self, worker: int, delivery_id: int) -> None:
        """Note that a worker has said what became of a delivery: it is not out with it any more."""
        self.sent[worker].discard(delivery_id)
        self.taken_over[worker].pop(delivery_id, None)

    def take_back_sent(self, worker: int) -> set[int]:
        """Forget what was put into a worker's inbox, and return it."""
        taken, self.sent[worker] = self.sent[worker], set()
        return taken

    def take_back_taken_over(self, worker: int, before_seq: int) -> list[int]:
        """Forget what the store took over from a worker by reports before this one, and return it. A
        successor of the worker may have handed over more since."""
        taken_over = self.taken_over[worker]
        taken = [id for id, seq in taken_over.items() if seq < before_seq]
        for id in taken:
            del taken_over[id]
        return taken

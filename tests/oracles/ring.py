"""The ring as a plain list: what each call must answer, with the processes and their races left out."""

from __future__ import annotations

from dataclasses import dataclass, field

HEADER_BYTES, TARGET_BYTES, ALIGNMENT = 32, 4, 8


@dataclass
class Record:
    """`unsettled` empties as targets are settled; `place` is its first and last byte, over all laps."""

    seq: int
    targets: tuple[int, ...]
    head: bytes
    body: bytes
    place: range
    where: str = "waiting"  # then "taken", "settled" or "dropped"
    unsettled: set[int] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        return self.where in ("settled", "dropped")


class RingModel:
    """Every record ever accepted, in its order. `head`, `cursor` and `end` are the ring's."""

    def __init__(self, queue_size: int, capacity: int, drop_oldest: bool) -> None:
        self.queue_size = queue_size
        self.capacity = (capacity + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.slots = 1 << (2 * queue_size - 1).bit_length()
        self.drop_oldest = drop_oldest
        self.records: list[Record] = []
        self.cursor = self.dropped_to = self.end = 0

    @property
    def tail(self) -> int:
        return len(self.records)

    @property
    def head(self) -> int:
        return next((r.seq for r in self.records if not r.finished), self.tail)

    @property
    def waiting(self) -> int:
        """The records that the producer believes to wait: all that the consumer has not looked at,
        but for what it dropped itself. So what was settled out of order waits again, for a moment,
        after a rewind."""
        return self.tail - max(self.cursor, self.dropped_to, self.head)

    def put(self, targets: tuple[int, ...], head: bytes, body: bytes) -> str:
        size = HEADER_BYTES + TARGET_BYTES * len(targets) + len(head) + len(body)
        size = (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        if size > self.capacity // 2:
            return "too large"
        while (start := self._place(size)) is None:
            oldest = self.records[self.head]
            if not self.drop_oldest or oldest.where == "taken":
                return "full"
            self._drop(oldest)
        while self.waiting >= self.queue_size:
            if not self.drop_oldest:
                return "full"
            waiting = [r for r in self.records if r.where == "waiting"]
            if waiting:
                self._drop(waiting[0])
            else:
                self.dropped_to = self.tail
        record = Record(self.tail, targets, head, body, range(start, start + size))
        record.unsettled.update(targets)
        self.records.append(record)
        self.end = start + size
        return "accepted"

    def _place(self, size: int) -> int | None:
        start = self.end
        if start % self.capacity + size > self.capacity:  # a record never straddles the end
            start += self.capacity - start % self.capacity
        if self.head == self.tail:
            return start
        oldest = self.records[self.head]
        if self.tail - self.head == self.slots or start + size - oldest.place.start > self.capacity:
            return None
        return start

    def _drop(self, record: Record) -> None:
        record.where = "dropped"
        self.dropped_to = record.seq + 1

    def take(self, limit: int) -> list[Record]:
        taken = [r for r in self.records[self.cursor :] if r.where == "waiting"][:limit]
        for record in taken:
            record.where = "taken"
        self.cursor = taken[-1].seq + 1 if len(taken) == limit else self.tail
        return taken

    def settle(self, seq: int, target: int) -> None:
        record = self.records[seq]
        record.unsettled.remove(target)
        if not record.unsettled:
            record.where = "settled"

    def rewind(self) -> None:
        """A new consumer: what its predecessor had in hand waits again."""
        for record in self.records:
            if record.where == "taken":
                record.where = "waiting"
        self.cursor, self.dropped_to = self.head, 0

    def replace_producer(self) -> None:
        self.dropped_to = 0

# cython: auto_pickle=False, autotestdict=False
"""Rings in memory-mapped files: their two ends, and their repair.

Layout, invariants and crash notes: ring.h. What each call does and raises: ring.pyi.
"""

cimport cython

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .shared import LayoutMismatch, create_file, open_own

from .shared cimport (
    FX_LAYOUT, FX_PAGE, Counters, Mapping, check_version, fx_counters, fx_load, fx_redo_done,
    fx_redo_open, fx_store, madvise, munmap, page_wiped_on_fork,
)

ACCEPTED = FX_ACCEPTED
FULL = FX_FULL
FORKED = FX_FORKED
TOO_LARGE = FX_TOO_LARGE
UNSYNCED = FX_UNSYNCED
MAX_TARGETS = FX_MAX_TARGETS

cdef enum:
    POPULATE_WRITE = 23     # MADV_POPULATE_WRITE, Linux 5.14


cdef bytes ring_header(uint64_t capacity, uint64_t slot_count, uint64_t queue_size, bytes boot_id):
    return (FX_RING_MAGIC.to_bytes(8, "little") + FX_LAYOUT.to_bytes(8, "little")
            + capacity.to_bytes(8, "little") + slot_count.to_bytes(8, "little")
            + queue_size.to_bytes(8, "little") + os.urandom(8) + boot_id)


cdef fx_ring *checked_ring(Mapping mapping) except NULL:
    cdef fx_ring *r = <fx_ring *>mapping.address
    check_version(mapping.path, r.magic, FX_RING_MAGIC, r.layout)
    if (r.slot_count == 0 or r.slot_count & (r.slot_count - 1) or r.slot_count > mapping.length
            or r.capacity < FX_PAGE or r.capacity % 8 or r.capacity > mapping.length
            or fx_ring_bytes(r.slot_count, r.capacity) != mapping.length
            or r.queue_size == 0 or r.queue_size > r.slot_count):
        raise LayoutMismatch(f"{mapping.path} is damaged: its size does not fit its header")
    return r


cdef fx_ring *sound_ring(Mapping mapping) except NULL:
    cdef fx_ring *r = checked_ring(mapping)
    if not fx_positions_hold(r):
        raise LayoutMismatch(f"{mapping.path} is damaged: its positions contradict each other")
    return r


cdef int check_boot_id(bytes boot_id) except -1:
    if len(boot_id) != 16:
        raise ValueError("a boot id has 16 bytes")
    return 0


def create_ring(str path not None, uint64_t queue_size, uint64_t capacity, bytes boot_id not None):
    """Makes an empty ring file for up to `queue_size` waiting records in `capacity` bytes."""
    check_boot_id(boot_id)
    if not 1 <= queue_size <= FX_MAX_QUEUE:
        raise ValueError(f"a ring's queue_size is 1 to {FX_MAX_QUEUE}, not {queue_size}")
    if not FX_PAGE <= capacity <= <uint64_t>1 << 48:  # what a process can map
        raise ValueError(f"a ring's capacity is {FX_PAGE} bytes to 2^48, not {capacity}")
    create_file(path, ring_bytes(queue_size, capacity),
                ring_header(aligned(capacity), slots_for(queue_size), queue_size, boot_id))


def ring_bytes(uint64_t queue_size, uint64_t capacity):
    return fx_ring_bytes(slots_for(queue_size), aligned(capacity))


cdef uint64_t aligned(uint64_t capacity):
    return (capacity + 7) & ~<uint64_t>7


cdef uint64_t slots_for(uint64_t queue_size):
    """Room for as many again in the consumer's hands, so that these do not shorten the queue."""
    return 1 << (2 * queue_size - 1).bit_length()


def repair_ring(str path not None, bytes boot_id not None):
    """Puts a ring right that was in use when the machine went down.

    Returns the number of records saved, or None if the ring is of this boot and needs no repair.
    Nobody else may have the ring open. It gets a new uid: its numbers may repeat older ones.
    """
    check_boot_id(boot_id)
    mapping = Mapping()
    (<Mapping>mapping).attach(path, True)
    cdef fx_ring *r
    try:
        r = checked_ring(mapping)
        return None if r.boot_id[:16] == boot_id else repair(r, boot_id)
    finally:
        mapping.close()


def check_ring(str path not None, bytes boot_id not None, *, bint alone, bint weed=True):
    """Looks through a ring that no consumer has open, and puts right what is wrong.

    Returns the number of records saved, or None if its positions were right, and the number of
    those that were damaged and are settled unseen.
    """
    check_boot_id(boot_id)
    mapping = Mapping()
    (<Mapping>mapping).attach(path, True)
    cdef fx_ring *r
    saved = None
    try:
        r = checked_ring(mapping)
        if alone and (not fx_positions_hold(r) or fx_strays(r)):
            saved = repair(r, boot_id)
        r = sound_ring(mapping)
        return saved, fx_weed(r) if weed else 0
    finally:
        mapping.close()


def rebuild_ring(str path not None, uint64_t queue_size, uint64_t capacity, bytes boot_id not None):
    """Gives a ring whose header or size is damaged another one, and saves what is whole in it.

    The geometry may be its own as its header has it, the given one, or any that its size allows: it
    is that with which most records are whole. Returns the number of records saved. Raises
    LayoutMismatch where there is none, and then has changed nothing but the first page and the size.
    """
    check_boot_id(boot_id)
    cdef uint64_t size = os.stat(path).st_size, slots, most = 0, found
    own = b""
    fd = open_own(path, os.O_RDWR)
    try:
        own = os.pread(fd, 40, 0)
        found_queue, found_capacity = (int.from_bytes(own[at:at + 8], "little") for at in (32, 16))
        candidates = {}  # size of the file: slots, capacity, queue size
        for queue, data in ((queue_size, aligned(capacity)), (found_queue, found_capacity)):
            if 1 <= queue <= FX_MAX_QUEUE and FX_PAGE <= data <= <uint64_t>1 << 40 and data % 8 == 0:
                slots = slots_for(queue)
                candidates[slots, data] = queue
        for power in range(1, 30):
            slots = <uint64_t>1 << power
            if FX_PAGE + 16 * slots + FX_PAGE <= size:
                candidates.setdefault((slots, (size - FX_PAGE - 16 * slots) & ~<uint64_t>7), slots // 2)
        best = None
        # Those that need no other size first: equally many records may be whole with several.
        for (slots, data), queue in sorted(
                candidates.items(), key=lambda c: FX_PAGE + 16 * c[0][0] + c[0][1] != size):
            found = try_geometry(path, fd, size, ring_header(data, slots, queue, boot_id))
            if found > most:
                most, best = found, (data, slots, queue)
        if best is None:
            raise LayoutMismatch(f"{path} is damaged: nothing in it is whole")
        data, slots, queue = best
        os.truncate(fd, fx_ring_bytes(slots, data))
        os.posix_fallocate(fd, 0, fx_ring_bytes(slots, data))
        os.pwrite(fd, ring_header(data, slots, queue, boot_id).ljust(FX_PAGE, b"\0"), 0)
    finally:
        os.close(fd)
    mapping = Mapping()
    (<Mapping>mapping).attach(path, True)
    try:
        return repair(checked_ring(mapping), boot_id)
    finally:
        mapping.close()


cdef uint64_t try_geometry(str path, int fd, uint64_t size, bytes header) except? 0:
    """The number of records that are whole with it; the file grows to what it says for a moment."""
    cdef uint64_t capacity = int.from_bytes(header[16:24], "little")
    cdef uint64_t slots = int.from_bytes(header[24:32], "little")
    cdef uint64_t needed = fx_ring_bytes(slots, capacity)
    mapping = Mapping()
    try:
        os.pwrite(fd, header, 0)
        os.truncate(fd, needed)
        (<Mapping>mapping).attach(path, True)
        return fx_valid_slots(checked_ring(mapping))
    finally:
        mapping.close()
        os.truncate(fd, size)


cdef object repair(fx_ring *r, bytes boot_id):
    kept = fx_repair(r)
    uid = os.urandom(8)
    memcpy(&r.uid, PyBytes_AS_STRING(uid), 8)
    memcpy(r.boot_id, PyBytes_AS_STRING(boot_id), 16)
    return kept


def geometry(str path not None):
    """(queue_size, capacity in bytes) of a ring file."""
    mapping = Mapping()
    (<Mapping>mapping).attach(path, False)
    cdef fx_ring *r
    try:
        r = checked_ring(mapping)
        return r.queue_size, r.capacity
    finally:
        mapping.close()


def unsettled(str path not None, dict applied=None):
    """The number of unsettled deliveries per endpoint id in a ring; exact while it is at rest."""
    mapping = Mapping()
    (<Mapping>mapping).attach(path, False)
    cdef fx_ring *r
    cdef fx_record record
    cdef const uint8_t *at
    cdef uint64_t seq
    cdef uint32_t bits, i
    counts = {}
    after = -1
    try:
        r = sound_ring(mapping)
        if applied:
            after = applied.get((<uint64_t>r.uid).to_bytes(8, "little"), -1)
        for seq in range(max(fx_load(&r.head), <uint64_t>(after + 1)), fx_load(&r.tail)):
            at = fx_record_of(r, seq, &record)
            bits = fx_unsettled(r, seq)
            if at == NULL or bits == 0:
                continue
            targets = [fx_targets(at)[i] for i in range(record.target_count) if bits >> i & 1]
            if fx_unsettled(r, seq) == 0:
                continue  # finished meanwhile, and perhaps written over as it was read
            for target in targets:
                counts[target] = counts.get(target, 0) + 1
        return counts
    finally:
        mapping.close()


@cython.final
cdef class Producer(Mapping):
    def __init__(self, str path not None, *, bint drop_oldest=False, int doorbell=-1, bint sync=False):
        self.attach(path, True)
        fx_producer_open(&self.p, sound_ring(self), drop_oldest, doorbell)
        self.p.sync_fd = self.fd if sync else -1
        self.queued_at_most = self.p.ring.queue_size
        # A child of fork() finds it zeroed: it must not write into its parent's ring.
        self.alive = <char *>page_wiped_on_fork()
        self.alive[0] = 1
        madvise(self.address, self.length, POPULATE_WRITE)  # page faults now, not in `put`

    def __dealloc__(self):
        if self.alive != NULL:
            munmap(self.alive, FX_PAGE)

    @property
    def uid(self):
        self.check()
        return self.p.ring.uid

    @property
    def capacity_bytes(self):
        self.check()
        return self.p.ring.capacity

    @property
    def queue_size(self):
        self.check()
        return self.p.ring.queue_size

    @property
    def head(self):
        self.check()
        return fx_load(&self.p.ring.head)

    @property
    def tail(self):
        self.check()
        return fx_load(&self.p.ring.tail)

    @property
    def waiting(self):
        self.check()
        return fx_waiting(&self.p)

    @property
    def backlog(self):
        self.check()
        return fx_backlog(&self.p)

    @property
    def empty(self):
        self.check()
        return fx_load(&self.p.ring.tail) == fx_load(&self.p.ring.head)

    def put(self, bytes targets not None, bytes head not None, bytes body not None,
            Counters counters=None):
        cdef uint32_t target_count = targets_in(targets)
        if not self.alive[0]:
            return FX_FORKED  # also where another thread closed it, once the child had attached anew
        self.check()
        cdef fx_counters *c = NULL if counters is None else counters.writer()
        return fx_put(&self.p, PyBytes_AS_STRING(targets), target_count,
                      PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head),
                      PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), c, COUNTED, DROPPED)


cdef uint32_t targets_in(bytes targets) except 0:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(targets)
    if size == 0 or size % 4 or size > 4 * <Py_ssize_t>FX_MAX_TARGETS:
        raise ValueError(f"a record has 1 to {FX_MAX_TARGETS} targets of 4 bytes each")
    return <uint32_t>(size >> 2)


cdef uint64_t turn = 0  # of a generator (Knuth's MMIX) whose high bits choose where to begin


#: as much backlog keeps nobody waiting
cdef uint64_t FEW = 4


cdef Py_ssize_t index_of_least(list producers) except -1:
    """The first ring while there are few, which so stay with one worker, awake, and its connections.
    Otherwise the ring with the shortest backlog; ties are broken at random: rings taken in a fixed order
    could each get the events of one endpoint only, and with them a worker's share of it. Where that
    one is full, one that is not, or the ring whose oldest record is the oldest of all: if it drops
    that, they together keep the newest ones."""
    global turn
    cdef Py_ssize_t count = len(producers), best = 0, index, i
    cdef uint64_t least = <uint64_t>-1, backlog
    if count == 0:
        return 0
    backlog = backlog_of(producers[0])
    if backlog < FEW and backlog < (<Producer>producers[0]).queued_at_most:
        return 0
    turn = turn * 6364136223846793005u + 1442695040888963407u
    index = (turn >> 33) % count
    for i in range(count):
        backlog = backlog_of(producers[index])
        if backlog < least:
            least, best = backlog, index
            if least == 0:
                break
        index = index + 1 if index + 1 < count else 0
    if least and fx_is_full(&(<Producer>producers[best]).p):
        return index_of_oldest(producers)
    return best


cdef Py_ssize_t index_of_oldest(list producers) noexcept:
    """The ring whose oldest waiting record is the oldest, or one that has room after all. They are open."""
    cdef Py_ssize_t best = 0, i
    cdef uint64_t oldest_ns = <uint64_t>-1, put_ns
    for i in range(len(producers)):
        if not fx_is_full(&(<Producer>producers[i]).p):
            return i
        put_ns = fx_oldest_ns(&(<Producer>producers[i]).p)
        if put_ns < oldest_ns:
            oldest_ns, best = put_ns, i
    return best


cdef inline uint64_t backlog_of(object producer) except? -1:
    if (<Producer?>producer).address == NULL:
        if not (<Producer>producer).alive[0]:
            return 0  # so that it is put into, and answers FORKED
        (<Producer>producer).check()
    return fx_backlog(&(<Producer>producer).p)


def least_backlog(list producers not None):
    """The index of the ring with the shortest backlog."""
    return index_of_least(producers)


def recover(Counters counters not None, list rings not None, Producer outbox=None):
    cdef fx_counters *c = counters.writer()
    cdef fx_ring *out = NULL
    cdef fx_ring *ring
    if not fx_redo_open(c):
        return False
    if outbox is not None:
        outbox.check()
        out = outbox.p.ring
    for mapping in rings:
        (<Mapping?>mapping).check()
        ring = checked_ring(mapping)
        if fx_recover(c, ring, out):
            return True
    fx_redo_done(c)  # its ring is gone, and with it all that was owed
    return False


@cython.final
cdef class RingDelivery:
    """One event for one endpoint, on its way through a worker."""
    cdef Consumer source
    cdef readonly uint64_t seq
    cdef uint32_t mask
    cdef public uint32_t endpoint
    cdef public uint64_t accepted_ns
    cdef public bytes event
    cdef public bytes body
    cdef public uint64_t id
    cdef public uint32_t attempts
    cdef public uint64_t taken_ns
    cdef bint reported          # in the outbox, which could not be synced yet

    @property
    def in_ring(self):
        return self.source is not None

    def settle(self, Counters counters=None, uint64_t field=0):
        return self.settled(NULL if counters is None else counters.writer(), field)

    cdef bint settled(self, fx_counters *c, uint64_t field) except -1:
        if self.source is None:
            raise ValueError("this delivery left its ring")
        cdef Consumer source = self.source
        source.check()
        self.source = None
        return fx_settle(source.ring, self.seq, self.mask, c, self.endpoint, field)

    def hand_over(self, Producer outbox not None, uint32_t target, bytes head not None,
                  bytes body not None, Counters counters not None):
        cdef fx_ring *ring = NULL
        cdef fx_counters *c = counters.writer()
        outbox.check()
        if not outbox.alive[0]:
            return FX_FORKED
        if self.source is not None:
            self.source.check()
            ring = self.source.ring
        cdef int result
        if self.reported:
            result = fx_handed_over(ring, self.seq, self.mask, &outbox.p)
            fx_advance(ring)
        else:
            result = fx_hand_over(ring, self.seq, self.mask, &outbox.p, target,
                                  PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head),
                                  PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), c)
        self.reported = result == FX_UNSYNCED
        if result == FX_ACCEPTED:
            self.source = None
        return result


def settle_fresh(object deliveries not None, Counters counters not None, uint64_t field):
    cdef list others = []
    cdef RingDelivery delivery
    cdef fx_counters *c = counters.writer()
    for item in deliveries:
        delivery = <RingDelivery?>item
        if delivery.id:
            others.append(delivery)
        else:
            delivery.settled(c, field)
    return others


@cython.final
cdef class Consumer(Mapping):
    cdef fx_ring *ring
    cdef uint64_t cursor
    cdef readonly uint64_t corrupt

    def __init__(self, str path not None):
        self.attach(path, True)
        self.ring = sound_ring(self)
        self.cursor = fx_load(&self.ring.cursor)
        self.corrupt = 0

    def rewind(self):
        self.check()
        fx_rewind(self.ring)
        self.cursor = fx_load(&self.ring.cursor)

    @property
    def uid(self):
        self.check()
        return self.ring.uid

    @property
    def empty(self):
        self.check()
        return fx_load(&self.ring.tail) == fx_load(&self.ring.head)

    @property
    def next(self):
        """The sequence number of the record that `take` looks at next."""
        return self.cursor

    @property
    def load(self):
        """The share of the ring in use, 0 to 1: the larger of its slots' and its bytes'."""
        self.check()
        cdef uint64_t tail = fx_load(&self.ring.tail)
        cdef uint64_t head = fx_load(&self.ring.head)
        if tail == head:
            return 0.0
        cdef double records = <double>(tail - head) / self.ring.slot_count
        cdef double used = <double>fx_ring_used(self.ring, head, tail) / self.ring.capacity
        return min(1.0, max(records, used))

    @property
    def head(self):
        self.check()
        return fx_load(&self.ring.head)

    @property
    def tail(self):
        self.check()
        return fx_load(&self.ring.tail)

    def take(self, int limit):
        self.check()
        cdef fx_taken record
        cdef int found
        cdef uint32_t i
        cdef bytes head, body
        cdef RingDelivery delivery
        cdef list taken = []
        fx_disarm(self.ring)
        while limit > 0:
            found = fx_take(self.ring, &self.cursor, &record)
            if found == 0:
                break
            limit -= 1
            if found < 0:
                self.corrupt += 1
                continue
            head = PyBytes_FromStringAndSize(<char *>record.payload, record.header.head_length)
            body = PyBytes_FromStringAndSize(<char *>record.payload + record.header.head_length,
                                             record.body_length)
            for i in range(record.header.target_count):
                if record.bits >> i & 1:
                    delivery = RingDelivery.__new__(RingDelivery)
                    delivery.source = self
                    delivery.seq = record.seq
                    delivery.mask = <uint32_t>1 << i
                    delivery.endpoint = record.targets[i]
                    delivery.accepted_ns = record.header.stamp_ns
                    delivery.event = head
                    delivery.body = body
                    taken.append(delivery)
        fx_store(&self.ring.cursor, self.cursor)
        return taken

    def arm(self):
        self.check()
        return bool(fx_arm(self.ring, self.cursor))

    def go_on_at(self, uint64_t seq):
        self.check()
        fx_go_on_at(self.ring, seq)
        self.cursor = seq

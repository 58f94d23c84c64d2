# cython: auto_pickle=False, autotestdict=False
"""Rings, counters and words in memory-mapped files, and what an event needs on its way there.

Layout, invariants and crash notes: ring.h. What each call does and raises: ring.pyi.
"""

cimport cython

import errno
import os
import stat

from msgspec import UNSET as _UNSET

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<sys/mman.h>" nogil:
    void *mmap_ "mmap"(void *, size_t, int, int, int, long)
    int munmap(void *, size_t)
    int madvise(void *, size_t, int)
    const int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 widest)
    uint8_t *PyUnicode_1BYTE_DATA(object text)

cdef extern from "ring.h" nogil:
    ctypedef struct fx_word:
        pass
    ctypedef struct fx_counters:
        uint64_t magic, rows, fields, serial, token
        uint32_t layout
    ctypedef struct fx_ring:
        uint64_t magic, capacity, slot_count, queue_size, uid
        uint32_t layout
        uint8_t boot_id[16]
        fx_word tail, cursor, head, epoch
    ctypedef struct fx_record:
        uint32_t target_count, head_length
        uint64_t stamp_ns
    ctypedef struct fx_taken:
        uint64_t seq, body_length
        uint32_t bits
        fx_record header
        const uint32_t *targets
        const uint8_t *payload
    ctypedef struct fx_piece:
        const void *at
        uint64_t length
    ctypedef struct fx_producer:
        fx_ring *ring
        int sync_fd
    const uint64_t FX_RING_MAGIC, FX_COUNTERS_MAGIC, FX_WORDS_MAGIC
    const uint32_t FX_LAYOUT, FX_PAGE, FX_MAX_TARGETS
    const uint64_t FX_MAX_QUEUE
    const int FX_ACCEPTED, FX_FULL, FX_FORKED, FX_TOO_LARGE, FX_UNSYNCED
    const int FX_STAMP_BITS, FX_BUCKETS
    uint64_t fx_load(fx_word *)
    void fx_store(fx_word *, uint64_t)
    uint64_t fx_add(fx_word *, uint64_t)
    bint fx_swap(fx_word *, uint64_t, uint64_t)
    int fx_sync(void *, uint64_t, int, int *)
    fx_word *fx_counter(fx_counters *, uint64_t, uint64_t)
    void fx_count(fx_counters *, uint64_t, uint64_t, uint64_t, uint64_t)
    uint64_t fx_next_serial(fx_counters *)
    void fx_redo_done(fx_counters *)
    bint fx_redo_open(fx_counters *)
    bint fx_recover(fx_counters *, fx_ring *, fx_ring *)
    uint64_t fx_ring_bytes(uint64_t, uint64_t)
    bint fx_positions_hold(fx_ring *)
    void fx_producer_open(fx_producer *, fx_ring *, bint, int)
    uint64_t fx_waiting(fx_producer *)
    uint64_t fx_backlog(fx_producer *)
    bint fx_is_full(fx_producer *)
    uint64_t fx_oldest_ns(fx_producer *)
    uint64_t fx_repair(fx_ring *)
    uint64_t fx_valid_slots(fx_ring *)
    bint fx_strays(fx_ring *)
    uint64_t fx_weed(fx_ring *)
    void fx_go_on_at(fx_ring *, uint64_t)
    void fx_advance(fx_ring *)
    void fx_rewind(fx_ring *)
    int fx_take(fx_ring *, uint64_t *, fx_taken *)
    bint fx_settle(fx_ring *, uint64_t, uint32_t, fx_counters *, uint64_t, uint64_t)
    bint fx_arm(fx_ring *, uint64_t)
    void fx_disarm(fx_ring *)
    int fx_put(fx_producer *, const void *, uint32_t, const void *, uint64_t, const void *, uint64_t,
               fx_counters *, uint64_t, uint64_t)
    int fx_put_pieces(fx_producer *, const void *, uint32_t, const fx_piece *, uint32_t, uint64_t,
                      uint64_t, fx_counters *, uint64_t, uint64_t)
    uint64_t fx_realtime_ns()
    int fx_handed_over(fx_ring *, uint64_t, uint32_t, fx_producer *)
    int fx_hand_over(fx_ring *, uint64_t, uint32_t, fx_producer *, uint32_t, const void *, uint64_t,
                     const void *, uint64_t, fx_counters *)
    const uint8_t *fx_record_of(fx_ring *, uint64_t, fx_record *)
    const uint32_t *fx_targets(const uint8_t *)
    uint32_t fx_unsettled(fx_ring *, uint64_t)
    uint64_t fx_ring_used(fx_ring *, uint64_t, uint64_t)
    int fx_bucket(uint64_t)
    uint64_t fx_bucket_limit(int)

ACCEPTED = FX_ACCEPTED
FULL = FX_FULL
FORKED = FX_FORKED
TOO_LARGE = FX_TOO_LARGE
UNSYNCED = FX_UNSYNCED
STALE = STALE_
EXPIRED = EXPIRED_
MAX_TARGETS = FX_MAX_TARGETS
MAX_DEPTH = MAX_DEPTH_
HISTOGRAM_BUCKETS = FX_BUCKETS

cdef enum:
    MAX_DEPTH_ = 128    # serde_json reads as deep; most libraries read deeper
    STALE_ = 4     # results of Template.put, beyond those of fx_put
    EXPIRED_ = 5
    LAST_LAYOUT = 99    # a higher number is none that we will ever give
    COUNTED = 0    # where a publisher's counters hold what was accepted ...
    DROPPED = 1    # ... and what drop policy `oldest` reclaimed
    WIPEONFORK = 18         # MADV_WIPEONFORK, Linux 4.14
    POPULATE_WRITE = 23     # MADV_POPULATE_WRITE, Linux 5.14


class LayoutMismatch(Exception):
    """The file is not one of ours, is truncated or damaged, or has another layout version."""


class OtherVersion(LayoutMismatch):
    """The file is whole, as far as can be seen, and of another layout version."""


def is_own(found not None, folder not None):
    """Whether a file is this user's, or as far as root looks at it, its folder's owner's."""
    uid = os.geteuid()
    return found.st_uid == uid or (uid == 0 and found.st_uid == os.stat(folder).st_uid)


def open_own(path not None, int flags, *, int kind=stat.S_IFREG):
    path = os.fspath(path)
    waiting_for_nobody = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags | waiting_for_nobody, 0o600)
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if stat.S_IFMT(found.st_mode) != kind:
            wanted = "FIFO" if kind == stat.S_IFIFO else "regular file"
            raise OSError(errno.EINVAL, f"it is not a {wanted}", path)
        if not is_own(found, os.path.dirname(path) or "."):
            raise OSError(errno.EPERM, "it belongs to another user", path)
        if flags & os.O_CREAT and stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(fd, 0o600)  # under any umask
    except BaseException:
        os.close(fd)
        raise
    return fd


cdef int check_version(str path, uint64_t magic, uint64_t expected, uint32_t layout) except -1:
    if magic != expected and (magic ^ expected) << 8 == 0 and 48 <= <int>(magic >> 56) < 58:
        raise OtherVersion(f"{path} was written by another version of fluxhook")
    if magic != expected:
        raise LayoutMismatch(f"{path} is damaged: it does not begin as a fluxhook file of its kind")
    if layout != FX_LAYOUT:
        if layout == 0 or layout > LAST_LAYOUT:
            raise LayoutMismatch(f"{path} is damaged: its layout has the number {layout}")
        raise OtherVersion(f"{path} was written by another version of fluxhook")
    return 0


cdef class Mapping:
    """A file mapped whole, shared between processes."""
    cdef readonly str path
    cdef void *address
    cdef size_t length
    cdef int fd
    cdef int sync_failed
    cdef bint writable

    def __cinit__(self):
        self.address = NULL
        self.fd = -1

    cdef int attach(self, str path, bint writable) except -1:
        self.path = path
        self.writable = writable
        self.fd = open_own(path, os.O_RDWR if writable else os.O_RDONLY)
        self.length = os.fstat(self.fd).st_size
        if self.length < FX_PAGE:
            raise LayoutMismatch(f"{path} is {self.length} bytes long: not a fluxhook file")
        cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
        self.address = mmap_(NULL, self.length, protection, MAP_SHARED, self.fd, 0)
        if self.address == MAP_FAILED:
            self.address = NULL
            raise OSError(errno.ENOMEM, "cannot map", path)
        return 0

    cpdef close(self):
        """Unmaps the file; nothing else may be called afterwards."""
        if self.address != NULL:
            munmap(self.address, self.length)
            self.address = NULL
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    cdef int check(self) except -1:
        if self.address == NULL:
            raise ValueError(f"{self.path} is closed")
        return 0

    def sync(self):
        """fdatasync of the file, with the GIL released."""
        self.check()
        cdef int error
        cdef size_t length = self.length if self.writable else 0
        with nogil:
            error = fx_sync(self.address, length, self.fd, &self.sync_failed)
        if error:
            raise OSError(error, os.strerror(error), self.path)

    @property
    def in_place(self):
        self.check()
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        mine = os.fstat(self.fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def __dealloc__(self):
        if self.address != NULL:
            munmap(self.address, self.length)
        if self.fd >= 0:
            os.close(self.fd)


def sync_file(str path not None, *, bint again=False):
    """Returns once a file that others have mapped is on the disk."""
    mapping = Mapping()
    (<Mapping>mapping).attach(path, True)
    (<Mapping>mapping).sync_failed = again
    try:
        mapping.sync()
    finally:
        mapping.close()


cdef object sync_folder_of(str path):
    """Returns once the names in a file's folder are on the disk."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create_file(str path not None, size_t length, bytes header not None):
    """Makes a zeroed file of full size that begins with `header`, and puts it in place whole.

    posix_fallocate reserves the blocks, so a full disk is an OSError here and never a SIGBUS later.
    """
    temporary = f"{path}.{os.getpid()}.new"
    try:
        os.unlink(temporary)  # of a process that was killed
    except FileNotFoundError:
        pass
    fd = open_own(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.posix_fallocate(fd, 0, length)
        os.pwrite(fd, header, 0)
        os.fdatasync(fd)
        os.rename(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path  # of calls that know the descriptor only
        raise
    finally:
        os.close(fd)
    sync_folder_of(path)


cdef bytes matrix_header(uint64_t magic, uint64_t rows, uint64_t fields):
    return (magic.to_bytes(8, "little") + FX_LAYOUT.to_bytes(8, "little")
            + rows.to_bytes(8, "little") + fields.to_bytes(8, "little"))


cdef class Matrix(Mapping):
    cdef readonly uint64_t rows
    cdef readonly uint64_t fields

    cdef int open(self, str path, uint64_t magic, uint64_t rows, uint64_t fields, bint writable) except -1:
        if writable and rows and fields and not os.path.exists(path):
            create_file(path, FX_PAGE + <object>rows * fields * 8, matrix_header(magic, rows, fields))
        self.attach(path, writable)
        cdef fx_counters *h = <fx_counters *>self.address
        check_version(path, h.magic, magic, h.layout)
        if fields and h.fields != fields:
            raise LayoutMismatch(f"{path} holds rows of {h.fields} words, not of {fields}")
        if (h.fields == 0 or h.fields > self.length or h.rows > self.length
                or self.length != FX_PAGE + 8 * <size_t>h.rows * h.fields):
            raise LayoutMismatch(f"{path} is damaged: its size does not fit its header")
        self.rows, self.fields = h.rows, h.fields
        return 0

    cdef fx_word *word(self, uint64_t row, uint64_t field) except NULL:
        if self.address == NULL:
            raise ValueError(f"{self.path} is closed")
        if row >= self.rows or field >= self.fields:
            raise IndexError(f"no word ({row}, {field}) among {self.rows} x {self.fields}")
        return <fx_word *>(<char *>self.address + FX_PAGE) + row * self.fields + field

    cdef fx_word *writable_word(self, uint64_t row, uint64_t field) except NULL:
        if not self.writable:
            raise ValueError(f"{self.path} was opened for reading")
        return self.word(row, field)


@cython.final
cdef class Counters(Matrix):
    def __init__(self, str path not None, uint64_t rows=0, uint64_t fields=0, *, bint writable):
        self.open(path, FX_COUNTERS_MAGIC, rows, fields, writable)

    cdef fx_counters *writer(self) except NULL:
        self.check()
        if not self.writable:
            raise ValueError(f"{self.path} was opened for reading")
        return <fx_counters *>self.address

    def add(self, uint64_t row, uint64_t field, uint64_t n=1):
        self.writable_word(row, field)
        cdef fx_counters *c = self.writer()
        fx_count(c, row, field, n, fx_next_serial(c))

    def set(self, uint64_t row, uint64_t field, uint64_t value):
        fx_store(self.writable_word(row, field), value << FX_STAMP_BITS)

    def get(self, uint64_t row, uint64_t field):
        return fx_load(self.word(row, field)) >> FX_STAMP_BITS

    def row(self, uint64_t row):
        cdef fx_word *first = self.word(row, 0)
        cdef uint64_t i
        return [fx_load(first + i) >> FX_STAMP_BITS for i in range(self.fields)]

    def observe(self, uint64_t row, uint64_t first_field, uint64_t value_us):
        cdef uint64_t field = first_field + fx_bucket(value_us)
        self.writable_word(row, field)
        fx_count(self.writer(), row, field, 1, 0)

    @property
    def interrupted(self):
        """Whether an operation was begun and not finished: its writer is in it, or was killed in it."""
        self.check()
        return bool(fx_redo_open(<fx_counters *>self.address))

    def recover(self, list rings not None, Producer outbox=None):
        cdef fx_counters *c = self.writer()
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


def bucket_limit_us(int bucket):
    """The largest latency, in microseconds, that falls into a bucket of `Counters.observe`."""
    if not 0 <= bucket < FX_BUCKETS:
        raise IndexError(f"no bucket {bucket} among {FX_BUCKETS}")
    return fx_bucket_limit(bucket)


@cython.final
cdef class Words(Matrix):
    def __init__(self, str path not None, uint64_t rows=0, uint64_t fields=0, *, bint writable=True):
        self.open(path, FX_WORDS_MAGIC, rows, fields, writable)

    def load(self, uint64_t row, uint64_t field):
        return fx_load(self.word(row, field))

    def store(self, uint64_t row, uint64_t field, uint64_t value):
        fx_store(self.writable_word(row, field), value)

    def swap(self, uint64_t row, uint64_t field, uint64_t expected, uint64_t value):
        return fx_swap(self.writable_word(row, field), expected, value)

    def add(self, uint64_t row, uint64_t field, int64_t n):
        return fx_add(self.writable_word(row, field), <uint64_t>n)


def reset_words(str path not None, uint64_t rows, uint64_t fields):
    """Makes all words 0, in the file that is there, whatever it holds."""
    length = FX_PAGE + <object>rows * fields * 8
    fd = open_own(path, os.O_RDWR)
    try:
        os.truncate(fd, length)
        os.posix_fallocate(fd, 0, length)
        os.pwrite(fd, matrix_header(FX_WORDS_MAGIC, rows, fields).ljust(length, b"\0"), 0)
    finally:
        os.close(fd)


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
    cdef uint64_t slot_count = slots_for(queue_size)
    capacity = (capacity + 7) & ~<uint64_t>7
    create_file(path, fx_ring_bytes(slot_count, capacity),
                ring_header(capacity, slot_count, queue_size, boot_id))


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
        for queue, data in ((queue_size, (capacity + 7) & ~<uint64_t>7), (found_queue, found_capacity)):
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


cdef void *page_wiped_on_fork() except NULL:
    """A page of zeros, which a child of fork() finds zeroed again."""
    cdef void *page = mmap_(NULL, FX_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if page == MAP_FAILED:
        raise MemoryError
    madvise(page, FX_PAGE, WIPEONFORK)
    return page


@cython.final
cdef class Producer(Mapping):
    cdef fx_producer p
    cdef char *alive
    cdef uint64_t queued_at_most

    def __init__(self, str path not None, *, bint drop_oldest=False, int bell=-1, bint sync=False):
        self.attach(path, True)
        fx_producer_open(&self.p, sound_ring(self), drop_oldest, bell)
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


# ---------------------------------------------------------------- events

cdef object UNSET = _UNSET  # a local name: `value is UNSET` is one comparison


cdef inline uint64_t rotated(uint64_t word, int by) noexcept:
    return word << by | word >> (64 - by)


cdef inline void to_hex(uint8_t *text, uint64_t word, int digits) noexcept:
    cdef const char *hexadecimal = b"0123456789abcdef"
    cdef int i
    for i in range(digits):
        text[i] = hexadecimal[word >> 4 * i & 15]


@cython.final
cdef class Ids:
    cdef uint64_t *state    # of xoshiro256++; all zero in a child of fork(), as no state of it is

    def __cinit__(self):
        self.state = <uint64_t *>page_wiped_on_fork()

    def __dealloc__(self):
        if self.state != NULL:
            munmap(self.state, FX_PAGE)

    cdef int seed(self) except -1:
        while not (self.state[0] | self.state[1] | self.state[2] | self.state[3]):
            memcpy(self.state, PyBytes_AS_STRING(os.urandom(32)), 32)
        return 0

    cdef uint64_t draw(self) noexcept:
        """64 bits of xoshiro256++ 1.0 (Blackman, Vigna: prng.di.unimi.it)."""
        cdef uint64_t *s = self.state
        cdef uint64_t result = rotated(s[0] + s[3], 23) + s[0], t = s[1] << 17
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], 45)
        return result

    def gateway(self):
        cdef str id = PyUnicode_New(24, 127)
        cdef uint8_t *text = PyUnicode_1BYTE_DATA(id)
        self.seed()
        memcpy(text, b"evt_", 4)
        to_hex(text + 4, self.draw(), 16)
        to_hex(text + 20, self.draw(), 4)
        return id

    def broker(self):
        cdef str id = PyUnicode_New(36, 127)
        cdef uint8_t *text = PyUnicode_1BYTE_DATA(id)
        self.seed()
        cdef uint64_t high = self.draw(), low = self.draw()
        to_hex(text, high, 8)
        to_hex(text + 9, high >> 32, 4)
        to_hex(text + 14, high >> 48, 4)
        to_hex(text + 19, low, 4)
        to_hex(text + 24, low >> 16, 12)
        text[8] = text[13] = text[18] = text[23] = b"-"
        text[14] = b"4"
        text[19] = b"89ab"[low & 3]
        return id


cdef bint plain_dict(dict data, int levels) except -1:
    if levels == 0:
        return False
    for key, value in data.items():
        if type(key) is not str or not (
                type(value) is str or type(value) is int or value is None or type(value) is bool
                or type(value) is float and isfinite(value) or plain(value, levels - 1)):
            return False
    return True


cdef bint plain(object value, int levels) except -1:
    if type(value) is dict:
        return plain_dict(value, levels)
    if type(value) is list or type(value) is tuple:
        if levels == 0:
            return False
        for item in value:
            if not plain(item, levels - 1):
                return False
        return True
    return (type(value) is str or type(value) is int or value is None or type(value) is bool
            or type(value) is float and isfinite(value))


def is_plain(object data):
    return type(data) is dict and plain_dict(data, MAX_DEPTH_)


def are_scalars(tuple values not None):
    for value in values:
        if not (type(value) is str or type(value) is int or type(value) is bool or value is UNSET
                or type(value) is bytes):
            return False
    return True


def nests_over(bytes text not None, Py_ssize_t levels):
    cdef const char *start = PyBytes_AS_STRING(text)
    cdef const char *at = start
    cdef const char *end = start + PyBytes_GET_SIZE(text)
    cdef Py_ssize_t depth = 0
    cdef bint quoted = False
    cdef char c
    with nogil:
        while at < end:
            c = at[0]
            if quoted:
                if c == b"\\":
                    at += 1  # what is escaped ends no text
                elif c == b'"':
                    quoted = False
            elif c == b'"':
                quoted = True
            elif c == b"[" or c == b"{":
                depth += 1
                if depth > levels:
                    break
            elif c == b"]" or c == b"}":
                depth -= 1
            at += 1
    return at - start if depth > levels else -1


cdef enum:
    # a template's record in pieces, those of the head before those of the body
    HEAD_ID, HEAD_TYPE, HEAD_TOPIC, HEAD_END, OPENING, BODY_ID, DATED, DATA, CLOSING
    PIECES


cdef inline fx_piece piece_of(bytes literal) noexcept:
    return fx_piece(PyBytes_AS_STRING(literal), PyBytes_GET_SIZE(literal))


cdef inline fx_piece utf8_of(str text) except *:
    cdef Py_ssize_t size
    cdef const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    return fx_piece(utf8, size)


@cython.final
cdef class Template:
    cdef list producers
    cdef Counters counters
    cdef bytes targets
    cdef bytes event_type       # between NULs, as it stands in the head
    cdef bytes opening, middle, ending
    cdef bint with_id           # in the body; it is in the head always
    cdef uint64_t max_body_bytes
    cdef Words words
    cdef uint64_t row, field, version
    cdef int64_t second         # of `dated`: middle, timestamp, ending
    cdef bytes dated

    def __init__(self, list producers not None, Counters counters not None, bytes targets not None,
                 str event_type not None, bytes opening, bytes middle not None,
                 bytes ending not None, *, uint64_t max_body_bytes, Words words not None,
                 uint64_t row, uint64_t field, uint64_t version):
        for producer in producers:
            (<Producer?>producer).check()
        if not producers:
            raise ValueError("a template needs a ring to put into")
        targets_in(targets)
        words.word(row, field)
        self.producers, self.counters, self.targets = list(producers), counters, targets
        self.event_type = f"\0{event_type}\0".encode()
        self.with_id = opening is not None
        self.opening, self.middle, self.ending = opening or b"", middle, ending
        self.max_body_bytes = max_body_bytes
        self.words, self.row, self.field, self.version = words, row, field, version
        self.second = -1

    def date(self, int64_t second, str timestamp not None):
        self.dated, self.second = self.middle + timestamp.encode() + self.ending, second

    def put(self, str id not None, bytes data not None, str topic=None):
        cdef fx_piece pieces[PIECES]
        cdef uint64_t head_length = 0, body_length = 0, now_ns = fx_realtime_ns()
        cdef Py_ssize_t index = 0
        cdef int i
        cdef Producer producer
        if len(self.producers) > 1:
            index = index_of_least(self.producers)
        producer = <Producer>self.producers[index]
        if producer.address == NULL or self.words.address == NULL:
            return STALE_  # closed
        if fx_load(self.words.word(self.row, self.field)) != self.version:
            return STALE_
        if not producer.alive[0]:
            return FX_FORKED
        if <int64_t>(now_ns // 1000000000) != self.second:
            return EXPIRED_
        pieces[HEAD_ID] = utf8_of(id)
        pieces[HEAD_TYPE] = piece_of(self.event_type)
        pieces[HEAD_TOPIC] = fx_piece(b"", 0) if topic is None else utf8_of(topic)
        pieces[HEAD_END] = fx_piece(b"\0", 1)
        pieces[OPENING] = piece_of(self.opening)
        pieces[BODY_ID] = pieces[HEAD_ID] if self.with_id else fx_piece(b"", 0)
        pieces[DATED] = piece_of(self.dated)
        pieces[DATA] = piece_of(data)
        pieces[CLOSING] = fx_piece(b"}", 1)
        for i in range(OPENING):
            head_length += pieces[i].length
        for i in range(OPENING, PIECES):
            body_length += pieces[i].length
        if body_length > self.max_body_bytes:
            return FX_TOO_LARGE
        return fx_put_pieces(&producer.p, PyBytes_AS_STRING(self.targets),
                             <uint32_t>(PyBytes_GET_SIZE(self.targets) >> 2), pieces, PIECES,
                             head_length, now_ns, self.counters.writer(), COUNTED, DROPPED)


@cython.final
cdef class Delivery:
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
    cdef Delivery delivery
    cdef fx_counters *c = counters.writer()
    for item in deliveries:
        delivery = <Delivery?>item
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
        cdef Delivery delivery
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
                    delivery = Delivery.__new__(Delivery)
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

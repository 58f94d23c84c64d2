# cython: auto_pickle=False, autotestdict=False
"""What processes share in memory-mapped files, beside rings: counters and words.

Layout and crash notes: counters.h. What each call does and raises: shared.pyi.
"""

cimport cython

import errno
import os
import stat

from libc.stdint cimport int64_t, uint32_t, uint64_t

HISTOGRAM_BUCKETS = FX_BUCKETS

cdef enum:
    LAST_LAYOUT = 99    # a higher number is none that we will ever give
    WIPEONFORK = 18     # MADV_WIPEONFORK, Linux 4.14


class LayoutMismatch(Exception):
    """The file is not one of ours, is truncated or damaged, or has another layout version."""


class OtherVersion(LayoutMismatch):
    """The file is whole, as far as can be seen, and of another layout version."""


def is_own(found not None, folder not None):
    """Return whether a file is this user's, or as far as root looks at it, its folder's owner's."""
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


def matrix_bytes(uint64_t rows, uint64_t fields):
    return FX_PAGE + <object>rows * fields * 8


cdef bytes matrix_header(uint64_t magic, uint64_t rows, uint64_t fields):
    return (magic.to_bytes(8, "little") + FX_LAYOUT.to_bytes(8, "little")
            + rows.to_bytes(8, "little") + fields.to_bytes(8, "little"))


cdef class Matrix(Mapping):
    cdef int open(self, str path, uint64_t magic, uint64_t rows, uint64_t fields, bint writable) except -1:
        if writable and rows and fields and not os.path.exists(path):
            create_file(path, matrix_bytes(rows, fields), matrix_header(magic, rows, fields))
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
        """True if an operation was begun and not finished: its writer is in it, or was killed in it."""
        self.check()
        return bool(fx_redo_open(<fx_counters *>self.address))


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
    length = matrix_bytes(rows, fields)
    fd = open_own(path, os.O_RDWR)
    try:
        os.truncate(fd, length)
        os.posix_fallocate(fd, 0, length)
        os.pwrite(fd, matrix_header(FX_WORDS_MAGIC, rows, fields).ljust(length, b"\0"), 0)
    finally:
        os.close(fd)


cdef void *page_wiped_on_fork() except NULL:
    """A page of zeros, which a child of fork() finds zeroed again."""
    cdef void *page = mmap_(NULL, FX_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if page == MAP_FAILED:
        raise MemoryError
    madvise(page, FX_PAGE, WIPEONFORK)
    return page

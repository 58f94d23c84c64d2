"""What the other compiled modules use of `shared`: the C of counters.h, and the mapped classes."""

cimport cython

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "<sys/mman.h>" nogil:
    void *mmap_ "mmap"(void *, size_t, int, int, int, long)
    int munmap(void *, size_t)
    int madvise(void *, size_t, int)
    const int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED

cdef extern from "counters.h" nogil:
    ctypedef struct fx_word:
        pass
    ctypedef struct fx_counters:
        uint64_t magic, rows, fields, serial, token
        uint32_t layout
    const uint64_t FX_COUNTERS_MAGIC, FX_WORDS_MAGIC
    const uint32_t FX_LAYOUT, FX_PAGE
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
    int fx_bucket(uint64_t)
    uint64_t fx_bucket_limit(int)


cdef class Mapping:
    cdef readonly str path
    cdef void *address
    cdef size_t length
    cdef int fd
    cdef int sync_failed
    cdef bint writable
    cdef int attach(self, str path, bint writable) except -1
    cpdef close(self)
    @cython.final
    cdef inline int check(self) except -1:
        if self.address == NULL:
            raise ValueError(f"{self.path} is closed")
        return 0


cdef class Matrix(Mapping):
    cdef readonly uint64_t rows
    cdef readonly uint64_t fields
    cdef int open(self, str path, uint64_t magic, uint64_t rows, uint64_t fields, bint writable) except -1
    cdef fx_word *word(self, uint64_t row, uint64_t field) except NULL
    cdef fx_word *writable_word(self, uint64_t row, uint64_t field) except NULL


@cython.final
cdef class Counters(Matrix):
    cdef inline fx_counters *writer(self) except NULL:
        self.check()
        if not self.writable:
            raise ValueError(f"{self.path} was opened for reading")
        return <fx_counters *>self.address


@cython.final
cdef class Words(Matrix):
    pass


cdef int check_version(str path, uint64_t magic, uint64_t expected, uint32_t layout) except -1
cdef void *page_wiped_on_fork() except NULL

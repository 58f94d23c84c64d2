"""What `event` uses of `ring`: the C of ring.h, and the writing end."""

cimport cython

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .shared cimport Mapping, fx_counters, fx_word

cdef extern from "ring.h" nogil:
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
    const uint64_t FX_RING_MAGIC
    const uint32_t FX_MAX_TARGETS
    const uint64_t FX_MAX_QUEUE
    const int FX_ACCEPTED, FX_FULL, FX_FORKED, FX_TOO_LARGE, FX_UNSYNCED
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


cdef enum:
    COUNTED = 0    # where a publisher's counters hold what was accepted ...
    DROPPED = 1    # ... and what drop policy `oldest` reclaimed


@cython.final
cdef class Producer(Mapping):
    cdef fx_producer p
    cdef char *alive
    cdef uint64_t queued_at_most


cdef uint32_t targets_in(bytes targets) except 0
cdef Py_ssize_t index_of_least(list producers) except -1

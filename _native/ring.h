/* The ring between two processes.
 *
 * RING FILE
 *
 *     0     identity          magic, layout, geometry, uid, boot id       written once
 *     128   producer's line   tail                                        producer writes
 *     192   consumer's line   cursor, asleep                              consumer writes
 *     256   head's line       head                                        both, compare-and-swap
 *     4096  slots             slot_count x { position, state }            16 bytes each
 *           data              capacity bytes of records, 8-byte aligned
 *
 * A record has a sequence number: the first is 0, the next 1, for ever. Record s is described by
 * slots[s % slot_count]: `position` is where its bytes begin (a byte count that never wraps; the
 * offset is position % capacity; a record never straddles the end), and `state` is
 *
 *     63            34 33    32 31                    0
 *     | tag = s mod 2^30 | status | unsettled targets  |
 *
 * one bit for each target (endpoint) that is not settled. The tag makes a late compare-and-swap on a
 * slot that was used again fail. status is WAITING, TAKEN (a copy is in the consumer's hands) or
 * DROPPED (the producer reclaimed it under drop policy `oldest`).
 *
 *     head <= tail,   cursor <= tail,   tail - head <= slot_count
 *
 * Records [head, tail) hold bytes that must not be overwritten. A record is finished when no target
 * is unsettled; head moves over finished records only. The consumer has looked at all before cursor;
 * head passes cursor where the producer dropped what the consumer had not looked at.
 *
 * WHO DECIDES
 *
 * The slot's state is the one place where two processes compete: the consumer takes a record by
 * WAITING -> TAKEN, the producer drops one by WAITING -> DROPPED, and the one that wins the
 * compare-and-swap owns it. A TAKEN record is never reclaimed: an event in a worker's hands stays in
 * the file until it is settled, whatever the drop policy.
 *
 * COUNTING
 *
 * An operation that moves a record and a counter together is written down in its writer's counters file
 * first, and repeated from there by the one that follows a killed writer: see counters.h.
 *
 * Every FX_STEP below is a moment to die at; tests/native/test_ring_steps.py has the table of what
 * is left after each.
 *
 * ORDER
 *
 * tail: release by the producer, acquire by the consumer: the record's bytes and slot are visible
 * before it is. head: release after the last settle, acquire by the producer before it overwrites.
 * asleep: the consumer stores it, fences, reads tail; the producer stores tail, fences, reads asleep;
 * at least one sees the other (Dekker), so no wake-up is missed while both live.
 *
 * DAMAGE
 *
 * No byte outside of the file is read or written on the word of one inside. A record whose header,
 * slot or checksum is wrong is settled unseen by the consumer, so that it does not block the ring.
 */
#ifndef FLUXHOOK_RING_H
#define FLUXHOOK_RING_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"
#include "crc32c.h"

#define FX_RING_MAGIC 0x31474E4952584C46ull     /* "FLXRING1" */
#define FX_MAX_TARGETS 32u
#define FX_MAX_QUEUE (1ull << 28) /* twice that, the slots, is half of the tags */
#define FX_NOWHERE UINT64_MAX

enum { FX_WAITING = 0, FX_TAKEN = 1, FX_DROPPED = 2 };
enum { FX_ACCEPTED = 0, FX_FULL = 1, FX_FORKED = 2, FX_TOO_LARGE = 3, FX_UNSYNCED = 6 };

typedef struct {
    uint64_t position;
    fx_word state;
} fx_slot;

typedef struct {
    uint32_t crc;    /* of all that follows it, the payload included */
    uint32_t length; /* of header, targets, head and body; not padded */
    uint64_t seq;
    uint64_t stamp_ns; /* CLOCK_REALTIME when it was put */
    uint32_t target_count, head_length;
} fx_record;

typedef struct {
    uint64_t magic;
    uint32_t layout, unused;
    uint64_t capacity, slot_count, queue_size, uid;
    uint8_t boot_id[16];
    char pad0[64];
    fx_word tail;
    char pad1[56];
    fx_word cursor;
    fx_word epoch; /* how often a consumer has started over */
    _Atomic uint32_t asleep;
    char pad2[44];
    fx_word head;
    fx_word held; /* targets in the consumer's hands: what producers choose a ring by, no more */
    char pad3[48];
} fx_ring;

_Static_assert(offsetof(fx_ring, tail) == 128, "producer's line");
_Static_assert(offsetof(fx_ring, cursor) == 192, "consumer's line");
_Static_assert(offsetof(fx_ring, head) == 256, "head's line");
_Static_assert(sizeof(fx_record) == 32 && sizeof(fx_slot) == 16, "layout");

#define FX_TAG(seq) ((uint64_t)(seq) & ((1ull << 30) - 1))
#define FX_STATE(seq, status, bits) \
    ((FX_TAG(seq) << 34) | ((uint64_t)(status) << 32) | (uint64_t)(uint32_t)(bits))
#define FX_STATUS(state) (((state) >> 32) & 3u)
#define FX_BITS(state) ((uint32_t)(state))
#define FX_OWNS(state, seq) (((state) >> 34) == FX_TAG(seq))
#define FX_ALIGN(n) (((uint64_t)(n) + 7) & ~7ull)

static inline uint64_t fx_ring_bytes(uint64_t slot_count, uint64_t capacity) {
    return FX_PAGE + slot_count * sizeof(fx_slot) + capacity;
}
static inline fx_slot *fx_slot_of(fx_ring *r, uint64_t seq) {
    return (fx_slot *)((char *)r + FX_PAGE) + (seq & (r->slot_count - 1));
}
static inline uint8_t *fx_data(fx_ring *r) {
    return (uint8_t *)r + FX_PAGE + r->slot_count * sizeof(fx_slot);
}
static inline uint32_t fx_all_bits(uint32_t n) { return n >= 32 ? ~0u : (1u << n) - 1; }

/* Copies the header of the record that a slot describes and returns where that is, or NULL if it does
 * not fit in there. Whatever the bytes are, and whatever writes over them meanwhile, the lengths in the
 * copy lie within the data. */
static inline const uint8_t *fx_header(fx_ring *r, fx_slot *slot, fx_record *copy) {
    uint64_t offset = slot->position % r->capacity;
    if (offset % 8 || offset + sizeof(fx_record) > r->capacity) return NULL;
    const uint8_t *at = fx_data(r) + offset;
    *copy = *(const volatile fx_record *)at;
    if (copy->length > r->capacity - offset || copy->target_count > FX_MAX_TARGETS) return NULL;
    if (sizeof(fx_record) + 4ull * copy->target_count + copy->head_length > copy->length)
        return NULL;
    return at;
}
static inline const uint8_t *fx_record_of(fx_ring *r, uint64_t seq, fx_record *copy) {
    const uint8_t *at = fx_header(r, fx_slot_of(r, seq), copy);
    return at && copy->seq == seq ? at : NULL;
}
static inline const uint32_t *fx_targets(const uint8_t *at) {
    return (const uint32_t *)(at + sizeof(fx_record));
}
static inline uint32_t fx_record_crc(const uint8_t *at, uint32_t length) {
    return fx_crc32c(at + sizeof(uint32_t), length - sizeof(uint32_t));
}

/* Moves head over finished records. Called by both ends: the swap makes one of them win. */
static inline void fx_advance(fx_ring *r) {
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    for (;;) {
        if (head >= atomic_load_explicit(&r->tail, memory_order_acquire)) return;
        uint64_t state = atomic_load_explicit(&fx_slot_of(r, head)->state, memory_order_acquire);
        if (!FX_OWNS(state, head)) { /* the other end moved it meanwhile */
            uint64_t now = atomic_load_explicit(&r->head, memory_order_acquire);
            if (now == head) return;
            head = now;
            continue;
        }
        if (FX_BITS(state) != 0) return;
        if (atomic_compare_exchange_strong_explicit(&r->head, &head, head + 1,
                                                    memory_order_acq_rel, memory_order_acquire)) {
            FX_STEP("advanced");
            head++;
        }
    }
}

/* Clears target bits of a record; true if this call cleared them. */
static inline int fx_clear(fx_ring *r, uint64_t seq, uint32_t mask) {
    fx_slot *slot = fx_slot_of(r, seq);
    uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
    while (FX_OWNS(state, seq) && (FX_BITS(state) & mask)) {
        if (atomic_compare_exchange_weak_explicit(&slot->state, &state,
                                                  state & ~(uint64_t)mask,
                                                  memory_order_acq_rel, memory_order_acquire))
            return 1;
    }
    return 0;
}

static inline int fx_is_clear(fx_ring *r, uint64_t seq, uint32_t mask) {
    uint64_t state = atomic_load_explicit(&fx_slot_of(r, seq)->state, memory_order_acquire);
    return !FX_OWNS(state, seq) || (FX_BITS(state) & mask) == 0;
}

static inline void fx_count_targets(fx_counters *c, const uint32_t *targets, uint32_t n,
                                    uint32_t mask, uint64_t field, uint64_t serial) {
    for (uint32_t i = 0; i < n; i++) {
        if (mask >> i & 1) fx_count(c, targets[i], field, 1, serial);
        FX_STEP("counted");
    }
}

static inline void fx_recount_targets(fx_counters *c, fx_ring *r, uint32_t mask) {
    fx_record rec;
    const uint8_t *at = fx_record_of(r, c->seq, &rec);
    for (uint32_t i = 0; at && i < rec.target_count; i++)
        if (mask >> i & 1) fx_recount(c, fx_targets(at)[i], c->field, c->token);
}

/* Reclaims record `seq` if it waits; true if it did. */
static inline int fx_drop(fx_ring *r, uint64_t seq, fx_counters *c, uint64_t field) {
    fx_slot *slot = fx_slot_of(r, seq);
    fx_record rec;
    const uint8_t *at;
    uint64_t serial = 0, state = atomic_load_explicit(&slot->state, memory_order_acquire);
    uint32_t bits = FX_BITS(state);
    if (!FX_OWNS(state, seq) || FX_STATUS(state) != FX_WAITING || bits == 0) return 0;
    if (c) {
        serial = fx_next_serial(c);
        fx_redo(c, FX_OP_DROP, r->uid, seq, 0, 0, field, serial);
    }
    FX_STEP("drop begun");
    int won = atomic_compare_exchange_strong_explicit(&slot->state, &state,
                                                      FX_STATE(seq, FX_DROPPED, bits),
                                                      memory_order_acq_rel, memory_order_acquire);
    if (won) {
        FX_STEP("drop committed");
        if (c && (at = fx_record_of(r, seq, &rec)))
            fx_count_targets(c, fx_targets(at), rec.target_count, bits, field, serial);
        fx_clear(r, seq, ~0u);
        FX_STEP("drop cleared");
    }
    if (c) fx_redo_done(c);
    FX_STEP("drop done");
    if (won) fx_advance(r);
    return won;
}

/* Finishes the operation that a killed writer of `c` had begun on ring `r`. True if it was this
 * ring's. `outbox` is the ring that a HAND_OVER published to. */
static inline int fx_recover(fx_counters *c, fx_ring *r, fx_ring *outbox) {
    uint64_t op = atomic_load_explicit(&c->op, memory_order_acquire);
    if (op == FX_OP_NONE || c->ring_uid != r->uid) return 0;
    uint64_t state = atomic_load_explicit(&fx_slot_of(r, c->seq)->state, memory_order_acquire);
    switch (op) {
    case FX_OP_PUT:
        if (atomic_load_explicit(&r->tail, memory_order_acquire) > c->seq)
            fx_recount_targets(c, r, ~0u);
        break;
    case FX_OP_DROP:
        if (FX_OWNS(state, c->seq) && FX_STATUS(state) == FX_DROPPED && FX_BITS(state)) {
            fx_recount_targets(c, r, FX_BITS(state));
            fx_clear(r, c->seq, ~0u);
        }
        break;
    case FX_OP_SETTLE:
        if (fx_is_clear(r, c->seq, (uint32_t)c->mask))
            fx_recount(c, c->row, c->field, c->token);
        break;
    case FX_OP_HAND_OVER:
        if (outbox && atomic_load_explicit(&outbox->tail, memory_order_acquire) > c->token)
            fx_clear(r, c->seq, (uint32_t)c->mask);
        break;
    }
    FX_STEP("recovered");
    fx_redo_done(c);
    fx_advance(r);
    return 1;
}

/* The consumer starts over: what a killed predecessor had taken waits again. */
static inline void fx_rewind(fx_ring *r) {
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    for (uint64_t seq = head; seq < tail; seq++) {
        fx_slot *slot = fx_slot_of(r, seq);
        uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
        while (FX_OWNS(state, seq) && FX_STATUS(state) == FX_TAKEN &&
               !atomic_compare_exchange_weak_explicit(
                   &slot->state, &state, FX_STATE(seq, FX_WAITING, FX_BITS(state)),
                   memory_order_acq_rel, memory_order_acquire)) {
        }
        FX_STEP("rewinding");
    }
    atomic_store_explicit(&r->cursor, head, memory_order_release);
    atomic_store_explicit(&r->held, 0, memory_order_relaxed);
    FX_STEP("rewound");
    atomic_fetch_add_explicit(&r->epoch, 1, memory_order_release);
    atomic_store_explicit(&r->asleep, 0, memory_order_relaxed);
    fx_advance(r);
}

/* Whether slot i describes a whole record of this ring; the bytes may be of any age. */
static inline int fx_slot_valid(fx_ring *r, uint64_t i, uint64_t *seq) {
    fx_slot *slot = (fx_slot *)((char *)r + FX_PAGE) + i;
    fx_record rec;
    const uint8_t *at = fx_header(r, slot, &rec);
    if (!at || (rec.seq & (r->slot_count - 1)) != i) return 0;
    if (!FX_OWNS(atomic_load(&slot->state), rec.seq)) return 0;
    if (fx_record_crc(at, rec.length) != rec.crc) return 0;
    *seq = rec.seq;
    return 1;
}

/* Whether head, cursor and tail can be those of a ring, also while both ends are at work: they only
 * grow (but for the cursor of a consumer that starts over). */
static inline int fx_positions_hold(fx_ring *r) {
    uint64_t head = fx_load(&r->head), cursor = fx_load(&r->cursor), tail = fx_load(&r->tail);
    uint64_t later = fx_load(&r->head);
    return head <= tail && cursor <= tail && (later >= tail || tail - later <= r->slot_count);
}

/* Bytes that the records [head, tail) hold; a guess while the producer drops. */
static inline uint64_t fx_ring_used(fx_ring *r, uint64_t head, uint64_t tail) {
    fx_record rec;
    uint64_t length = fx_record_of(r, tail - 1, &rec) ? FX_ALIGN(rec.length) : 0;
    return fx_slot_of(r, tail - 1)->position + length - fx_slot_of(r, head)->position;
}
static inline uint32_t fx_unsettled(fx_ring *r, uint64_t seq) {
    uint64_t state = atomic_load_explicit(&fx_slot_of(r, seq)->state, memory_order_acquire);
    return FX_OWNS(state, seq) ? FX_BITS(state) : 0;
}

/* Where the byte after the newest record is, or FX_NOWHERE if that record is damaged. The slot of a
 * consumed record keeps its position. */
static inline uint64_t fx_data_end(fx_ring *r, uint64_t tail) {
    fx_record rec;
    if (tail == 0) return 0;
    const uint8_t *at = fx_record_of(r, tail - 1, &rec);
    if (!at || fx_record_crc(at, rec.length) != rec.crc) return FX_NOWHERE;
    return fx_slot_of(r, tail - 1)->position + FX_ALIGN(rec.length);
}

/* After a power loss pages of the file may be of different ages: believe no position, only records
 * whose checksum holds, and put head and tail around the unsettled ones. Holes count as finished.
 * Returns the number of records kept. */
static inline uint64_t fx_repair(fx_ring *r) {
    uint64_t low = UINT64_MAX, high = 0, seq, kept = 0;
    for (uint64_t i = 0; i < r->slot_count; i++) {
        fx_slot *slot = (fx_slot *)((char *)r + FX_PAGE) + i;
        uint64_t state = atomic_load(&slot->state);
        if (FX_BITS(state) == 0 || FX_STATUS(state) == FX_DROPPED) continue;
        if (!fx_slot_valid(r, i, &seq)) continue;
        if (seq < low) low = seq;
        if (seq + 1 > high) high = seq + 1;
    }
    /* records a whole lap apart cannot both be unsettled: keep the newest lap */
    if (high && high - low > r->slot_count) low = high - r->slot_count;
    if (!high) { /* nothing is owed; go on where no old number can be met again */
        uint64_t tail = atomic_load(&r->tail), head = atomic_load(&r->head);
        low = high = (tail > head ? tail : head) + r->slot_count;
    }
    for (uint64_t s = low; s < high; s++) {
        fx_slot *slot = fx_slot_of(r, s);
        uint64_t state = atomic_load(&slot->state);
        /* A drop that was under way is finished here: nobody else would. */
        if (FX_BITS(state) && FX_STATUS(state) != FX_DROPPED &&
            fx_slot_valid(r, s & (r->slot_count - 1), &seq) && seq == s) {
            atomic_store(&slot->state, FX_STATE(s, FX_WAITING, FX_BITS(state)));
            kept++;
        } else {
            atomic_store(&slot->state, FX_STATE(s, FX_DROPPED, 0));
            slot->position = 0;
        }
    }
    atomic_store(&r->head, low);
    atomic_store(&r->cursor, low);
    atomic_store(&r->tail, high);
    atomic_store(&r->asleep, 0);
    fx_advance(r);
    return kept;
}

/* Slots that describe a whole record, settled or not: the more there are, the surer is the geometry
 * that a header claims. */
static inline uint64_t fx_valid_slots(fx_ring *r) {
    uint64_t found = 0, seq;
    for (uint64_t i = 0; i < r->slot_count; i++) found += (uint64_t)fx_slot_valid(r, i, &seq);
    return found;
}

/* Whether a whole record with unsettled targets stands outside of [head, tail): then these positions
 * are wrong. At tail itself a producer may have been killed within its put. */
static inline int fx_strays(fx_ring *r) {
    uint64_t head = fx_load(&r->head), tail = fx_load(&r->tail), seq;
    for (uint64_t i = 0; i < r->slot_count; i++) {
        uint64_t state = fx_load(&((fx_slot *)((char *)r + FX_PAGE) + i)->state);
        if (FX_BITS(state) == 0 || FX_STATUS(state) == FX_DROPPED) continue;
        if (fx_slot_valid(r, i, &seq) && (seq < head || seq > tail)) return 1;
    }
    return 0;
}

/* Settles unseen, in the place of a consumer that is not there, each record that is damaged; returns
 * how many. The producer may be at work. */
static inline uint64_t fx_weed(fx_ring *r) {
    uint64_t found = 0, tail = fx_load(&r->tail);
    for (uint64_t seq = fx_load(&r->head); seq < tail; seq++) {
        fx_slot *slot = fx_slot_of(r, seq);
        fx_record rec;
        uint64_t state = fx_load(&slot->state);
        uint32_t bits = FX_BITS(state);
        if (!FX_OWNS(state, seq)) {
            if (fx_load(&r->head) > seq) continue; /* dropped, and the slot is another's now */
            fx_store(&slot->state, FX_STATE(seq, FX_DROPPED, 0));
            found++;
        } else if (bits && FX_STATUS(state) < FX_DROPPED) {
            const uint8_t *at = fx_record_of(r, seq, &rec);
            if (at && !(bits & ~fx_all_bits(rec.target_count)) &&
                fx_record_crc(at, rec.length) == rec.crc)
                continue;
            found += (uint64_t)fx_swap(&slot->state, state, FX_STATE(seq, FX_DROPPED, 0));
        }
    }
    fx_advance(r);
    return found;
}

/* Forgets all that is in the ring and goes on at `seq`. For a ring that nobody else has open. */
static inline void fx_go_on_at(fx_ring *r, uint64_t seq) {
    uint64_t tail = fx_load(&r->tail);
    for (uint64_t s = fx_load(&r->head); s < tail; s++) fx_clear(r, s, ~0u);
    fx_store(&r->tail, seq);
    fx_store(&r->cursor, seq);
    fx_store(&r->head, seq);
}

static inline uint64_t fx_realtime_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Wakes the consumer if it sleeps. A full doorbell already rings, so a failing write is no loss. */
static inline void fx_ring_doorbell(fx_ring *r, int doorbell) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&r->asleep, memory_order_relaxed) &&
        atomic_exchange_explicit(&r->asleep, 0, memory_order_relaxed) && doorbell >= 0) {
        FX_STEP("doorbell");
        ssize_t ignored = write(doorbell, "", 1);
        (void)ignored;
    }
}

/* The consumer announces that it sleeps; true if there is nothing to take, so that it may. */
static inline int fx_arm(fx_ring *r, uint64_t cursor) {
    atomic_store_explicit(&r->asleep, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&r->tail, memory_order_acquire) == cursor;
}
static inline void fx_disarm(fx_ring *r) {
    atomic_store_explicit(&r->asleep, 0, memory_order_relaxed);
}

typedef struct {
    fx_ring *ring;
    uint64_t tail;       /* the ring's, as long as nobody else has put anything */
    uint64_t end;        /* the byte after the newest record, or FX_NOWHERE */
    uint64_t dropped_to; /* nothing between cursor and it waits: this producer dropped it ... */
    uint64_t epoch;      /* ... as long as the consumer has not started over */
    int drop_oldest, doorbell;
    int sync_fd; /* the ring's file, where a hand-over is to be on the disk before it settles; or -1 */
    int sync_failed;
} fx_producer;

static inline void fx_producer_open(fx_producer *p, fx_ring *r, int drop_oldest, int doorbell) {
    fx_advance(r); /* a predecessor may have died between a drop and this */
    uint64_t tail = fx_load(&r->tail);
    *p = (fx_producer){r, tail, fx_data_end(r, tail), 0, fx_load(&r->epoch), drop_oldest, doorbell,
                       -1, 0};
}

/* The position for `need` bytes, or FX_NOWHERE if there is no room yet. After damage nobody knows
 * where the newest record ends; once the ring is empty any position will do. */
static inline uint64_t fx_place(fx_ring *r, uint64_t tail, uint64_t end, uint64_t need) {
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    if (end == FX_NOWHERE) {
        if (head != tail) return FX_NOWHERE;
        end = 0;
    }
    uint64_t offset = end % r->capacity;
    if (offset + need > r->capacity) end += r->capacity - offset;
    if (head == tail) return end;
    if (tail - head >= r->slot_count) return FX_NOWHERE;
    if (end + need - fx_slot_of(r, head)->position > r->capacity) return FX_NOWHERE;
    return end;
}

/* No record before it waits: each was looked at, dropped or finished. */
static inline uint64_t fx_first_waiting(fx_producer *p) {
    uint64_t epoch = atomic_load_explicit(&p->ring->epoch, memory_order_acquire);
    if (epoch != p->epoch) p->epoch = epoch, p->dropped_to = 0;
    uint64_t first = atomic_load_explicit(&p->ring->cursor, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&p->ring->head, memory_order_acquire);
    if (first < head) first = head;
    return first < p->dropped_to ? p->dropped_to : first;
}
static inline uint64_t fx_waiting(fx_producer *p) {
    uint64_t tail = atomic_load_explicit(&p->ring->tail, memory_order_relaxed);
    return tail - fx_first_waiting(p);
}
/* What the consumer has yet to do: records that wait, and targets in its hands. */
static inline uint64_t fx_backlog(fx_producer *p) {
    return fx_waiting(p) + atomic_load_explicit(&p->ring->held, memory_order_relaxed);
}

/* Whether one record more makes drop policy `oldest` drop one, as far as their number decides. */
static inline int fx_is_full(fx_producer *p) { return fx_waiting(p) >= p->ring->queue_size; }

/* When the oldest record that waits was put; 0 if none does, or it cannot be read. */
static inline uint64_t fx_oldest_ns(fx_producer *p) {
    fx_record rec;
    uint64_t seq = fx_first_waiting(p), tail = atomic_load_explicit(&p->ring->tail, memory_order_relaxed);
    return seq < tail && fx_record_of(p->ring, seq, &rec) ? rec.stamp_ns : 0;
}

/* Drops the oldest record that waits. There is none if the consumer holds them all and has not said
 * so yet, or died before it could. */
static inline void fx_drop_oldest(fx_producer *p, uint64_t tail, fx_counters *c, uint64_t field) {
    uint64_t seq = fx_first_waiting(p);
    while (seq < tail && !fx_drop(p->ring, seq, c, field)) seq++;
    p->dropped_to = seq < tail ? seq + 1 : tail;
}

/* Moves head by a record, since only that makes room for bytes: what waits there is dropped if `drop`
 * says so, and what a killed process left half dropped is finished. False if a worker holds it. */
static inline int fx_reclaim(fx_ring *r, uint64_t tail, int drop, fx_counters *c, uint64_t field) {
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    if (head == tail || (drop && fx_drop(r, head, c, field))) return 1;
    uint64_t state = atomic_load_explicit(&fx_slot_of(r, head)->state, memory_order_acquire);
    if (FX_OWNS(state, head) && FX_STATUS(state) >= FX_DROPPED) fx_clear(r, head, ~0u);
    fx_advance(r);
    return atomic_load_explicit(&r->head, memory_order_acquire) != head;
}

typedef struct {
    const void *at;
    uint64_t length;
} fx_piece;

/* Publishes one record for 1 to 32 targets, all different. Its head and then its body come in pieces;
 * the head is the first `head_length` bytes of them. `c` may be NULL for rings whose targets are not
 * counted. */
static inline int fx_put_pieces(fx_producer *p, const void *targets, uint32_t target_count,
                                const fx_piece *pieces, uint32_t piece_count,
                                uint64_t head_length, uint64_t stamp_ns, fx_counters *c,
                                uint64_t accepted_field, uint64_t dropped_field) {
    fx_ring *r = p->ring;
    uint64_t length = sizeof(fx_record) + 4ull * target_count;
    for (uint32_t i = 0; i < piece_count; i++) length += pieces[i].length;
    uint64_t need = FX_ALIGN(length), tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint64_t position, serial = 0;
    assert(1 <= target_count && target_count <= FX_MAX_TARGETS);
    if (need > r->capacity / 2 || length > UINT32_MAX) return FX_TOO_LARGE;
    if (tail != p->tail) p->tail = tail, p->end = fx_data_end(r, tail);
    for (;;) {
        position = fx_place(r, tail, p->end, need);
        if (position == FX_NOWHERE) {
            if (!fx_reclaim(r, tail, p->drop_oldest, c, dropped_field)) return FX_FULL;
        } else if (fx_waiting(p) < r->queue_size) {
            break;
        } else if (p->drop_oldest) {
            fx_drop_oldest(p, tail, c, dropped_field);
        } else {
            return FX_FULL;
        }
    }
    assert(position % 8 == 0 && position % r->capacity + need <= r->capacity);
    uint8_t *at = fx_data(r) + position % r->capacity;
    fx_record *rec = (fx_record *)at;
    rec->length = (uint32_t)length;
    rec->seq = tail;
    rec->stamp_ns = stamp_ns;
    rec->target_count = target_count;
    rec->head_length = (uint32_t)head_length;
    uint8_t *payload = at + sizeof(fx_record) + 4 * target_count;
    memcpy(at + sizeof(fx_record), targets, 4 * target_count);
    for (uint32_t i = 0; i < piece_count; i++) {
        memcpy(payload, pieces[i].at, pieces[i].length);
        payload += pieces[i].length;
    }
    rec->crc = fx_record_crc(at, rec->length);
    FX_STEP("put written");
    fx_slot *slot = fx_slot_of(r, tail);
    slot->position = position;
    atomic_store_explicit(&slot->state, FX_STATE(tail, FX_WAITING, fx_all_bits(target_count)),
                          memory_order_release);
    FX_STEP("put described");
    if (c) {
        serial = fx_next_serial(c);
        fx_redo(c, FX_OP_PUT, r->uid, tail, 0, 0, accepted_field, serial);
    }
    FX_STEP("put begun");
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    FX_STEP("put committed");
    p->tail = tail + 1;
    p->end = position + need;
    if (c) {
        fx_count_targets(c, fx_targets(at), target_count, ~0u, accepted_field, serial);
        fx_redo_done(c);
    }
    FX_STEP("put done");
    fx_ring_doorbell(r, p->doorbell);
    return FX_ACCEPTED;
}

/* The same for a head and a body, at this moment. */
static inline int fx_put(fx_producer *p, const void *targets, uint32_t target_count,
                         const void *head, uint64_t head_length, const void *body,
                         uint64_t body_length, fx_counters *c, uint64_t accepted_field,
                         uint64_t dropped_field) {
    const fx_piece pieces[] = {{head, head_length}, {body, body_length}};
    return fx_put_pieces(p, targets, target_count, pieces, 2, head_length, fx_realtime_ns(), c,
                         accepted_field, dropped_field);
}

typedef struct {
    uint64_t seq;
    uint32_t bits; /* unsettled targets */
    fx_record header;
    const uint32_t *targets;
    const uint8_t *payload; /* the head, then the body */
    uint64_t body_length;
} fx_taken;

/* Only the consumer writes the word. */
static inline void fx_hold(fx_ring *r, int count) {
    uint64_t held = atomic_load_explicit(&r->held, memory_order_relaxed);
    atomic_store_explicit(&r->held, held + (uint64_t)(int64_t)count, memory_order_relaxed);
}

/* Takes the next waiting record: 1 taken, 0 none, -1 found one damaged and settled it unseen. Its
 * bytes stay valid until it is settled. */
static inline int fx_take(fx_ring *r, uint64_t *cursor, fx_taken *taken) {
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    while (*cursor < tail) {
        uint64_t seq = (*cursor)++;
        fx_slot *slot = fx_slot_of(r, seq);
        uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
        if (!FX_OWNS(state, seq)) {
            uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
            if (head > seq) { /* dropped, and the slot is another's now */
                *cursor = head;
                continue;
            }
            fx_store(&slot->state, FX_STATE(seq, FX_DROPPED, 0));
            fx_advance(r);
            return -1;
        }
        uint32_t bits = FX_BITS(state);
        if (FX_STATUS(state) != FX_WAITING || bits == 0) continue;
        if (!atomic_compare_exchange_strong_explicit(&slot->state, &state,
                                                     FX_STATE(seq, FX_TAKEN, bits),
                                                     memory_order_acq_rel, memory_order_acquire))
            continue; /* dropped */
        FX_STEP("taken");
        fx_record *rec = &taken->header;
        const uint8_t *at = fx_record_of(r, seq, rec);
        if (!at || bits & ~fx_all_bits(rec->target_count) ||
            fx_record_crc(at, rec->length) != rec->crc) {
            fx_clear(r, seq, ~0u);
            fx_advance(r);
            return -1;
        }
        fx_hold(r, __builtin_popcount(bits));
        taken->seq = seq;
        taken->bits = bits;
        taken->targets = fx_targets(at);
        taken->payload = at + sizeof(fx_record) + 4 * rec->target_count;
        taken->body_length = rec->length - (taken->payload - at) - rec->head_length;
        return 1;
    }
    return 0;
}

/* Settles one target of a record in the consumer's hands; false if it was settled before. */
static inline int fx_settle(fx_ring *r, uint64_t seq, uint32_t mask, fx_counters *c, uint64_t row,
                            uint64_t field) {
    uint64_t serial = 0;
    if (c) {
        serial = fx_next_serial(c);
        fx_redo(c, FX_OP_SETTLE, r->uid, seq, mask, row, field, serial);
    }
    FX_STEP("settle begun");
    int done = fx_clear(r, seq, mask);
    FX_STEP("settle committed");
    if (c) {
        if (done) fx_count(c, row, field, 1, serial);
        FX_STEP("settle counted");
        fx_redo_done(c);
    }
    FX_STEP("settle done");
    fx_hold(r, -1);
    fx_advance(r);
    return done;
}

/* The end of a hand-over whose report is in the outbox: settles the target in the consumer's hands.
 * UNSYNCED: the disk failed, and nothing was settled; to be called again. */
static inline int fx_handed_over(fx_ring *r, uint64_t seq, uint32_t mask, fx_producer *outbox) {
    fx_ring *out = outbox->ring;
    /* A power loss must not find the bit cleared on the disk and the report not yet there. */
    if (outbox->sync_fd >= 0 && fx_sync(out, fx_ring_bytes(out->slot_count, out->capacity),
                                        outbox->sync_fd, &outbox->sync_failed))
        return FX_UNSYNCED;
    fx_clear(r, seq, mask);
    fx_hold(r, -1);
    FX_STEP("hand-over cleared");
    return FX_ACCEPTED;
}

/* Puts a record for one target into the outbox, and settles with it one target of the record in the
 * consumer's hands. `r` is NULL where that has left its ring already. */
static inline int fx_hand_over(fx_ring *r, uint64_t seq, uint32_t mask, fx_producer *outbox,
                               uint32_t target, const void *head, uint64_t head_length,
                               const void *body, uint64_t body_length, fx_counters *c) {
    if (r) fx_redo(c, FX_OP_HAND_OVER, r->uid, seq, mask, 0, 0, fx_load(&outbox->ring->tail));
    FX_STEP("hand-over begun");
    int result = fx_put(outbox, &target, 1, head, head_length, body, body_length, NULL, 0, 0);
    if (!r) return result;
    FX_STEP("hand-over committed");
    if (result == FX_ACCEPTED) result = fx_handed_over(r, seq, mask, outbox);
    fx_redo_done(c);
    FX_STEP("hand-over done");
    fx_advance(r);
    return result;
}

#endif

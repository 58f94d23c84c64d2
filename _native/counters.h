/* The shared memory of Fluxhook that is no ring: counters with one writer, and words with many.
 *
 * COUNTERS FILE
 *
 *     0    identity    magic, layout, rows, fields
 *     64   redo        what its writer is about to do
 *     4096 words       rows x fields, each  | count : 44 | stamp : 20 |
 *
 * One process writes a counters file. An operation that moves a record and a counter together writes
 * its redo entry first, then commits (the store named below), then counts. A count is one store of
 * count and stamp, the stamp being the low bits of the operation's serial number, so that repeating
 * it has no effect. The process that takes the file over repeats what a killed writer had committed:
 *
 *     operation   commits by                                  then
 *     PUT         tail of the ring                            counts each target
 *     DROP        slot WAITING -> DROPPED                     counts each target, clears the bits
 *     SETTLE      clearing the target's bit                   counts the target
 *     HAND_OVER   tail of the outbox ring                     clears the target's bit
 *
 * (Where the disk fails under a HAND_OVER that is to be synced, the bit stays, and clearing it is tried
 * again. Who is killed meanwhile leaves the event in both rings: it is delivered twice.)
 *
 * Killed before the commit: it did not happen (a delivery in flight is repeated). Killed after: the
 * successor finishes it. So every target of every accepted record is counted in one place, once. (A
 * count would be missed if its word bore the same stamp already, that is, was last touched a multiple
 * of 2^20 operations ago, and the writer died within these few instructions.)
 *
 * The operations themselves: ring.h.
 */
#ifndef FLUXHOOK_COUNTERS_H
#define FLUXHOOK_COUNTERS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

/* A test build defines it: see tests/native/ring_steps.h. */
#ifdef FX_STEPS
#include FX_STEPS
#else
#define FX_STEP(name) ((void)0)
#endif
#ifndef FX_FDATASYNC
#define FX_FDATASYNC fdatasync
#endif

#define FX_COUNTERS_MAGIC 0x31544E4F43584C46ull /* "FLXCONT1" */
#define FX_WORDS_MAGIC 0x314452574F584C46ull    /* "FLXOWRD1" */
#define FX_LAYOUT 1u
#define FX_PAGE 4096u

enum { FX_OP_NONE = 0, FX_OP_PUT = 1, FX_OP_DROP = 2, FX_OP_SETTLE = 3, FX_OP_HAND_OVER = 4 };

typedef _Atomic uint64_t fx_word;

static inline uint64_t fx_load(fx_word *w) { return atomic_load_explicit(w, memory_order_acquire); }
static inline void fx_store(fx_word *w, uint64_t v) {
    atomic_store_explicit(w, v, memory_order_release);
}
static inline uint64_t fx_add(fx_word *w, uint64_t n) { return atomic_fetch_add(w, n) + n; }
static inline int fx_swap(fx_word *w, uint64_t expected, uint64_t v) {
    return atomic_compare_exchange_strong(w, &expected, v);
}

/* Writes a mapped file to the disk: 0, or the number of the error. `failed` remembers a failure: the
 * kernel may then take pages for clean that never reached the disk (fsync(2), ERRORS), and the next
 * fdatasync would succeed and mean nothing. So every page is made dirty again before it. */
static inline int fx_sync(void *at, uint64_t length, int fd, int *failed) {
    for (uint64_t i = 0; *failed && i < length; i += FX_PAGE) {
        fx_word *word = (fx_word *)((char *)at + i);
        uint64_t value;
        do value = fx_load(word);
        while (!fx_swap(word, value, value));
    }
    *failed = FX_FDATASYNC(fd) != 0;
    return *failed ? errno : 0;
}

/* ---- counters ---------------------------------------------------------------------------- */

typedef struct {
    uint64_t magic;
    uint32_t layout, unused;
    uint64_t rows, fields;
    char pad0[32];
    /* redo: all but `op` are written before it */
    fx_word op;
    uint64_t ring_uid, seq, mask, row, field;
    uint64_t token; /* the operation's serial; for HAND_OVER the outbox's sequence number */
    uint64_t serial;
} fx_counters;

#define FX_STAMP_BITS 20
#define FX_STAMP_MASK ((1ull << FX_STAMP_BITS) - 1)

static inline fx_word *fx_counter(fx_counters *c, uint64_t row, uint64_t field) {
    return (fx_word *)((char *)c + FX_PAGE) + row * c->fields + field;
}

static inline void fx_count(fx_counters *c, uint64_t row, uint64_t field, uint64_t n,
                            uint64_t serial) {
    if (row >= c->rows || field >= c->fields) return;
    fx_word *word = fx_counter(c, row, field);
    uint64_t count = atomic_load_explicit(word, memory_order_relaxed) >> FX_STAMP_BITS;
    atomic_store_explicit(word, ((count + n) << FX_STAMP_BITS) | (serial & FX_STAMP_MASK),
                          memory_order_release);
}

/* Counts one for `serial` unless that is done already. */
static inline void fx_recount(fx_counters *c, uint64_t row, uint64_t field, uint64_t serial) {
    if (row >= c->rows || field >= c->fields) return;
    uint64_t now = atomic_load_explicit(fx_counter(c, row, field), memory_order_relaxed);
    if ((now & FX_STAMP_MASK) != (serial & FX_STAMP_MASK)) fx_count(c, row, field, 1, serial);
}

/* Serial 0 stands in every fresh word and would look counted, so no operation may bear it. */
static inline uint64_t fx_next_serial(fx_counters *c) {
    do c->serial++;
    while ((c->serial & FX_STAMP_MASK) == 0);
    return c->serial;
}

static inline void fx_redo(fx_counters *c, uint64_t op, uint64_t uid, uint64_t seq, uint64_t mask,
                           uint64_t row, uint64_t field, uint64_t token) {
    c->ring_uid = uid;
    c->seq = seq;
    c->mask = mask;
    c->row = row;
    c->field = field;
    c->token = token;
    atomic_store_explicit(&c->op, op, memory_order_release);
}

static inline int fx_redo_open(fx_counters *c) {
    return atomic_load_explicit(&c->op, memory_order_acquire) != FX_OP_NONE;
}

static inline void fx_redo_done(fx_counters *c) {
    atomic_store_explicit(&c->op, FX_OP_NONE, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst); /* the compiler writes no later entry before it */
}

/* Log-linear latency buckets, two to each doubling of microseconds: 0-1, 2, 3, 4-5, 6-7, 8-11, ... up
 * to about 71 minutes. A bucket's limits are within 50 % of each other. */
#define FX_BUCKETS 64

static inline int fx_bucket(uint64_t us) {
    if (us < 2) return 0;
    int log2 = 63 - __builtin_clzll(us);
    int bucket = 2 * log2 - 1 + (int)(us >> (log2 - 1) & 1);
    return bucket < FX_BUCKETS ? bucket : FX_BUCKETS - 1;
}

/* The largest value in the bucket. */
static inline uint64_t fx_bucket_limit(int bucket) {
    if (bucket <= 0) return 1;
    int log2 = (bucket + 1) / 2, upper = (bucket + 1) % 2;
    return (1ull << log2) + (1ull << (log2 - 1)) * (uint64_t)(upper + 1) - 1;
}

#endif

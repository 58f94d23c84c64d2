/* One consumer that goes to sleep while one producer publishes, as close together as can be.
 *
 * Prints how often the consumer would have slept, and how often it would have slept on although a
 * record was there: nobody had told it, and it had not seen it. Arguments: rounds, seconds at most. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <sys/mman.h>

#include "ring.h"

enum { SLOTS = 8, CAPACITY = 4096, MOST_DELAY = 300 };

static _Atomic uint64_t *arrived;

/* Waits until both processes have come here `round` times. */
static void meet(uint64_t round) {
    atomic_fetch_add(arrived, 1);
    for (int spins = 0; atomic_load(arrived) < 2 * round; spins++)
        if (spins > 10000) sched_yield();
}

static void delay(unsigned n) {
    for (volatile unsigned i = 0; i < n; i++) {}
}

int main(int argc, char **argv) {
    (void)argc;
    uint64_t rounds = strtoull(argv[1], NULL, 10);
    time_t end = time(NULL) + atoi(argv[2]);
    uint8_t *shared = mmap(NULL, FX_PAGE + fx_ring_bytes(SLOTS, CAPACITY), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    arrived = (void *)shared;
    _Atomic int *over = (void *)(shared + 64);
    fx_ring *r = (void *)(shared + FX_PAGE);
    r->capacity = CAPACITY, r->slot_count = SLOTS, r->queue_size = SLOTS / 2;
    uint32_t target = 1;
    uint64_t round = 0, cursor = 0, slept = 0, missed = 0;
    pid_t producer = fork();
    srand(producer ? 1 : 2);
    fx_producer p;
    fx_producer_open(&p, r, 0, -1);
    while (!atomic_load(over)) {
        meet(++round);
        delay((unsigned)rand() % MOST_DELAY);
        if (!producer) {
            if (fx_put(&p, &target, 1, "", 0, "", 0, NULL, 0, 0) != FX_ACCEPTED) return 2;
            meet(++round);
        } else {
            int sleeps = fx_arm(r, cursor);
            meet(++round);
            slept += sleeps;
            missed += sleeps && atomic_load(&r->asleep);
            fx_disarm(r);
            fx_taken taken;
            if (fx_take(r, &cursor, &taken) != 1) return 3;
            fx_settle(r, taken.seq, 1, NULL, 0, 0);
            fx_store(&r->cursor, cursor);
            if (round / 2 >= rounds || time(NULL) > end) atomic_store(over, 1);
        }
        meet(++round);
    }
    if (!producer) return 0;
    int status;
    waitpid(producer, &status, 0);
    printf("%llu %llu %llu\n", (unsigned long long)(round / 3), (unsigned long long)slept,
           (unsigned long long)missed);
    return status != 0;
}

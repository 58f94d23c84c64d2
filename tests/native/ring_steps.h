/* Kills or stops the process at a named step of ring.h, and lets the disk fail. For test builds: test_ring_steps.py. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Of all modules that are built with it, the first one's is used. */
__attribute__((visibility("default"))) struct {
    char name[32]; /* empty: any step */
    int countdown, signal;
} fx_step_armed;

/* The `nth` step of this name from now on raises `signal`; 0 disarms. */
__attribute__((visibility("default"))) void fx_step_arm(const char *name, int nth, int signal) {
    strncpy(fx_step_armed.name, name, sizeof fx_step_armed.name - 1);
    fx_step_armed.signal = signal;
    fx_step_armed.countdown = nth;
}

__attribute__((visibility("default"))) int fx_disk_fails; /* as many of the next syncs do */

__attribute__((visibility("default"))) void fx_fail_syncs(int times) { fx_disk_fails = times; }

static inline int fx_failing_fdatasync(int fd) {
    if (fx_disk_fails == 0) return fdatasync(fd);
    fx_disk_fails--;
    errno = EIO;
    return -1;
}
#define FX_FDATASYNC fx_failing_fdatasync

static inline void FX_STEP(const char *name) {
    if (fx_step_armed.countdown == 0) return;
    if (fx_step_armed.name[0] && strcmp(name, fx_step_armed.name) != 0) return;
    if (--fx_step_armed.countdown == 0) kill(getpid(), fx_step_armed.signal);
}

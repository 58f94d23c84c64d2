/* Kills or stops the process at a named step of ring.h. For test builds: test_ring_steps.py. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct {
    char name[32]; /* empty: any step */
    int countdown, signal;
} fx_step_armed;

/* The `nth` step of this name from now on raises `signal`; 0 disarms. */
__attribute__((visibility("default"))) void fx_step_arm(const char *name, int nth, int signal) {
    strncpy(fx_step_armed.name, name, sizeof fx_step_armed.name - 1);
    fx_step_armed.signal = signal;
    fx_step_armed.countdown = nth;
}

static inline void FX_STEP(const char *name) {
    if (fx_step_armed.countdown == 0) return;
    if (fx_step_armed.name[0] && strcmp(name, fx_step_armed.name) != 0) return;
    if (--fx_step_armed.countdown == 0) kill(getpid(), fx_step_armed.signal);
}

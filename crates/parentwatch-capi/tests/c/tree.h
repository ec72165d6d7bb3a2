/* A process tree for the tests of dying: test, adopts ── supervisor ── worker. */
#ifndef TREE_H
#define TREE_H

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"

/* Makes this process adopt orphans, and clears the library's variables. */
static inline void adopt_orphans(void) {
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH"), unsetenv("LOCALAI_BACKEND_PARENT_PID");
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0);
}

/* Sleeps until a signal ends this process. */
static inline _Noreturn void pause_for_ever(void) {
    for (;;) pause();
}

/* The worker reports a pid once it is ready. */
static inline void report(int ready, pid_t pid) {
    CHECK(write(ready, &pid, sizeof pid) == sizeof pid);
}

/* Starts a supervisor whose worker leads its group and runs `work`. Stores the pid that the worker reports. Returns the
 * supervisor's pid. */
static inline pid_t supervise(void (*work)(int ready, const void *how), const void *how, pid_t *reported) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t supervisor = fork();
    CHECK(supervisor >= 0);
    if (supervisor == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) == 0);
        if (fork() == 0) {
            CHECK(setpgid(0, 0) == 0);
            work(ready[1], how);
        }
        pause_for_ever();
    }
    CHECK(read(ready[0], reported, sizeof *reported) == sizeof *reported);
    close(ready[0]), close(ready[1]);
    return supervisor;
}

#endif

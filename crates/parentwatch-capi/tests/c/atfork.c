/* A worker ends even if its pthread_atfork(3) handler never returns. The handler hangs before the fork or in the child:
 *
 *   test, adopts ── supervisor † ── worker, leads its group ── helper
 *
 * Where the library must run the handlers (macOS), the last resort kills the whole group, including the worker. */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <pthread.h>
#include <stdbool.h>

#include "tree.h"

static volatile bool hangs;
static volatile pid_t worker;

static void give_up(int signal) {
    (void)signal;
    if (worker > 0) kill(-worker, SIGKILL);
    _exit(3);
}

static void hang(void) {
    while (hangs) pause();
}

static void work(int ready, const void *how) {
    bool in_child = *(const bool *)how;
    CHECK(pthread_atfork(in_child ? NULL : hang, NULL, in_child ? hang : NULL) == 0);
    signal(SIGALRM, SIG_DFL);
    if (fork() == 0) pause_for_ever();
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    hangs = true;
    report(ready, getpid());
    pause_for_ever();
}

static void all_processes_end(bool in_child) {
    pid_t started = 0;
    pid_t supervisor = supervise(work, &in_child, &started);
    worker = started;
    CHECK(kill(supervisor, SIGKILL) == 0);
    bool gone = false;
    int status = 0;
    /* Waits until no process is left. This process adopts the helper and everything that was forked. */
    for (pid_t ended; (ended = waitpid(-1, &status, __WALL)) > 0;) {
        if (ended != worker) continue;
        gone = true;
        CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 1) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    }
    CHECK(gone);
    printf("a handler that hangs %s: all are gone\n", in_child ? "in the child" : "before the fork");
    fflush(stdout);
}

int main(void) {
    signal(SIGALRM, give_up);
    alarm(60);
    adopt_orphans();
    all_processes_end(false);
    all_processes_end(true);
    return 0;
}

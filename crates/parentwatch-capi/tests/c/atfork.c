/* A program whose handler of pthread_atfork(3) never returns holds up no death, before a fork and in the child:
 *
 *   test, adopts ── supervisor † ── worker, leads its group ── helper
 *
 * Where the library has to run the handlers (macOS), the last resort ends the group: the worker, too, is killed then. */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"

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

static void work(bool in_child, int ready) {
    CHECK(setpgid(0, 0) == 0);
    CHECK(pthread_atfork(in_child ? NULL : hang, NULL, in_child ? hang : NULL) == 0);
    signal(SIGALRM, SIG_DFL);
    if (fork() == 0) {
        for (;;) pause();
    }
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    hangs = true;
    pid_t pid = getpid();
    CHECK(write(ready, &pid, sizeof pid) == sizeof pid);
    for (;;) pause();
}

static void nobody_is_left(bool in_child) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t supervisor = fork();
    CHECK(supervisor >= 0);
    if (supervisor == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) == 0);
        if (fork() == 0) work(in_child, ready[1]);
        for (;;) pause();
    }
    pid_t started = 0;
    CHECK(read(ready[0], &started, sizeof started) == sizeof started);
    worker = started;
    CHECK(kill(supervisor, SIGKILL) == 0);
    bool gone = false;
    int status = 0;
    /* Until there is nobody: the helper comes to this process, and whatever was forked. */
    for (pid_t ended; (ended = waitpid(-1, &status, __WALL)) > 0;) {
        if (ended != worker) continue;
        gone = true;
        CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 1) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    }
    CHECK(gone);
    close(ready[0]), close(ready[1]);
    printf("a handler that hangs %s: all are gone\n", in_child ? "in the child" : "before the fork");
    fflush(stdout);
}

int main(void) {
    signal(SIGALRM, give_up);
    alarm(60);
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH"), unsetenv("LOCALAI_BACKEND_PARENT_PID");
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0);
    nobody_is_left(false);
    nobody_is_left(true);
    return 0;
}

/* A worker lives as long as its supervisor and no longer, in the tier that this kernel supports. The test needs no more
 * of the kernel than the library does, so that it also runs on other kernels with Linux's interface.
 *
 *   test, adopts ─┬─ supervisor ── worker
 *                 └─ another supervisor † ── another worker, OTHERS times, while the first worker lives on
 */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

enum { OTHERS = 5 };

typedef struct {
    pid_t supervisor;
    pid_t worker;
    int tier;
    int life; /* a pipe that ends when the worker does */
} tree_t;

static void be_the_worker(int words) {
    CHECK(freopen("/dev/null", "w", stderr) != NULL); /* hides the worker's last line */
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    localai_parentwatch_info_t now = {.size = sizeof now};
    const struct timespec moment = {.tv_nsec = 1000000};
    for (;;) {
        CHECK(localai_parentwatch_status(&now) == LOCALAI_PARENTWATCH_ARMED);
        if (now.tier != LOCALAI_PARENTWATCH_TIER_NONE) break;
        nanosleep(&moment, NULL);
    }
    tree_t tree = {getppid(), getpid(), (int)now.tier, -1};
    CHECK(write(words, &tree, sizeof tree) == sizeof tree);
    for (;;) pause();
}

static tree_t grow(void) {
    int words[2];
    tree_t tree;
    CHECK(pipe(words) == 0);
    pid_t supervisor = fork();
    CHECK(supervisor >= 0);
    if (supervisor == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) == 0);
        pid_t worker = fork();
        CHECK(worker >= 0);
        if (worker == 0) be_the_worker(words[1]);
        close(words[1]);
        for (;;) pause();
    }
    CHECK(read(words[0], &tree, sizeof tree) == sizeof tree && tree.supervisor == supervisor);
    close(words[1]);
    tree.life = words[0];
    return tree;
}

static bool has_ended(tree_t tree) {
    struct pollfd life = {tree.life, POLLIN, 0};
    return poll(&life, 1, 0) == 1;
}

/* This process adopts the worker, so it can wait for the worker's end. */
static void kill_the_supervisor_of(tree_t tree) {
    int status = 0;
    CHECK(kill(tree.supervisor, SIGKILL) == 0);
    CHECK(waitpid(tree.supervisor, &status, 0) == tree.supervisor && WTERMSIG(status) == SIGKILL);
    CHECK(waitpid(tree.worker, &status, 0) == tree.worker && WIFEXITED(status) && WEXITSTATUS(status) == 1);
    close(tree.life);
}

int main(void) {
    alarm(120);
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH"), unsetenv("LOCALAI_BACKEND_PARENT_PID");
    CHECK(setenv("LOCALAI_BACKEND_PARENT_WATCH_INTERVAL", "200ms", 1) == 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0);
    int handle = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int tier = handle >= 0 ? LOCALAI_PARENTWATCH_TIER_EVENT : LOCALAI_PARENTWATCH_TIER_POLL;
    printf("       %s tier\n", handle >= 0 ? "event" : "poll");
    fflush(stdout);

    tree_t first = grow();
    CHECK(first.tier == tier);
    /* In the poll tier, by the time another worker has seen its supervisor's death, the first one has polled too. */
    for (int other = 0; other < OTHERS; other++) kill_the_supervisor_of(grow());
    CHECK(!has_ended(first));
    kill_the_supervisor_of(first);
    return 0;
}

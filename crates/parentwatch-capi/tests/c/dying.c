/* The whole dying path, in both tiers, for every kind of worker: the supervisor of a small process tree is killed.
 * Also run under the sanitizers and valgrind. So nothing is executed: every process of the tree is forked from this
 * one. This process is a subreaper and sees how each of them ends. */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "poll_tier.h"

enum kind { ALONE, LEADER, LEADER_WITH_HELPER, SESSION, SESSION_WITH_HELPER };

static const char *const KINDS[] = {
    "alone", "leader", "leader with helper", "session leader", "session leader with helper"};

/* What the processes of a tree report to the runner: one record each, and one by the hook. Once all processes have
 * ended, the pipe reports end of file. */
struct word {
    enum { WORKER, HELPER, HOOK } who;
    pid_t pid;
};

/* Much static thread-local storage. The stack of every thread has to hold it. */
static __thread volatile char thread_local_storage[1 << 20];

/* A wrapper of munmap that keeps records in its own memory, as registration caches do. */
static volatile int *unmapped;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
int munmap(void *address, size_t length) {
    if (unmapped != NULL) ++*unmapped;
    return (int)syscall(SYS_munmap, address, length);
}
#endif

static int words[2];
/* Nothing is ever written to this pipe. A process that reads from it ends when the runner ends. */
static int lifeline[2];

static void say(int who) {
    struct word word = {who, getpid()};
    CHECK(write(words[1], &word, sizeof word) == sizeof word);
}

static struct word hear(void) {
    struct word word;
    CHECK(read(words[0], &word, sizeof word) == sizeof word);
    return word;
}

static _Noreturn void wait_for_the_end(void) {
    char byte;
    while (read(lifeline[0], &byte, 1) < 0 && errno == EINTR) {
    }
    _exit(3);
}

static bool has_pidfd_open(void) {
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    return pidfd >= 0 && close(pidfd) == 0;
}

static void hook(void *data) {
    CHECK(strcmp(data, "the hook's data") == 0);
    free(data);
    say(HOOK);
}

static _Noreturn void helper(void) {
    signal(SIGTERM, SIG_IGN);
    say(HELPER);
    wait_for_the_end();
}

static _Noreturn void worker(enum kind kind, int tier) {
    if (kind == LEADER || kind == LEADER_WITH_HELPER) {
        CHECK(setpgid(0, 0) == 0);
    }
    if (kind == SESSION || kind == SESSION_WITH_HELPER) {
        CHECK(setsid() == getpid());
    }
    if (tier == LOCALAI_PARENTWATCH_TIER_POLL && has_pidfd_open()) {
        refuse_pidfd_open();
    }
    localai_parentwatch_options_t options = {.size = sizeof options,
                                             .interval_ns = 10000000,
                                             .on_death = hook,
                                             .user_data = strdup("the hook's data")};
    CHECK((unmapped = calloc(1, 4 << 20)) != NULL);
    thread_local_storage[sizeof thread_local_storage - 1] = 1;
    CHECK(localai_parentwatch_start(&options) == LOCALAI_PARENTWATCH_ARMED);
    localai_parentwatch_info_t now = {.size = sizeof now};
    CHECK(localai_parentwatch_status(&now) == LOCALAI_PARENTWATCH_ARMED && now.tier == tier);
    if (kind == LEADER_WITH_HELPER || kind == SESSION_WITH_HELPER) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            helper();
        }
    }
    say(WORKER);
    wait_for_the_end();
}

static _Noreturn void supervisor(enum kind kind, int tier) {
    /* Only the runner may keep these ends open. */
    close(lifeline[1]);
    close(words[0]);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        worker(kind, tier);
    }
    wait_for_the_end();
}

static void the_tree_ends_with_its_supervisor(enum kind kind, int tier) {
    bool has_helper = kind == LEADER_WITH_HELPER || kind == SESSION_WITH_HELPER;
    CHECK(pipe(words) == 0);
    pid_t parent = fork(), child = 0, other = 0;
    CHECK(parent >= 0);
    if (parent == 0) {
        supervisor(kind, tier);
    }
    close(words[1]);
    for (int i = 0; i < 1 + has_helper; i++) {
        struct word word = hear();
        *(word.who == WORKER ? &child : &other) = word.pid;
    }
    CHECK(kill(parent, SIGKILL) == 0);
    CHECK(hear().who == HOOK);
    close(words[0]);

    /* This process has adopted all of them. Besides the three there are up to three more: the reaper of the helper, the
     * process that made a new group for the worker, and the reaper that stood by while the hook ran, which is killed.
     * The worker reaps the last two itself if they end within 5 ms. */
    int done = 0, killed = 0;
    for (int status;;) {
        pid_t ended = wait(&status);
        if (ended < 0) {
            CHECK(errno == ECHILD);
            break;
        }
        if (ended == parent) {
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        } else if (ended == child) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        } else if (ended == other) {
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        } else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
            killed++;
        } else {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            done++;
        }
    }
    CHECK(done >= has_helper && done <= 2 * has_helper && killed <= has_helper);
    printf("%s, %s tier: gone\n", KINDS[kind], tier == LOCALAI_PARENTWATCH_TIER_EVENT ? "event" : "poll");
    fflush(stdout);
}

int main(void) {
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH");
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH_INTERVAL");
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH_SCOPE");
    unsetenv("LOCALAI_BACKEND_PARENT_PID");
    /* If anything hangs, the runner ends, and with it every process that reads from the lifeline. */
    alarm(600);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0);
    CHECK(pipe(lifeline) == 0);
    bool has_event_tier = has_pidfd_open();
    for (enum kind kind = ALONE; kind <= SESSION_WITH_HELPER; kind++) {
        if (has_event_tier) {
            the_tree_ends_with_its_supervisor(kind, LOCALAI_PARENTWATCH_TIER_EVENT);
        }
        the_tree_ends_with_its_supervisor(kind, LOCALAI_PARENTWATCH_TIER_POLL);
    }
    return 0;
}

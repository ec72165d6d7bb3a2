/*
 * Negative control: an event-driven watcher that checks nothing. The suite asserts that it kills healthy workers and
 * their neighbours. Its faults:
 *
 * - It takes the process with the id in LOCALAI_BACKEND_PARENT_PID for the supervisor, even if the id was reused.
 * - It takes a process that it cannot see for dead.
 * - It takes the state of a zombie, and a readable descriptor, for a death.
 * - It ends its whole process group, even if another process leads that.
 */
#define _GNU_SOURCE
#include "localai_parentwatch.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t parent;
static pid_t named;
static int parent_fd = -1;
static bool armed;

static _Noreturn void die(void) {
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    _exit(1);
}

/* Reads the state of a process and its parent. Returns false if /proc does not show it. */
static bool look(pid_t pid, char *state, pid_t *above) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool found = fscanf(file, "%*d (%*[^)]) %c %d", state, above) == 2;
    fclose(file);
    return found;
}

static bool is_alive(pid_t pid) {
    char state;
    pid_t above;
    return look(pid, &state, &above) && state != 'Z';
}

static bool is_ancestor(pid_t pid) {
    char state;
    pid_t above = getpid();
    while (look(above, &state, &above) && above > 0) {
        if (above == pid) {
            return true;
        }
    }
    return false;
}

static void *watch(void *unused) {
    (void)unused;
    pthread_setname_np(pthread_self(), "parent-watch");
    struct pollfd wait = {parent_fd, POLLIN, 0};
    for (;;) {
        if (poll(&wait, 1, 50) > 0 || (named > 0 && !is_alive(named))) {
            die();
        }
    }
}

int32_t localai_parentwatch_start(const localai_parentwatch_options_t *options) {
    (void)options;
    const char *name = getenv("LOCALAI_BACKEND_PARENT_PID");
    if (armed) {
        return LOCALAI_PARENTWATCH_ARMED;
    }
    parent = getppid();
    named = name == NULL ? 0 : atoi(name);
    if (parent <= 1 || (named > 0 && !(is_alive(named) && is_ancestor(named)))) {
        _exit(1);
    }
    parent_fd = (int)syscall(SYS_pidfd_open, parent, 0);
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, NULL) != 0) {
        return LOCALAI_PARENTWATCH_EXHAUSTED;
    }
    armed = true;
    return LOCALAI_PARENTWATCH_ARMED;
}

int32_t localai_parentwatch_status(localai_parentwatch_info_t *info) {
    info->state = armed ? LOCALAI_PARENTWATCH_ARMED : LOCALAI_PARENTWATCH_NOT_STARTED;
    info->tier = armed ? LOCALAI_PARENTWATCH_TIER_POLL : LOCALAI_PARENTWATCH_TIER_NONE;
    info->watched_pids[0] = parent;
    info->watched_pids[1] = named == parent ? 0 : named;
    info->scope = LOCALAI_PARENTWATCH_SCOPE_GROUP;
    info->interval_ns = 50000000;
    info->grace_ns = 0;
    return info->state;
}

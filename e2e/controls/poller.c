/*
 * Negative control: LocalAI's present watcher, behind the library's functions. A thread polls getppid() every interval
 * (2 s by default, else LOCALAI_BACKEND_PARENT_WATCH_INTERVAL in whole milliseconds). When the parent has changed, it
 * writes a line and exits. The suite asserts that it fails where a poller must. A scenario that it passes does not
 * distinguish it from the library.
 */
#define _GNU_SOURCE
#include "localai_parentwatch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static pid_t parent;
static int armed;
static uint64_t interval_ms = 2000;

static void *poll_parent(void *unused) {
    (void)unused;
    pthread_setname_np(pthread_self(), "parent-watch");
    struct timespec pause = {(time_t)(interval_ms / 1000), (long)(interval_ms % 1000) * 1000000};
    for (;;) {
        nanosleep(&pause, NULL);
        if (getppid() != parent) {
            fprintf(stderr, "parent %d is gone, exiting\n", (int)parent);
            exit(1);
        }
    }
}

int32_t localai_parentwatch_start(const localai_parentwatch_options_t *options) {
    (void)options;
    const char *off = getenv("LOCALAI_BACKEND_PARENT_WATCH");
    const char *every = getenv("LOCALAI_BACKEND_PARENT_WATCH_INTERVAL");
    if (off != NULL && (strcasecmp(off, "false") == 0 || strcmp(off, "0") == 0 ||
                        strcasecmp(off, "no") == 0 || strcasecmp(off, "off") == 0)) {
        return LOCALAI_PARENTWATCH_DISABLED;
    }
    if (every != NULL && atoi(every) > 0) {
        interval_ms = (uint64_t)atoi(every);
    }
    if (armed) {
        return LOCALAI_PARENTWATCH_ARMED; /* Wrong in a forked child, which does not have the thread. */
    }
    parent = getppid();
    if (parent <= 1) {
        return LOCALAI_PARENTWATCH_NO_PARENT;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, poll_parent, NULL) != 0) {
        abort(); /* What an uncaught exception of std::thread does. */
    }
    pthread_detach(thread);
    armed = 1;
    return LOCALAI_PARENTWATCH_ARMED;
}

int32_t localai_parentwatch_status(localai_parentwatch_info_t *info) {
    info->state = armed ? LOCALAI_PARENTWATCH_ARMED : LOCALAI_PARENTWATCH_NOT_STARTED;
    info->tier = armed ? LOCALAI_PARENTWATCH_TIER_POLL : LOCALAI_PARENTWATCH_TIER_NONE;
    info->watched_pids[0] = parent;
    info->watched_pids[1] = 0;
    info->scope = LOCALAI_PARENTWATCH_SCOPE_PROCESS;
    info->interval_ns = interval_ms * 1000000;
    info->grace_ns = 0;
    return info->state;
}

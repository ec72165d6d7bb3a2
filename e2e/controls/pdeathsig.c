/*
 * Negative control: PR_SET_PDEATHSIG(SIGKILL) behind the library's functions. The kernel sends that signal when the
 * thread ends that has spawned the worker, although the supervisor may live on. The suite asserts that this kills a
 * healthy worker.
 */
#define _GNU_SOURCE
#include "localai_parentwatch.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static pid_t parent;

int32_t localai_parentwatch_start(const localai_parentwatch_options_t *options) {
    (void)options;
    parent = getppid();
    if (prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) < 0) {
        return LOCALAI_PARENTWATCH_INTERNAL;
    }
    if (getppid() != parent) {
        _exit(1);
    }
    return LOCALAI_PARENTWATCH_ARMED;
}

int32_t localai_parentwatch_status(localai_parentwatch_info_t *info) {
    size_t size = info->size;
    memset(info, 0, sizeof *info);
    info->size = size;
    info->state = parent > 0 ? LOCALAI_PARENTWATCH_ARMED : LOCALAI_PARENTWATCH_NOT_STARTED;
    info->tier = parent > 0 ? LOCALAI_PARENTWATCH_TIER_EVENT : LOCALAI_PARENTWATCH_TIER_NONE;
    info->watched_pids[0] = parent;
    info->scope = LOCALAI_PARENTWATCH_SCOPE_PROCESS;
    return info->state;
}

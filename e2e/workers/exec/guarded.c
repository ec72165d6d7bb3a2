/*
 * The library's functions for a worker that `localai-parentwatch exec` runs. They arm nothing. The status is "armed" if
 * this process has a guardian. The guardian's open pidfds show which processes it watches. This is not a control.
 */
#define _GNU_SOURCE
#include "localai_parentwatch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Reads the beginning of a file of /proc as a string. Returns whether anything was read. */
static int read_text(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    size_t length = file == NULL ? 0 : fread(text, 1, size - 1, file);
    text[length] = '\0';
    if (file != NULL) {
        fclose(file);
    }
    return length > 0;
}

static pid_t find_guardian(void) {
    char path[300], line[128], wanted[64];
    snprintf(wanted, sizeof wanted, "localai-parentwatch: guarding %d", getpid());
    pid_t found = 0;
    DIR *processes = opendir("/proc");
    for (struct dirent *process; processes != NULL && (process = readdir(processes)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%s/cmdline", process->d_name);
        size_t length = strlen(wanted);
        if (read_text(path, line, sizeof line) && strncmp(line, wanted, length) == 0 &&
            (line[length] == ' ' || line[length] == '\0')) {
            found = (pid_t)atol(process->d_name);
        }
    }
    if (processes != NULL) {
        closedir(processes);
    }
    return found;
}

/* Stores the processes, other than this one, on which the guardian has pidfds. Returns the number of all its pidfds. */
static int pidfds(pid_t guardian, int32_t watched[2]) {
    char path[300], text[512];
    int count = 0, others = 0;
    snprintf(path, sizeof path, "/proc/%d/fdinfo", guardian);
    DIR *descriptors = opendir(path);
    for (struct dirent *fd; descriptors != NULL && (fd = readdir(descriptors)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", guardian, fd->d_name);
        const char *pid = read_text(path, text, sizeof text) ? strstr(text, "\nPid:") : NULL;
        if (pid == NULL) {
            continue;
        }
        count++;
        int32_t number = (int32_t)strtol(pid + 5, NULL, 10);
        if (number != getpid() && others < 2) {
            watched[others++] = number;
        }
    }
    if (descriptors != NULL) {
        closedir(descriptors);
    }
    return count;
}

/* The control of this worker, `setpriv --pdeathsig`, counts as armed too. */
static int has_death_signal(void) {
    int number = 0;
    return prctl(PR_GET_PDEATHSIG, &number, 0L, 0L, 0L) == 0 && number != 0;
}

int32_t localai_parentwatch_start(const localai_parentwatch_options_t *options) {
    (void)options;
    int is_guarded = find_guardian() != 0 || has_death_signal();
    return is_guarded ? LOCALAI_PARENTWATCH_ARMED : LOCALAI_PARENTWATCH_DISABLED;
}

int32_t localai_parentwatch_status(localai_parentwatch_info_t *info) {
    size_t size = info->size;
    memset(info, 0, sizeof *info);
    info->size = size;
    pid_t guardian = find_guardian();
    info->state = localai_parentwatch_start(NULL);
    int count = guardian != 0 ? pidfds(guardian, info->watched_pids) : 0;
    info->tier = guardian == 0 ? LOCALAI_PARENTWATCH_TIER_NONE
                 : count > 0   ? LOCALAI_PARENTWATCH_TIER_EVENT
                               : LOCALAI_PARENTWATCH_TIER_POLL;
    info->scope = LOCALAI_PARENTWATCH_SCOPE_TREE;
    return info->state;
}

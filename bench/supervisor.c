/*
 * The supervisor: starts workers and does nothing more, so that its own end, which is part of every
 * measurement, costs little and always the same.
 *
 *   supervisor [--refuse-pidfd-open] [--death-pipe] [--hold-gib N] COUNT shared|group|session WORKER [ARGUMENT ...]
 *
 * A worker is in the supervisor's process group, or leads a group, or a session, of its own. With
 * --refuse-pidfd-open a seccomp filter, installed before the worker is executed, lets pidfd_open(2) fail
 * with ENOSYS, as on a Linux older than 5.3: the library polls then. With --death-pipe it alone holds the write end
 * of a pipe whose read end every worker has. With --hold-gib so much memory is resident.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <spawn.h>

#include "poll_tier.h"

static void make_death_pipe(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0 || dup2(ends[0], DEATH_PIPE) < 0) {
        fail("death pipe");
    }
}

int main(int argc, char **argv) {
    char **argument = argv + 1;
    for (; argument < argv + argc && strncmp(*argument, "--", 2) == 0; argument++) {
        if (strcmp(*argument, "--refuse-pidfd-open") == 0) {
            refuse_pidfd_open();
        } else if (strcmp(*argument, "--death-pipe") == 0) {
            make_death_pipe();
        } else if (strcmp(*argument, "--hold-gib") == 0 && argument + 1 < argv + argc) {
            hold((size_t)strtoul(*++argument, NULL, 10) << 30);
        } else {
            errno = EINVAL;
            fail(*argument);
        }
    }
    if (argument + 3 > argv + argc) {
        errno = EINVAL;
        fail("supervisor");
    }
    long count = strtol(argument[0], NULL, 10);
    short flags = 0;
    if (strcmp(argument[1], "group") == 0) {
        flags = POSIX_SPAWN_SETPGROUP;
    } else if (strcmp(argument[1], "session") == 0) {
        flags = POSIX_SPAWN_SETSID;
    }
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, flags);
    posix_spawnattr_setpgroup(&attributes, 0);
    while (count-- > 0) {
        pid_t worker;
        errno = posix_spawn(&worker, argument[2], NULL, &attributes, argument + 2, environ);
        if (errno != 0) {
            fail(argument[2]);
        }
    }
    posix_spawnattr_destroy(&attributes);
    close(1); /* so that the driver sees the end of a worker that fails */
    wait_for_the_end();
}

/*
 * What the driver and the processes of its trees agree on. Every one of them has
 *   stdin   the lifeline: a pipe that only the driver can write to and never does. Whoever has nothing
 *           to do reads from it, and ends when the driver has, however that came about.
 *   stdout  a pipe to the driver that takes whole reports
 *   stderr  a file, as under LocalAI's process manager
 */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum report_kind {
    WORKER_READY = 1, /* status, tier */
    HELPER_READY,
    ARMED_ONCE,      /* values: nanoseconds, then minor page faults; from Python: nanoseconds of the import */
    ARMED_AND_LOOKED /* values: what arming added, in the order of `enum looked` */
};

enum looked { THREADS, DESCRIPTORS, DIRTY_KIB, RSS_KIB, VM_SIZE_KIB, LOOKED };

#define LOOKED_NAMES \
    ((const char *[]){"threads", "descriptors", "memory written to (KiB)", "resident (KiB)", "address space (KiB)"})

/* Where a worker has the read end of the supervisor's --death-pipe. */
enum { DEATH_PIPE = 100 };

struct report {
    int32_t kind;
    int32_t pid;
    int32_t status;
    int32_t tier;
    int64_t values[LOOKED];
};

static inline _Noreturn void fail(const char *what) {
    dprintf(2, "bench: %s: %s\n", what, strerror(errno));
    _exit(2);
}

static inline int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline void sleep_ns(int64_t ns) {
    struct timespec time = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    while (nanosleep(&time, &time) < 0 && errno == EINTR) {
    }
}

static inline void send_report(const struct report *report) {
    if (write(1, report, sizeof *report) != (ssize_t)sizeof *report) {
        fail("report");
    }
}

/* So much memory is resident from here on. */
static inline void hold(size_t bytes) {
    char *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        fail("mmap");
    }
}

/* Until somebody ends this process, or the driver is gone. */
static inline _Noreturn void wait_for_the_end(void) {
    char byte;
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    _exit(0);
}

#endif

/*
 * The worker, one program for every row, so that rows differ by what guards it alone.
 *
 *   worker GUARD [--helper] [--mib N]
 *
 *   pdeathsig         PR_SET_PDEATHSIG(SIGKILL), the baseline
 *   watch             the library, as a server would call it
 *   poller            a thread that looks at getppid() every 2 s, as LocalAI's backends do today
 *   time-arming       reports how long the library took to arm and how many page faults it had; ends
 *   look-at-arming    reports what arming added to this process; ends
 *   helper            no worker but its helper: ignores SIGTERM
 *
 * --helper starts a helper in the worker's process group; --mib has it hold that much memory.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <localai_parentwatch.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static pid_t parent;

static void *poll_the_parent(void *unused) {
    for (;;) {
        sleep_ns(2000000000);
        if (getppid() != parent) {
            _exit(1);
        }
    }
    return unused;
}

static void start_poller(void) {
    pthread_t thread;
    errno = pthread_create(&thread, NULL, poll_the_parent, NULL);
    if (errno != 0) {
        fail("pthread_create");
    }
    pthread_setname_np(thread, "poller");
    pthread_detach(thread);
}

static void hold(size_t bytes) {
    char *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        fail("mmap");
    }
}

static void start_helper(char *program) {
    char *arguments[] = {program, "helper", NULL};
    pid_t helper;
    errno = posix_spawn(&helper, program, NULL, NULL, arguments, environ);
    if (errno != 0) {
        fail(program);
    }
}

static int32_t tier(void) {
    localai_parentwatch_info_t info = {.size = sizeof info};
    if (localai_parentwatch_info(&info) != 0) {
        fail("localai_parentwatch_info");
    }
    return info.tier;
}

/* How many entries a folder has, "." and ".." and the descriptor for reading it included. */
static int64_t entries(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) {
        fail(path);
    }
    int64_t count = 0;
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

/* The memory that this process has written to and shares with nobody. */
static int64_t private_kib(void) {
    static char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length < 0) {
        fail("/proc/self/smaps_rollup");
    }
    text[length] = '\0';
    const char *line = strstr(text, "Private_Dirty:");
    return line == NULL ? -1 : strtoll(line + strlen("Private_Dirty:"), NULL, 10);
}

static int64_t minor_faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

/* Time for the new thread to get to where it sleeps. */
static void settle(void) { sleep_ns(5000000); }

static struct report time_arming(void) {
    struct report report = {.kind = ARMED_ONCE, .pid = getpid()};
    int64_t faults = minor_faults();
    int64_t begin = now_ns();
    report.status = start_parent_death_watcher();
    report.values[0] = now_ns() - begin;
    settle();
    report.values[1] = minor_faults() - faults;
    report.tier = tier();
    return report;
}

static struct report look_at_arming(void) {
    struct report report = {.kind = ARMED_AND_LOOKED, .pid = getpid()};
    int64_t before[3], after[3];
    /* Twice: the first time, looking itself takes memory. */
    for (int i = 0; i < 2; i++) {
        before[0] = entries("/proc/self/task");
        before[1] = entries("/proc/self/fd");
        before[2] = private_kib();
    }
    report.status = start_parent_death_watcher();
    settle();
    after[0] = entries("/proc/self/task");
    after[1] = entries("/proc/self/fd");
    after[2] = private_kib();
    for (int i = 0; i < 3; i++) {
        report.values[i] = after[i] - before[i];
    }
    report.tier = tier();
    return report;
}

int main(int argc, char **argv) {
    const char *guard = argc > 1 ? argv[1] : "";
    struct report ready = {.kind = WORKER_READY, .pid = getpid()};
    parent = getppid();

    if (strcmp(guard, "time-arming") == 0) {
        ready = time_arming();
        send_report(&ready);
        return 0;
    }
    if (strcmp(guard, "look-at-arming") == 0) {
        ready = look_at_arming();
        send_report(&ready);
        return 0;
    }
    if (strcmp(guard, "helper") == 0) {
        signal(SIGTERM, SIG_IGN);
        ready.kind = HELPER_READY;
    } else if (strcmp(guard, "pdeathsig") == 0) {
        if (prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) < 0) {
            fail("PR_SET_PDEATHSIG");
        }
    } else if (strcmp(guard, "watch") == 0) {
        ready.status = start_parent_death_watcher();
        ready.tier = tier();
    } else if (strcmp(guard, "poller") == 0) {
        start_poller();
    } else {
        errno = EINVAL;
        fail(guard);
    }
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--helper") == 0) {
            start_helper(argv[0]);
        } else if (strcmp(argv[i], "--mib") == 0 && i + 1 < argc) {
            hold((size_t)strtoul(argv[++i], NULL, 10) << 20);
        } else {
            errno = EINVAL;
            fail(argv[i]);
        }
    }
    send_report(&ready);
    wait_for_the_end();
}

/*
 * The worker, one program for every row, so that rows differ by what guards it alone.
 *
 *   worker GUARD [--mib N] [--gpu GIB] [--helper group|session|ended]
 *
 *   pdeathsig         PR_SET_PDEATHSIG(SIGKILL), the baseline
 *   watch             the library, as a server would call it
 *   thread            a bare thread that waits on a pidfd of the supervisor: the least that a thread can cost
 *   nothing           nothing: it is guarded from outside
 *   pipe              a thread that reads from the supervisor's death pipe until its end
 *   poll-2s           a thread that looks at getppid() every 2 s, as LocalAI's backends do today
 *   poll-100ms        the same every 100 ms
 *   time-arming       reports how long the library took to arm and how many page faults it had; ends
 *   look-at-arming    reports what arming added to this process; ends
 *   helper            no worker but its helper: ignores SIGTERM
 *   engine            no worker but its helper: ends at SIGTERM
 *   ended             no worker but its helper: ends at once
 *
 * --helper starts a helper in the worker's process group, or in a session of its own, or one that ends and is
 * waited for. --mib has the worker hold that much memory, --gpu that much of the GPU's; with a helper too, that is an
 * engine, which holds it instead.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <localai_parentwatch.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pid_t parent;

static int64_t poll_interval_ns;

static void *poll_the_parent(void *unused) {
    for (;;) {
        sleep_ns(poll_interval_ns);
        if (getppid() != parent) {
            _exit(1);
        }
    }
    return unused;
}

static void *read_the_death_pipe(void *unused) {
    char byte;
    while (read(DEATH_PIPE, &byte, 1) < 0 && errno == EINTR) {
    }
    _exit(1);
    return unused;
}

static void *wait_for_the_parent(void *pidfd) {
    struct pollfd entry = {.fd = *(int *)pidfd, .events = POLLIN};
    while (poll(&entry, 1, -1) < 0 || getppid() == parent) {
    }
    _exit(1);
}

static void start_thread(void *(*function)(void *), void *argument) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10); /* as the library's */
    errno = pthread_create(&thread, &attributes, function, argument);
    if (errno != 0) {
        fail("pthread_create");
    }
    pthread_attr_destroy(&attributes);
    pthread_detach(thread);
}

static void start_waiting_thread(void) {
    static int pidfd;
    pidfd = (int)syscall(SYS_pidfd_open, parent, 0);
    if (pidfd < 0) {
        fail("pidfd_open");
    }
    start_thread(wait_for_the_parent, &pidfd);
}

static void start_poller(int64_t interval_ns) {
    poll_interval_ns = interval_ns;
    start_thread(poll_the_parent, NULL);
}

/* The driver's own library is all that it takes: no toolkit (cuda.h: CUresult is an int, 0 is success). */
static void hold_gpu(const char *gib) {
    int device, (*init)(unsigned), (*get)(int *, int), (*retain)(void **, int), (*use)(void *);
    int (*allocate)(uint64_t *, size_t), (*fill)(uint64_t, unsigned char, size_t);
    void *context, *library = dlopen("libcuda.so.1", RTLD_NOW);
    uint64_t memory;
    size_t size = (size_t)strtoul(gib, NULL, 10) << 30;
    if (library == NULL) {
        fail("libcuda.so.1");
    }
    *(void **)&init = dlsym(library, "cuInit");
    *(void **)&get = dlsym(library, "cuDeviceGet");
    *(void **)&retain = dlsym(library, "cuDevicePrimaryCtxRetain");
    *(void **)&use = dlsym(library, "cuCtxSetCurrent");
    *(void **)&allocate = dlsym(library, "cuMemAlloc_v2");
    *(void **)&fill = dlsym(library, "cuMemsetD8_v2");
    if (init(0) != 0 || get(&device, 0) != 0 || retain(&context, device) != 0 || use(context) != 0 ||
        allocate(&memory, size) != 0 || fill(memory, 1, size) != 0) {
        errno = ENOMEM;
        fail("GPU memory");
    }
}

static void start_helper(char *program, const char *where, char *gib) {
    int ends = strcmp(where, "ended") == 0;
    char *what = ends ? "ended" : gib != NULL ? "engine" : "helper";
    char *arguments[] = {program, what, gib != NULL ? "--gpu" : NULL, gib, NULL};
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, strcmp(where, "session") == 0 ? POSIX_SPAWN_SETSID : 0);
    pid_t helper;
    errno = posix_spawn(&helper, program, NULL, &attributes, arguments, environ);
    if (errno != 0 || (ends && waitpid(helper, NULL, 0) != helper)) {
        fail(program);
    }
    posix_spawnattr_destroy(&attributes);
}

static int32_t tier(void) {
    localai_parentwatch_info_t info = {.size = sizeof info};
    if (localai_parentwatch_status(&info) == LOCALAI_PARENTWATCH_INVALID) {
        fail("localai_parentwatch_status");
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

static int64_t kib_of(const char *path, const char *key) {
    static char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length < 0 ? 0 : length] = '\0';
    const char *line = strstr(text, key);
    if (line == NULL) {
        fail(path);
    }
    return strtoll(line + strlen(key), NULL, 10);
}

static void look(int64_t seen[LOOKED]) {
    seen[THREADS] = entries("/proc/self/task");
    seen[DESCRIPTORS] = entries("/proc/self/fd");
    /* written to, and shared with nobody */
    seen[DIRTY_KIB] = kib_of("/proc/self/smaps_rollup", "Private_Dirty:");
    seen[RSS_KIB] = kib_of("/proc/self/smaps_rollup", "Rss:");
    seen[VM_SIZE_KIB] = kib_of("/proc/self/status", "VmSize:");
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
    int64_t before[LOOKED], after[LOOKED];
    /* Twice: the first time, looking itself takes memory. */
    look(before);
    look(before);
    report.status = start_parent_death_watcher();
    settle();
    look(after);
    for (int i = 0; i < LOOKED; i++) {
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
    if (strcmp(guard, "ended") == 0) {
        return 0;
    }
    if (strcmp(guard, "helper") == 0) {
        signal(SIGTERM, SIG_IGN);
        ready.kind = HELPER_READY;
    } else if (strcmp(guard, "engine") == 0) {
        ready.kind = HELPER_READY;
    } else if (strcmp(guard, "pdeathsig") == 0) {
        if (prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) < 0) {
            fail("PR_SET_PDEATHSIG");
        }
    } else if (strcmp(guard, "watch") == 0) {
        ready.status = start_parent_death_watcher();
        ready.tier = tier();
    } else if (strcmp(guard, "thread") == 0) {
        start_waiting_thread();
    } else if (strcmp(guard, "nothing") == 0) {
    } else if (strcmp(guard, "pipe") == 0) {
        start_thread(read_the_death_pipe, NULL);
    } else if (strcmp(guard, "poll-2s") == 0) {
        start_poller(2000000000);
    } else if (strcmp(guard, "poll-100ms") == 0) {
        start_poller(100000000);
    } else {
        errno = EINVAL;
        fail(guard);
    }
    const char *helper = NULL;
    char *gib = NULL;
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--helper") == 0) {
            helper = argv[i + 1];
        } else if (strcmp(argv[i], "--mib") == 0) {
            hold((size_t)strtoul(argv[i + 1], NULL, 10) << 20);
        } else if (strcmp(argv[i], "--gpu") == 0) {
            gib = argv[i + 1];
        } else {
            errno = EINVAL;
            fail(argv[i]);
        }
    }
    if (helper != NULL) {
        start_helper(argv[0], helper, gib);
    } else if (gib != NULL) {
        hold_gpu(gib);
    }
    send_report(&ready);
    wait_for_the_end();
}

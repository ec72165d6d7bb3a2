/*
 * A helper of a worker, like vLLM's EngineCore, ffmpeg or a multiprocessing child. Its stdin is a pipe
 * that only the worker holds.
 *
 *   helper --report FD --name NAME [--ignores-term] [--tracks SHM] [--spins] [--hides] [--cleans MS] [--forks]
 *          [--threads]
 *
 * --hides: it is not dumpable, and has another title. --cleans: at SIGTERM it cleans up that long, and exits with
 * status 8. --forks: it starts a child in a new session every 300 µs, at most 5000. --threads: it has ten more
 * threads, and the last of them starts a child, in a new session, that ignores SIGTERM.
 *
 * --tracks: it does what Python's multiprocessing resource tracker does. It ignores SIGTERM and SIGINT,
 * and removes the shared memory at the end of its pipe, when the worker is gone.
 */
#define _GNU_SOURCE
#include "protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static int clean_ms;

static void clean(int number) {
    (void)number;
    usleep((unsigned)clean_ms * 1000);
    _exit(8);
}

static int report_fd = -1;
static sem_t has_child;

static void *idle(void *unused) {
    pause();
    return unused;
}

/* Starts a child from this thread. The kernel lists children by the thread that started them. */
static void *have_child(void *unused) {
    if (fork() == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        struct pollfd driver = {report_fd, 0, 0};
        while (poll(&driver, 1, -1) != 1) {
        }
        _exit(3);
    }
    sem_post(&has_child);
    return idle(unused);
}

static void have_threads(void) {
    sem_init(&has_child, 0, 0);
    for (int i = 0; i < 10; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, i == 9 ? have_child : idle, NULL) != 0) {
            fail("pthread_create");
        }
    }
    while (sem_wait(&has_child) < 0) {
    }
}

int main(int argc, char **argv) {
    enum { REPORT, NAME, IGNORES_TERM, TRACKS, SPINS, HIDES, CLEANS, FORKS, HAS_THREADS };
    static const struct option options[] = {{"report", required_argument, NULL, REPORT},
                                            {"name", required_argument, NULL, NAME},
                                            {"ignores-term", no_argument, NULL, IGNORES_TERM},
                                            {"tracks", required_argument, NULL, TRACKS},
                                            {"spins", no_argument, NULL, SPINS},
                                            {"hides", no_argument, NULL, HIDES},
                                            {"cleans", required_argument, NULL, CLEANS},
                                            {"forks", no_argument, NULL, FORKS},
                                            {"threads", no_argument, NULL, HAS_THREADS},
                                            {NULL, 0, NULL, 0}};
    const char *name = "helper";
    const char *shared_memory = NULL;
    bool spins = false, forks = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case REPORT:
            report_fd = atoi(optarg);
            break;
        case NAME:
            name = optarg;
            break;
        case IGNORES_TERM:
            signal(SIGTERM, SIG_IGN);
            break;
        case TRACKS:
            shared_memory = optarg;
            signal(SIGTERM, SIG_IGN);
            signal(SIGINT, SIG_IGN);
            int object = shm_open(shared_memory, O_CREAT | O_EXCL | O_RDWR, 0600);
            if (object < 0 || ftruncate(object, 4096) < 0) {
                fail(shared_memory);
            }
            close(object);
            break;
        case SPINS:
            spins = true;
            break;
        case HIDES:
            prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L);
            prctl(PR_SET_NAME, "another title");
            memset(argv[0], 'x', strlen(argv[0]));
            break;
        case CLEANS:
            clean_ms = atoi(optarg);
            signal(SIGTERM, clean);
            break;
        case FORKS:
            forks = true;
            break;
        case HAS_THREADS:
            have_threads();
            break;
        default:
            return 2;
        }
    }
    for (int child = 0; forks && child < 5000; child++) {
        if (child == 20) {
            report(report_fd, "{\"name\":\"%s\",\"event\":\"ready\",\"pid\":%d,\"pgid\":%d}", name, (int)getpid(),
                   (int)getpgrp());
        }
        struct pollfd driver = {report_fd, 0, 0};
        if (poll(&driver, 1, 0) == 1) {
            return 3;
        }
        if (fork() == 0) {
            setsid();
            forks = false;
            while (poll(&driver, 1, -1) != 1) {
            }
            return 3;
        }
        usleep(300);
    }
    report(report_fd, "{\"name\":\"%s\",\"event\":\"ready\",\"pid\":%d,\"pgid\":%d}", name,
           (int)getpid(), (int)getpgrp());
    for (;;) {
        /* The driver has ended, and the tree with it. */
        struct pollfd waits[] = {{report_fd, 0, 0}, {shared_memory != NULL ? 0 : -1, POLLIN, 0}};
        if (poll(waits, 2, spins ? 0 : -1) < 0) {
            continue;
        }
        if (waits[1].revents) {
            char byte;
            if (read(0, &byte, 1) == 0) {
                shm_unlink(shared_memory);
                return 0;
            }
        }
        if (waits[0].revents & (POLLHUP | POLLERR)) {
            return 3;
        }
        for (volatile unsigned turn = 0; spins && turn < 50000000; turn++) {
        }
    }
}

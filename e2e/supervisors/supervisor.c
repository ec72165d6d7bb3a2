/*
 * A supervisor. It starts the children that the driver requests, and then dies or lives on in every way that a real
 * supervisor can. It also takes the other roles above a worker: subreaper, init of a PID namespace, or an intermediate
 * process that exits.
 *
 *   supervisor --report FD --name NAME [--subreaper] [--leaves-zombies] [--names-itself token|pid]
 *
 * Every child leads a new process group, as LocalAI's workers do. Only the request spawn-in-group starts a child in the
 * supervisor's group.
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *name = "supervisor";
static int report_fd = -1;
static int listener = -1;
static int child_signals = -1;
static bool reaps = true;

static answer_fn answer;

static pid_t spawn(char **command, bool own_group) {
    int failure[2];
    if (pipe2(failure, O_CLOEXEC) < 0) {
        fail("pipe");
    }
    pid_t child = fork();
    if (child < 0) {
        fail("fork");
    }
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (own_group) {
            setpgid(0, 0);
        }
        execvp(command[0], command);
        int error = errno;
        if (write(failure[1], &error, sizeof error) < 0) {
            _exit(126);
        }
        _exit(127);
    }
    if (own_group) {
        setpgid(child, child);
    }
    close(failure[1]);
    int error = 0;
    ssize_t got = read(failure[0], &error, sizeof error);
    close(failure[0]);
    if (got != 0) {
        errno = error;
        fail(command[0]);
    }
    return child;
}

static void reap_children(void) {
    struct signalfd_siginfo ignored;
    while (read(child_signals, &ignored, sizeof ignored) > 0) {
    }
    int status;
    pid_t child;
    while (reaps && (child = waitpid(-1, &status, WNOHANG)) > 0) {
        report(report_fd, "{\"name\":\"%s\",\"event\":\"reaped\",\"pid\":%d,\"status\":%d}", name,
               (int)child, status);
    }
}

/* Serves until the driver is gone. Then it exits, so that no process of the tree is left. */
static void serve(void) {
    for (;;) {
        struct pollfd waits[] = {{listener, POLLIN, 0},
                                 {child_signals, POLLIN, 0},
                                 {report_fd, 0, 0}};
        if (poll(waits, 3, -1) < 0) {
            continue;
        }
        if (waits[2].revents & (POLLHUP | POLLERR)) {
            _exit(3);
        }
        if (waits[1].revents) {
            reap_children();
        }
        if (waits[0].revents) {
            serve_one(listener, answer);
        }
    }
}

static void *serve_in_thread(void *unused) {
    (void)unused;
    serve();
    return NULL;
}

/* The thread that has spawned a worker. It lives until the request end-spawning-thread. */
static struct {
    pthread_t thread;
    char **command;
    pid_t child;
    sem_t spawned;
    sem_t ends;
} spawner;

static void *spawn_in_thread(void *unused) {
    (void)unused;
    spawner.child = spawn(spawner.command, true);
    sem_post(&spawner.spawned);
    while (sem_wait(&spawner.ends) < 0) {
    }
    return NULL;
}

static void *exec_in_thread(void *command) {
    char **words = command;
    execvp(words[0], words);
    fail(words[0]);
}

static void unblock_child_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void answer(int connection, int count, char **words) {
    const char *request = words[0];
    if (strcmp(request, "ping") == 0) {
        reply(connection, "{\"pid\":%d,\"ppid\":%d}", (int)getpid(), (int)getppid());
    } else if (strcmp(request, "spawn") == 0 && count > 1) {
        reply(connection, "{\"pid\":%d}", (int)spawn(words + 1, true));
    } else if (strcmp(request, "spawn-in-group") == 0 && count > 1) {
        reply(connection, "{\"pid\":%d}", (int)spawn(words + 1, false));
    } else if (strcmp(request, "spawn-from-thread") == 0 && count > 1) {
        spawner.command = words + 1;
        if (pthread_create(&spawner.thread, NULL, spawn_in_thread, NULL) != 0) {
            fail("pthread_create");
        }
        while (sem_wait(&spawner.spawned) < 0) {
        }
        reply(connection, "{\"pid\":%d}", (int)spawner.child);
    } else if (strcmp(request, "end-spawning-thread") == 0) {
        sem_post(&spawner.ends);
        pthread_join(spawner.thread, NULL);
        reply(connection, "{}");
    } else if (strcmp(request, "exit") == 0) {
        reply(connection, "{}");
        exit(0);
    } else if (strcmp(request, "crash") == 0) {
        reply(connection, "{}");
        volatile int *volatile nowhere = NULL;
        *nowhere = 0;
    } else if (strcmp(request, "exec") == 0 && count > 1) {
        reply(connection, "{}");
        unblock_child_signal();
        execvp(words[1], words + 1);
        fail(words[1]);
    } else if (strcmp(request, "exec-from-thread") == 0 && count > 1) {
        reply(connection, "{}");
        unblock_child_signal();
        pthread_t thread;
        if (pthread_create(&thread, NULL, exec_in_thread, words + 1) != 0) {
            fail("pthread_create");
        }
        pthread_join(thread, NULL);
    } else if (strcmp(request, "fill") == 0 && count > 1) {
        /* Replies first: touching every page may take longer than the driver waits. */
        reply(connection, "{}");
        if (mmap(NULL, strtoull(words[1], NULL, 10), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED) {
            fail("mmap");
        }
    } else if (strcmp(request, "setuid") == 0 && count > 1) {
        reply(connection, "{\"result\":%d}", setuid((uid_t)atoi(words[1])));
    } else if (strcmp(request, "leave-main-thread") == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve_in_thread, NULL) != 0) {
            fail("pthread_create");
        }
        reply(connection, "{}");
        close(connection);
        pthread_exit(NULL);
    } else {
        fail(request);
    }
}

int main(int argc, char **argv) {
    enum { REPORT, NAME, SUBREAPER, LEAVES_ZOMBIES, NAMES_ITSELF };
    static const struct option options[] = {{"report", required_argument, NULL, REPORT},
                                            {"name", required_argument, NULL, NAME},
                                            {"subreaper", no_argument, NULL, SUBREAPER},
                                            {"leaves-zombies", no_argument, NULL, LEAVES_ZOMBIES},
                                            {"names-itself", required_argument, NULL, NAMES_ITSELF},
                                            {NULL, 0, NULL, 0}};
    char token[128];
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case REPORT:
            report_fd = atoi(optarg);
            break;
        case NAME:
            name = optarg;
            break;
        case SUBREAPER:
            if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) < 0) {
                fail("PR_SET_CHILD_SUBREAPER");
            }
            break;
        case LEAVES_ZOMBIES:
            reaps = false;
            break;
        case NAMES_ITSELF:
            own_token(token, sizeof token, strcmp(optarg, "token") == 0);
            setenv("LOCALAI_BACKEND_PARENT_PID", token, 1);
            break;
        default:
            return 2;
        }
    }
    /* One scenario needs a crash, but never its core file. */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    sem_init(&spawner.spawned, 0, 0);
    sem_init(&spawner.ends, 0, 0);
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    child_signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    uint16_t port;
    listener = listen_on_loopback(&port);
    report(report_fd, "{\"name\":\"%s\",\"event\":\"serving\",\"pid\":%d,\"port\":%u}", name,
           (int)getpid(), port);
    serve();
}

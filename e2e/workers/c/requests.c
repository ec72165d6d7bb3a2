#define _GNU_SOURCE
#include "requests.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct library library = {localai_parentwatch_start, localai_parentwatch_status, localai_parentwatch_token,
                          localai_parentwatch_status_text};
localai_parentwatch_options_t options = {.size = sizeof options};
const char *library_path;

static const char *name = "worker";
static const char *when = "first";
static int report_fd = -1;
static int listener = -1;
static arm_fn *arm;
static answer_fn *answer;

static void serving(const char *status) {
    uint16_t port;
    listener = listen_on_loopback(&port);
    report(report_fd, "{\"name\":\"%s\",\"event\":\"serving\",\"pid\":%d,\"port\":%u,\"status\":\"%s\"}",
           name, (int)getpid(), port, status);
}

static void hook_returns(void *unused) {
    (void)unused;
    report(report_fd, "{\"name\":\"%s\",\"event\":\"hook\"}", name);
}

void hang(void) {
    for (;;) {
        pause();
    }
}

static void hook_hangs(void *unused) {
    hook_returns(unused);
    hang();
}

static void hook_leaves(void *unused) {
    hook_returns(unused);
    _exit(7);
}

static void hook_crashes(void *unused) {
    hook_returns(unused);
    abort();
}

/* The hook that the option --hook names. */
static localai_parentwatch_on_death_t hook_named(const char *mode) {
    static const struct {
        const char *mode;
        localai_parentwatch_on_death_t hook;
    } hooks[] = {{"return", hook_returns},
                 {"hang", hook_hangs},
                 {"leave", hook_leaves},
                 {"crash", hook_crashes}};
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++) {
        if (strcmp(mode, hooks[i].mode) == 0) {
            return hooks[i].hook;
        }
    }
    fail("--hook");
    return NULL;
}

static void answer_info(int connection) {
    static const char *const tiers[] = {"none", "event", "poll"};
    static const char *const scopes[] = {"default", "group", "process", "tree"};
    localai_parentwatch_info_t info = {.size = sizeof info};
    if (library.status(&info) == LOCALAI_PARENTWATCH_INVALID || info.tier < 0 || info.tier > 2 || info.scope < 0 ||
        info.scope > 3) {
        fail("info");
    }
    reply(connection,
          "{\"state\":\"%s\",\"tier\":\"%s\",\"watched\":[%d,%d],\"scope\":\"%s\","
          "\"interval_ns\":%" PRIu64 ",\"grace_ns\":%" PRIu64 "}",
          library.status_text(info.state), tiers[info.tier], info.watched_pids[0],
          info.watched_pids[1], scopes[info.scope], info.interval_ns, info.grace_ns);
}

static void answer_start(int connection, char **command) {
    int lifeline[2];
    if (pipe2(lifeline, O_CLOEXEC) < 0) {
        fail("pipe");
    }
    pid_t child = fork();
    if (child < 0) {
        fail("fork");
    }
    if (child == 0) {
        dup2(lifeline[0], 0);
        execvp(command[0], command);
        _exit(127);
    }
    close(lifeline[0]);
    reply(connection, "{\"pid\":%d}", (int)child);
}

static void answer_fork(int connection) {
    pid_t child = fork();
    if (child < 0) {
        fail("fork");
    }
    if (child > 0) {
        reply(connection, "{\"pid\":%d}", (int)child);
        return;
    }
    close(connection);
    close(listener);
    name = "child";
    serving("not_started");
    for (;;) {
        serve_one(listener, answer);
    }
}

static void handle_signal(int number) {
    (void)number;
    static const char text[] = "{\"name\":\"worker\",\"event\":\"handled\"}";
    send(report_fd, text, sizeof text - 1, MSG_NOSIGNAL);
}

static void *wait_for_signal(void *set) {
    int number;
    while (sigwait(set, &number) == 0) {
        report(report_fd, "{\"name\":\"%s\",\"event\":\"waited\"}", name);
    }
    return NULL;
}

static void answer_handle(int connection) {
    static sigset_t waited;
    struct sigaction action = {.sa_handler = handle_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&waited);
    sigaddset(&waited, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &waited, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_signal, &waited) != 0) {
        fail("pthread_create");
    }
    reply(connection, "{}");
}

static void *idle(void *unused) {
    (void)unused;
    hang();
    return NULL;
}

static void answer_threads(int connection, int count) {
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, idle, NULL) != 0) {
            fail("pthread_create");
        }
    }
    reply(connection, "{}");
}

/* Loads another copy of the library, which has its own state, and calls its start. */
static void answer_arm_copy(int connection, const char *path) {
    void *copy = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    int32_t (*start)(const localai_parentwatch_options_t *) = NULL;
    if (copy != NULL) {
        *(void **)&start = dlsym(copy, "localai_parentwatch_start");
    }
    if (start == NULL) {
        dprintf(2, "worker: %s\n", dlerror());
        _exit(2);
    }
    reply(connection, "{\"status\":\"%s\"}", library.status_text(start(NULL)));
}

static void *serve_in_thread(void *unused) {
    for (;;) {
        serve_one(listener, answer);
    }
    return unused;
}

static void answer_leave_main_thread(int connection) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve_in_thread, NULL) != 0) {
        fail("pthread_create");
    }
    reply(connection, "{}");
    close(connection);
    pthread_exit(NULL);
}

static int drain_ms;

static void drain(int number) {
    (void)number;
    const struct timespec time = {drain_ms / 1000, drain_ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
    _exit(9);
}

static void answer_replace(int connection, int target, const char *pid) {
    int source;
    if (pid != NULL) {
        source = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
    } else {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0 || write(ends[1], "x", 1) != 1) {
            fail("pipe");
        }
        source = ends[0];
    }
    if (source < 0 || dup2(source, target) < 0) {
        fail("replace");
    }
    reply(connection, "{}");
}

void answer_shared(int connection, int count, char **words) {
    const char *request = words[0];
    char token[128];
    if (strcmp(request, "ping") == 0) {
        reply(connection, "{\"pid\":%d,\"ppid\":%d}", (int)getpid(), (int)getppid());
    } else if (strcmp(request, "info") == 0) {
        answer_info(connection);
    } else if (strcmp(request, "arm") == 0) {
        reply(connection, "{\"status\":\"%s\"}", arm());
    } else if (strcmp(request, "token") == 0) {
        int32_t length = library.token(token, sizeof token);
        reply(connection, "{\"token\":\"%s\"}", length > 0 ? token : "");
    } else if (strcmp(request, "start") == 0 && count > 1) {
        answer_start(connection, words + 1);
    } else if (strcmp(request, "fork") == 0) {
        answer_fork(connection);
    } else if (strcmp(request, "handle") == 0) {
        answer_handle(connection);
    } else if (strcmp(request, "setuid") == 0 && count > 1) {
        reply(connection, "{\"result\":%d}", setuid((uid_t)atoi(words[1])));
    } else if (strcmp(request, "threads") == 0 && count > 1) {
        answer_threads(connection, atoi(words[1]));
    } else if (strcmp(request, "arm-copy") == 0 && count > 1) {
        answer_arm_copy(connection, words[1]);
    } else if (strcmp(request, "leave-main-thread") == 0) {
        answer_leave_main_thread(connection);
    } else if (strcmp(request, "drain") == 0 && count > 1) {
        drain_ms = atoi(words[1]);
        signal(SIGTERM, drain_ms < 0 ? SIG_IGN : drain);
        reply(connection, "{}");
    } else if (strcmp(request, "replace") == 0 && count > 1) {
        answer_replace(connection, atoi(words[1]), words[2]);
    } else if (strcmp(request, "close") == 0 && count > 1) {
        close(atoi(words[1]));
        reply(connection, "{}");
    } else {
        fail(request);
    }
}

void read_command_line(int argc, char **argv) {
    enum { REPORT, NAME, ARM, HOOK, GRACE, LIBRARY };
    static const struct option command_line[] = {{"report", required_argument, NULL, REPORT},
                                                 {"name", required_argument, NULL, NAME},
                                                 {"arm", required_argument, NULL, ARM},
                                                 {"hook", required_argument, NULL, HOOK},
                                                 {"grace", required_argument, NULL, GRACE},
                                                 {"library", required_argument, NULL, LIBRARY},
                                                 {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", command_line, NULL)) != -1) {
        switch (option) {
        case REPORT:
            report_fd = atoi(optarg);
            break;
        case NAME:
            name = optarg;
            break;
        case ARM:
            when = optarg;
            break;
        case HOOK:
            options.on_death = hook_named(optarg);
            break;
        case GRACE:
            options.grace_ns = strtoull(optarg, NULL, 10) * 1000000;
            break;
        case LIBRARY:
            library_path = optarg;
            break;
        default:
            _exit(2);
        }
    }
}

void run_worker(arm_fn *language_arm, answer_fn *language_answer) {
    /* Memory that a reaper must release. Volatile, or clang leaves the call out. */
    static void *volatile memory;
    memory = calloc(1, 4 << 20);
    if (memory == NULL) {
        fail("calloc");
    }
    arm = language_arm;
    answer = language_answer;
    serving(strcmp(when, "first") == 0 ? arm() : "not_started");
    for (;;) {
        serve_one(listener, answer);
    }
}

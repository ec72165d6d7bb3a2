/*
 * The worker in C. Every language's worker has this command line and answers these requests, so
 * that one scenario is one process tree over all of them.
 *
 *   worker --report FD --name NAME [--arm first|request] [--hook return|hang] [--grace MS]
 *          [--library PATH]
 *
 * --arm first (the default) arms as the first thing in main, before the port is opened; --arm
 * request leaves it to the request. --hook gives a hook, which reports that it runs and then
 * returns or hangs. --library (C only) loads the library at run time instead of the one that is
 * linked.
 *
 *   ping             {"pid", "ppid"}
 *   info             {"state", "tier", "watched", "scope", "interval_ns", "grace_ns"}
 *   arm              {"status"}: calls start
 *   arm-from-threads {"statuses": […]}: 16 threads call start at once
 *   arm-in-thread    {}: another thread calls start; nobody waits for it
 *   token            {"token"}: the token of this process
 *   start CMD …      {"pid"}: a helper in the worker's own group, its stdin a pipe held by the worker
 *   fork             {"pid"}: a child that goes on as a worker of its own, named child, not armed
 *   handle           {}: SIGUSR1 gets a handler, which reports; SIGUSR2 is blocked, and a sigwait
 *                    thread reports it
 *   setuid UID       {"result"}
 *   replace FD       {}: a readable pipe is put over the descriptor by dup2
 *   replace FD PID   {}: a pidfd on another process is put over it
 *   close FD         {}
 *   flood            {}: four threads write to the language's own stderr for ever
 *   resist           {}: exit handlers and the handler of SIGTERM never return
 *   unload           {}: dlclose (with --library)
 *   reload           {}: dlopen again (with --library)
 */
#define _GNU_SOURCE
#include "localai_parentwatch.h"
#include "protocol.h"

#include <dlfcn.h>
#include <errno.h>
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
#include <unistd.h>

enum { THREADS = 16 };

/* The library's functions: as linked, or as loaded by --library. */
static struct {
    int32_t (*start)(const localai_parentwatch_options_t *);
    int32_t (*info)(localai_parentwatch_info_t *);
    int32_t (*token)(char *, size_t);
    const char *(*status_text)(int32_t);
} library = {localai_parentwatch_start, localai_parentwatch_info, localai_parentwatch_token,
             localai_parentwatch_status_text};
static const char *library_path;
static void *library_handle;

static const char *name = "worker";
static int report_fd = -1;
static int listener = -1;
static answer_fn answer;
static localai_parentwatch_options_t options = {.size = sizeof options};

static void load(void) {
    library_handle = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    if (library_handle == NULL) {
        dprintf(2, "worker: %s\n", dlerror());
        _exit(2);
    }
    *(void **)&library.start = dlsym(library_handle, "localai_parentwatch_start");
    *(void **)&library.info = dlsym(library_handle, "localai_parentwatch_info");
    *(void **)&library.token = dlsym(library_handle, "localai_parentwatch_token");
    *(void **)&library.status_text = dlsym(library_handle, "localai_parentwatch_status_text");
    if (!library.start || !library.info || !library.token || !library.status_text) {
        dprintf(2, "worker: %s\n", dlerror());
        _exit(2);
    }
}

static void unload(void) {
    memset(&library, 0, sizeof library);
    if (dlclose(library_handle) != 0) {
        dprintf(2, "worker: %s\n", dlerror());
        _exit(2);
    }
}

static const char *arm(void) {
    return library.status_text(library.start(&options));
}

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

static void hang(void) {
    for (;;) {
        pause();
    }
}

static void hook_hangs(void *unused) {
    hook_returns(unused);
    hang();
}

static void answer_info(int connection) {
    static const char *const tiers[] = {"none", "event", "poll"};
    static const char *const scopes[] = {"default", "group", "process"};
    localai_parentwatch_info_t info = {.size = sizeof info};
    if (library.info(&info) != 0 || info.tier < 0 || info.tier > 2 || info.scope < 0 ||
        info.scope > 2) {
        fail("info");
    }
    reply(connection,
          "{\"state\":\"%s\",\"tier\":\"%s\",\"watched\":[%d,%d],\"scope\":\"%s\","
          "\"interval_ns\":%" PRIu64 ",\"grace_ns\":%" PRIu64 "}",
          library.status_text(info.state), tiers[info.tier], info.watched_pids[0],
          info.watched_pids[1], scopes[info.scope], info.interval_ns, info.grace_ns);
}

static pthread_barrier_t barrier;

static void *arm_at_once(void *status) {
    pthread_barrier_wait(&barrier);
    *(const char **)status = arm();
    return NULL;
}

static void answer_arm_from_threads(int connection) {
    pthread_t threads[THREADS];
    const char *statuses[THREADS];
    char list[1024] = "";
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, arm_at_once, &statuses[i]) != 0) {
            fail("pthread_create");
        }
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i == 0 ? "" : ",", statuses[i]);
    }
    reply(connection, "{\"statuses\":[%s]}", list);
}

static void *arm_in_thread(void *unused) {
    arm();
    return unused;
}

static void answer_arm_in_thread(int connection) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, arm_in_thread, NULL) != 0) {
        fail("pthread_create");
    }
    pthread_detach(thread);
    reply(connection, "{}");
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

static void hang_in_handler(int number) {
    (void)number;
    hang();
}

static void answer_resist(int connection) {
    struct sigaction action = {.sa_handler = hang_in_handler};
    sigaction(SIGTERM, &action, NULL);
    atexit(hang);
    reply(connection, "{}");
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

static void *flood(void *unused) {
    for (;;) {
        fputs("the host logs without end, line after line after line after line after line\n",
              stderr);
    }
    return unused;
}

static void answer_flood(int connection) {
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, flood, NULL) != 0) {
            fail("pthread_create");
        }
    }
    reply(connection, "{}");
}

static void answer(int connection, int count, char **words) {
    const char *request = words[0];
    char token[128];
    if (strcmp(request, "ping") == 0) {
        reply(connection, "{\"pid\":%d,\"ppid\":%d}", (int)getpid(), (int)getppid());
    } else if (strcmp(request, "info") == 0) {
        answer_info(connection);
    } else if (strcmp(request, "arm") == 0) {
        reply(connection, "{\"status\":\"%s\"}", arm());
    } else if (strcmp(request, "arm-from-threads") == 0) {
        answer_arm_from_threads(connection);
    } else if (strcmp(request, "arm-in-thread") == 0) {
        answer_arm_in_thread(connection);
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
    } else if (strcmp(request, "replace") == 0 && count > 1) {
        answer_replace(connection, atoi(words[1]), words[2]);
    } else if (strcmp(request, "close") == 0 && count > 1) {
        close(atoi(words[1]));
        reply(connection, "{}");
    } else if (strcmp(request, "flood") == 0) {
        answer_flood(connection);
    } else if (strcmp(request, "resist") == 0) {
        answer_resist(connection);
    } else if (strcmp(request, "unload") == 0) {
        unload();
        reply(connection, "{}");
    } else if (strcmp(request, "reload") == 0) {
        load();
        reply(connection, "{}");
    } else {
        fail(request);
    }
}

int main(int argc, char **argv) {
    enum { REPORT, NAME, ARM, HOOK, GRACE, LIBRARY };
    static const struct option command_line[] = {{"report", required_argument, NULL, REPORT},
                                                 {"name", required_argument, NULL, NAME},
                                                 {"arm", required_argument, NULL, ARM},
                                                 {"hook", required_argument, NULL, HOOK},
                                                 {"grace", required_argument, NULL, GRACE},
                                                 {"library", required_argument, NULL, LIBRARY},
                                                 {NULL, 0, NULL, 0}};
    const char *when = "first";
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
            options.on_death = strcmp(optarg, "hang") == 0 ? hook_hangs : hook_returns;
            break;
        case GRACE:
            options.grace_ns = strtoull(optarg, NULL, 10) * 1000000;
            break;
        case LIBRARY:
            library_path = optarg;
            break;
        default:
            return 2;
        }
    }
    if (library_path != NULL) {
        load();
    }
    serving(strcmp(when, "first") == 0 ? arm() : "not_started");
    for (;;) {
        serve_one(listener, answer);
    }
}

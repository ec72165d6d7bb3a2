/*
 * Measures, and prints every sample as a line of CSV: measure,run,case,guard,value. Times are in nanoseconds.
 *
 *   driver --program PATH [--against FOLDER] [--resident GIB[,GIB...]] [--runs N] [--rounds N] [--helpers N]
 *          [--faces N] [--crowds N] [--exec-crowds N] [--polled N] [--arming N] [--idle SECONDS] [--settle-us N]
 *          [--mib N]
 *
 *   measure    case        value
 *   latency    situation   from the kill of the supervisor until the worker was reaped
 *   helper     situation   ... until its helper was gone; "inf": it stayed
 *   face       leader      as latency, for every face and for the other ways to see the death by an event
 *   poller     leader      as latency, for what polls; "inf": no watcher, the worker stayed
 *   crowd      workers     from the kill until the last of so many workers was gone
 *   resident   GiB         as latency, with a supervisor that holds so much memory
 *   arming     unnamed|named          how long one process took to arm; named: the supervisor's token is set
 *   import                            Python: importing the package, in the same process
 *   added      one of `looked`        what arming added to one process
 *   added      page faults (KiB)     the minor faults of arming, times the size of a page
 *   start                             from the start of `true` until it was reaped
 *   guardian   resident (KiB)        of one guardian
 *   wakeups    seconds                context switches that all threads of an idle worker made on their own
 *   preempted  seconds                and the others
 *   cpu        seconds                and their processor time; "nan": the kernel does not tell
 *
 * The guards are in the table GUARDS. It is a subreaper, so that it can reap what a killed supervisor leaves. It
 * sleeps on a pidfd until that has ended: spinning would take a processor from those who are measured.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <localai_parentwatch.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define INTERVAL_NS 2000000000 /* of the slowest poller */
/* Nothing takes as long. */
#define DEADLINE_S 120
#define MAX_POLLED 64
#define MAX_WORKERS 1000
#define MAX_SIZES 16
/* A helper that the library is to end is gone by then: it has 1 s between its two signals. */
#define NEVER_MS 3000
/* What the runtimes of Go and Python do after their worker is ready is over by then. */
#define RUNTIME_SETTLES_NS 20000000

static struct {
    const char *against;
    long runs, rounds, helpers, faces, crowds, exec_crowds, polled, arming, idle, settle_us, mib;
    long resident[MAX_SIZES];
    int sizes;
} options = {.runs = 5,
             .rounds = 40,
             .helpers = 1,
             .faces = 30,
             .crowds = 2,
             .exec_crowds = 1,
             .polled = 10,
             .arming = 40,
             .idle = 6,
             .settle_us = 2000};

/* Where the programs are, and the file that is their stderr. */
static char folder[PATH_MAX];
static int log_fd;
/* localai-parentwatch, the program. */
static char program[PATH_MAX + 24];

struct situation {
    const char *name;
    const char *spawn;  /* the supervisor's word for how it starts a worker */
    const char *helper; /* the worker's word for what helper it has */
    bool helper_lives;
};

enum { ALONE, LEADER };
static const struct situation SITUATIONS[] = {
    [ALONE] = {"alone", "shared", NULL, false},
    [LEADER] = {"leader", "group", NULL, false},
    {"had-child", "group", "ended", false},
    {"helper", "group", "group", true},
    {"session-helper", "group", "session", true},
    {"session", "session", NULL, false},
};
enum { NUMBER_OF_SITUATIONS = sizeof SITUATIONS / sizeof *SITUATIONS };

enum worker { C_SHARED, C_STATIC, GO, PYTHON };

struct guard {
    const char *name;
    const char *argument; /* the worker's word for it */
    enum worker worker;
    bool older_library;
    bool refuse;  /* pidfd_open(2) is refused */
    bool by_exec; /* the worker, which arms nothing, is run by `localai-parentwatch exec` */
    bool reap;    /* it takes a supervisor for alive until that is reaped */
};

static const struct guard PDEATHSIG = {.name = "pdeathsig", .argument = "pdeathsig"};
static const struct guard PIPE = {.name = "pipe", .argument = "pipe"};
static const struct guard THREAD = {.name = "thread", .argument = "thread"};
static const struct guard PSUTIL = {.name = "psutil", .argument = "psutil", .worker = PYTHON, .reap = true};
static const struct guard SHARED = {.name = "c-shared", .argument = "watch"};
static const struct guard STATIC = {.name = "c-static", .argument = "watch", .worker = C_STATIC};
static const struct guard BEFORE = {.name = "before", .argument = "watch", .older_library = true};
static const struct guard BY_GO = {.name = "go", .argument = "watch", .worker = GO};
static const struct guard BY_PYTHON = {.name = "python", .argument = "watch", .worker = PYTHON};
static const struct guard EXEC = {.name = "exec", .argument = "nothing", .by_exec = true};
static const struct guard POLL_TIER = {.name = "poll-tier", .argument = "watch", .refuse = true};
static const struct guard GETPPID = {.name = "getppid-2s", .argument = "poll-2s"};
static const struct guard GETPPID_FAST = {.name = "getppid-100ms", .argument = "poll-100ms"};
static const struct guard IPYKERNEL = {.name = "ipykernel", .argument = "ipykernel", .worker = PYTHON};
static const struct guard NOTHING = {.name = "nothing", .argument = "nothing"};

/* Those that are compared in every situation; the last one only with --against. */
static const struct guard *const GUARDS[] = {&PDEATHSIG, &SHARED, &EXEC, &BEFORE};
enum { MOST_GUARDS = sizeof GUARDS / sizeof *GUARDS };

static int number_of_guards(void) { return options.against == NULL ? MOST_GUARDS - 1 : MOST_GUARDS; }

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

struct tree {
    pid_t supervisor;
    pid_t worker;
    bool reap;
    int worker_fd; /* pidfds */
    int helper_fd;
    int64_t killed_at;
};

/* ------------------------------------------------------------------------------------- processes */

/* Nothing here takes long. Should something hang, the driver ends, and so everybody at the lifeline. */
static void watchdog(int signal) {
    (void)signal;
    static const char text[] = "bench: something did not happen within two minutes\n";
    ssize_t written = write(2, text, sizeof text - 1);
    _exit(written < 0 ? 3 : 2);
}

static int pidfd_open(pid_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        fail("pidfd_open");
    }
    return fd;
}

/* Starts a program of ours; its stdout is a pipe, whose other end is returned. */
static int start(pid_t *pid, char **arguments) {
    int report[2];
    posix_spawn_file_actions_t actions;
    if (pipe2(report, O_CLOEXEC) < 0) {
        fail("pipe2");
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, report[1], 1);
    posix_spawn_file_actions_adddup2(&actions, log_fd, 2);
    errno = posix_spawn(pid, arguments[0], &actions, NULL, arguments, environ);
    if (errno != 0) {
        fail(arguments[0]);
    }
    posix_spawn_file_actions_destroy(&actions);
    close(report[1]);
    return report[0];
}

static struct report receive(int fd) {
    struct report report;
    ssize_t length = read(fd, &report, sizeof report);
    if (length != (ssize_t)sizeof report) {
        dprintf(2, "bench: a process ended before it was ready; see %s/stderr.log\n", folder);
        _exit(2);
    }
    return report;
}

static void expect_armed(const struct report *report, int32_t tier) {
    if (report->status != LOCALAI_PARENTWATCH_ARMED || report->tier != tier) {
        dprintf(2, "bench: a worker is %s, tier %d; expected armed, tier %d\n",
                localai_parentwatch_status_text(report->status), report->tier, tier);
        _exit(2);
    }
}

/* Which library the workers load that are started from here on: LD_LIBRARY_PATH goes before their RUNPATH. */
static void choose_library(const struct guard *guard) {
    if (guard->older_library) {
        setenv("LD_LIBRARY_PATH", options.against, 1);
    } else {
        unsetenv("LD_LIBRARY_PATH");
    }
}

struct command {
    char *arguments[24];
    int count;
    char interpreter[PATH_MAX + 24], worker[PATH_MAX + 16];
};

static void add(struct command *command, const char *argument) {
    command->arguments[command->count++] = (char *)argument;
}

static void add_worker(struct command *command, const struct guard *guard, const char *what) {
    static const char *const names[] = {
        [C_SHARED] = "worker", [C_STATIC] = "worker-static", [GO] = "worker-go", [PYTHON] = "worker.py"};
    snprintf(command->interpreter, sizeof command->interpreter, "%s/python/bin/python", folder);
    snprintf(command->worker, sizeof command->worker, "%s/%s", folder, names[guard->worker]);
    if (guard->worker == PYTHON) {
        add(command, command->interpreter);
    }
    add(command, command->worker);
    add(command, what);
}

/* A supervisor that holds so many GiB and starts so many workers; where their reports come from. */
static int start_supervisor(pid_t *pid, const struct situation *situation, const struct guard *guard, int workers,
                            long gib) {
    struct command command = {0};
    char supervisor[PATH_MAX + 16], mib[24], number[24], held[24];
    snprintf(supervisor, sizeof supervisor, "%s/supervisor", folder);
    snprintf(mib, sizeof mib, "%ld", options.mib);
    snprintf(number, sizeof number, "%d", workers);
    snprintf(held, sizeof held, "%ld", gib);
    add(&command, supervisor);
    if (guard->refuse) {
        add(&command, "--refuse-pidfd-open");
    }
    if (guard == &PIPE) {
        add(&command, "--death-pipe");
    }
    if (gib > 0) {
        add(&command, "--hold-gib");
        add(&command, held);
    }
    add(&command, number);
    add(&command, situation->spawn);
    if (guard->by_exec) {
        add(&command, program);
        add(&command, "exec");
        add(&command, "--");
    }
    add_worker(&command, guard, guard->argument);
    if (options.mib > 0 && guard->worker != GO && guard->worker != PYTHON) {
        add(&command, "--mib");
        add(&command, mib);
    }
    if (situation->helper != NULL) {
        add(&command, "--helper");
        add(&command, situation->helper);
    }
    choose_library(guard);
    return start(pid, command.arguments);
}

/* A whole tree, ready and asleep when this returns but for what `settle` is there for. */
static struct tree start_tree(const struct situation *situation, const struct guard *guard, long gib) {
    alarm(DEADLINE_S);
    struct tree tree = {.reap = guard->reap, .worker_fd = -1, .helper_fd = -1};
    int from = start_supervisor(&tree.supervisor, situation, guard, 1, gib);
    for (int left = situation->helper_lives ? 2 : 1; left > 0; left--) {
        struct report report = receive(from);
        if (report.kind == HELPER_READY) {
            tree.helper_fd = pidfd_open(report.pid);
            continue;
        }
        if (strcmp(guard->argument, "watch") == 0) {
            expect_armed(&report, guard->refuse ? LOCALAI_PARENTWATCH_TIER_POLL
                                                : LOCALAI_PARENTWATCH_TIER_EVENT);
        }
        tree.worker = report.pid;
        tree.worker_fd = pidfd_open(report.pid);
    }
    close(from);
    return tree;
}

static void kill_supervisor(struct tree *tree) {
    tree->killed_at = now_ns();
    if (kill(tree->supervisor, SIGKILL) < 0) {
        fail("kill");
    }
    if (tree->reap && waitpid(tree->supervisor, NULL, 0) < 0) {
        fail("waitpid");
    }
}

/* Whether it was, within that time; -1 is for ever. */
static bool wait_until_readable(int pidfd, int milliseconds) {
    struct pollfd entry = {.fd = pidfd, .events = POLLIN};
    int ready;
    while ((ready = poll(&entry, 1, milliseconds)) < 0) {
        if (errno != EINTR) {
            fail("poll");
        }
    }
    return ready > 0;
}

/* Nanoseconds since the supervisor was killed. The worker has ended. */
static int64_t reap_worker(struct tree *tree) {
    siginfo_t info;
    /* A death pipe closes before the kernel gives the dead supervisor's children to us: wait for that. */
    while (waitid(P_PIDFD, (id_t)tree->worker_fd, &info, WEXITED) < 0) {
        if (errno != ECHILD || waitpid(tree->supervisor, NULL, 0) < 0) {
            fail("waitid");
        }
    }
    int64_t passed = now_ns() - tree->killed_at;
    close(tree->worker_fd);
    tree->worker_fd = -1;
    return passed;
}

static void kill_by(int pidfd) {
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
        fail("pidfd_send_signal");
    }
}

/* Supervisors, helpers and reapers: nobody is left when the next tree starts. */
static void reap_everybody(void) {
    while (waitpid(-1, NULL, 0) >= 0 || errno == EINTR) {
    }
    if (errno != ECHILD) {
        fail("waitpid");
    }
}

/* --------------------------------------------------------------------------------------- latency */

/* Until the worker is reaped; everybody but a helper is gone then, or about to go. */
static int64_t one_latency(struct tree *tree, int64_t settle_ns) {
    sleep_ns(settle_ns);
    kill_supervisor(tree);
    wait_until_readable(tree->worker_fd, -1);
    return reap_worker(tree);
}

static void measure_latency(long run, const struct situation *situation, const struct guard *guard,
                            bool wait_for_helper, bool print) {
    struct tree tree = start_tree(situation, guard, 0);
    int64_t passed = one_latency(&tree, options.settle_us * 1000);
    if (print) {
        printf("latency,%ld,%s,%s,%lld\n", run, situation->name, guard->name, (long long)passed);
    }
    if (tree.helper_fd >= 0) {
        if (wait_for_helper) {
            char passed[24] = "inf";
            if (wait_until_readable(tree.helper_fd, NEVER_MS)) {
                snprintf(passed, sizeof passed, "%lld", (long long)(now_ns() - tree.killed_at));
            }
            printf("helper,%ld,%s,%s,%s\n", run, situation->name, guard->name, passed);
        }
        kill_by(tree.helper_fd);
        close(tree.helper_fd);
    }
    reap_everybody();
}

/* The order of a round is another one each time, so that nobody always comes after the same one. */
static void shuffle(int *order, int count) {
    static unsigned seed = 1;
    for (int i = count - 1; i > 0; i--) {
        int other = rand_r(&seed) % (i + 1), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
}

/* Every row once a round, in an order that differs from round to round. */
static void measure_rounds(long run) {
    enum { WARM_UP = 3 };
    int order[NUMBER_OF_SITUATIONS * MOST_GUARDS];
    int rows = NUMBER_OF_SITUATIONS * number_of_guards();
    for (int i = 0; i < rows; i++) {
        order[i] = i;
    }
    for (long round = options.rounds > 0 ? -WARM_UP : 0; round < options.rounds; round++) {
        shuffle(order, rows);
        for (int i = 0; i < rows; i++) {
            const struct guard *guard = GUARDS[order[i] / NUMBER_OF_SITUATIONS];
            bool wait_for_helper = guard != &PDEATHSIG && round >= 0 && round < options.helpers;
            measure_latency(run, &SITUATIONS[order[i] % NUMBER_OF_SITUATIONS], guard, wait_for_helper,
                            round >= 0);
        }
    }
}

static void measure_faces(long run) {
    static const struct guard *const guards[] = {&PDEATHSIG, &PIPE,  &THREAD,    &PSUTIL, &SHARED,
                                                 &STATIC,    &BY_GO, &BY_PYTHON, &EXEC};
    enum { WARM_UP = 1, FACES = sizeof guards / sizeof *guards };
    int order[FACES];
    for (int i = 0; i < FACES; i++) {
        order[i] = i;
    }
    for (long round = options.faces > 0 ? -WARM_UP : 0; round < options.faces; round++) {
        shuffle(order, FACES);
        for (int i = 0; i < FACES; i++) {
            const struct guard *guard = guards[order[i]];
            struct tree tree = start_tree(&SITUATIONS[LEADER], guard, 0);
            int64_t passed = one_latency(&tree, RUNTIME_SETTLES_NS);
            if (round >= 0) {
                printf("face,%ld,leader,%s,%lld\n", run, guard->name, (long long)passed);
            }
            reap_everybody();
        }
    }
}

/* A supervisor's memory is given back before anybody can see its death. */
static void measure_resident(long run) {
    static const struct guard *const guards[] = {&PDEATHSIG, &SHARED};
    for (int size = 0; size < options.sizes; size++) {
        for (int i = 0; i < LENGTH(guards); i++) {
            const struct guard *guard = guards[(i + run) % LENGTH(guards)];
            struct tree tree = start_tree(&SITUATIONS[LEADER], guard, options.resident[size]);
            int64_t passed = one_latency(&tree, RUNTIME_SETTLES_NS);
            printf("resident,%ld,%ld,%s,%lld\n", run, options.resident[size], guard->name, (long long)passed);
            reap_everybody();
        }
    }
}

/* All workers of one supervisor, which lead a group each and never had a child, until the last is gone. */
static void measure_crowd(long run, int workers, const struct guard *guard) {
    static int fds[MAX_WORKERS];
    struct tree tree;
    alarm(2 * DEADLINE_S);
    int from = start_supervisor(&tree.supervisor, &SITUATIONS[LEADER], guard, workers, 0);
    for (int i = 0; i < workers; i++) {
        struct report report = receive(from);
        if (guard == &SHARED || guard == &BEFORE) {
            expect_armed(&report, LOCALAI_PARENTWATCH_TIER_EVENT);
        }
        fds[i] = pidfd_open(report.pid);
    }
    close(from);
    sleep_ns(options.settle_us * 1000 + 50000000);
    kill_supervisor(&tree);
    for (int i = 0; i < workers; i++) {
        wait_until_readable(fds[i], -1);
    }
    printf("crowd,%ld,%d,%s,%lld\n", run, workers, guard->name, (long long)(now_ns() - tree.killed_at));
    for (int i = 0; i < workers; i++) {
        close(fds[i]);
    }
    reap_everybody();
}

static void measure_crowds(long run) {
    static const struct guard *const guards[] = {&PDEATHSIG, &THREAD, &SHARED, &EXEC, &BEFORE};
    static const struct {
        int workers, times;
    } sizes[] = {{1, 10}, {10, 5}, {100, 2}, {300, 1}, {MAX_WORKERS, 1}};
    int count = options.against == NULL ? LENGTH(guards) - 1 : LENGTH(guards);
    for (int size = 0; size < LENGTH(sizes); size++) {
        for (long crowd = 0; crowd < options.crowds * sizes[size].times; crowd++) {
            for (int i = 0; i < count; i++) {
                const struct guard *guard = guards[(i + crowd) % count];
                /* Every guardian looks at every process: the largest crowd takes half a minute. */
                if (guard != &EXEC || sizes[size].workers < MAX_WORKERS || crowd < options.exec_crowds) {
                    measure_crowd(run, sizes[size].workers, guard);
                }
            }
        }
    }
}

/*
 * How long a poller takes depends on when in its interval the supervisor dies. So each poller's interval is divided
 * among its trees, and a supervisor is killed at a random moment of its share, counted from when its worker was ready.
 */
static void measure_polled(long run) {
    static const struct guard *const guards[] = {&POLL_TIER, &GETPPID, &GETPPID_FAST, &IPYKERNEL};
    enum { POLLERS = sizeof guards / sizeof *guards };
    static struct tree trees[POLLERS * MAX_POLLED];
    static struct pollfd entries[POLLERS * MAX_POLLED];
    static int64_t due[POLLERS * MAX_POLLED]; /* first when the worker was ready, then when to kill */
    static unsigned seed = 1;
    int count = (int)options.polled * POLLERS;
    if (count == 0) {
        return;
    }
    struct tree unguarded = start_tree(&SITUATIONS[LEADER], &NOTHING, 0);
    for (int i = 0; i < count; i++) {
        trees[i] = start_tree(&SITUATIONS[LEADER], guards[i % POLLERS], 0);
        entries[i] = (struct pollfd){.fd = trees[i].worker_fd, .events = POLLIN};
        due[i] = now_ns();
    }
    alarm(DEADLINE_S);
    kill_supervisor(&unguarded);
    int64_t begin = now_ns();
    for (int i = 0; i < count; i++) {
        double share = (i / POLLERS + rand_r(&seed) / (RAND_MAX + 1.0)) / (double)options.polled;
        due[i] += (int64_t)(share * INTERVAL_NS);
        while (due[i] < begin) {
            due[i] += INTERVAL_NS;
        }
    }
    for (int left = count; left > 0;) {
        int64_t next = INT64_MAX;
        for (int i = 0; i < count; i++) {
            if (trees[i].killed_at == 0 && due[i] <= now_ns()) {
                kill_supervisor(&trees[i]);
            } else if (trees[i].killed_at == 0 && due[i] < next) {
                next = due[i];
            }
        }
        int64_t wait = next == INT64_MAX ? INTERVAL_NS : next - now_ns();
        wait = wait < 0 ? 0 : wait;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        if (ppoll(entries, (nfds_t)count, &timeout, NULL) < 0) {
            fail("ppoll");
        }
        for (int i = 0; i < count; i++) {
            if (entries[i].fd < 0 || entries[i].revents == 0) {
                continue;
            }
            if (trees[i].killed_at == 0) {
                errno = EINVAL;
                fail("a worker ended before its supervisor");
            }
            entries[i].fd = -1;
            left--;
            printf("poller,%ld,leader,%s,%lld\n", run, guards[i % POLLERS]->name,
                   (long long)reap_worker(&trees[i]));
        }
    }
    if (wait_until_readable(unguarded.worker_fd, NEVER_MS)) {
        errno = EINVAL;
        fail("a worker without a watcher ended");
    }
    printf("poller,%ld,leader,%s,inf\n", run, NOTHING.name);
    kill_by(unguarded.worker_fd);
    reap_worker(&unguarded);
    reap_everybody();
}

/* ---------------------------------------------------------------------------------------- arming */

/* The driver itself is the parent, and is named. */
static struct report one_arming(const struct guard *guard, char *how) {
    struct command command = {0};
    pid_t pid;
    add_worker(&command, guard, how);
    alarm(DEADLINE_S);
    choose_library(guard);
    int from = start(&pid, command.arguments);
    struct report report = receive(from);
    expect_armed(&report, LOCALAI_PARENTWATCH_TIER_EVENT);
    close(from);
    reap_everybody();
    return report;
}

static void measure_arming(long run) {
    static const struct {
        const struct guard *guard;
        int share; /* runtimes take long to start */
    } arms[] = {{&SHARED, 1}, {&STATIC, 1}, {&BY_GO, 2}, {&BY_PYTHON, 4}, {&BEFORE, 1}};
    char token[64];
    localai_parentwatch_token(token, sizeof token);
    int count = options.against == NULL ? LENGTH(arms) - 1 : LENGTH(arms);
    for (long i = 0; i < options.arming * count; i++) {
        const struct guard *guard = arms[i % count].guard;
        bool in_c = guard->worker == C_SHARED || guard->worker == C_STATIC;
        if (i / count % arms[i % count].share != 0) {
            continue;
        }
        for (int named = 0; named < 2; named++) {
            if (named) {
                setenv("LOCALAI_BACKEND_PARENT_PID", token, 1);
            }
            struct report report = one_arming(guard, "time-arming");
            unsetenv("LOCALAI_BACKEND_PARENT_PID");
            printf("arming,%ld,%s,%s,%lld\n", run, named ? "named" : "unnamed", guard->name,
                   (long long)report.values[0]);
            if (in_c && !named) {
                printf("added,%ld,page faults (KiB),%s,%lld\n", run, guard->name,
                       (long long)report.values[1] * (sysconf(_SC_PAGESIZE) / 1024));
            }
            if (guard->worker == PYTHON) {
                printf("import,%ld,,%s,%lld\n", run, guard->name, (long long)report.values[1]);
            }
        }
        if (in_c && i / count % 10 == 0) {
            struct report report = one_arming(guard, "look-at-arming");
            for (int j = 0; j < LOOKED; j++) {
                printf("added,%ld,%s,%s,%lld\n", run, LOOKED_NAMES[j], guard->name,
                       (long long)report.values[j]);
            }
        }
    }
}

/* From the start of `true` until it is reaped, bare and by `localai-parentwatch exec`. */
static void measure_start(long run) {
    char *bare[] = {"/bin/true", NULL}, *guarded[] = {program, "exec", "--", "/bin/true", NULL};
    for (long i = 0; i < 2 * options.arming; i++) {
        char **arguments = i % 2 == 0 ? bare : guarded;
        pid_t pid;
        alarm(DEADLINE_S);
        int64_t begin = now_ns();
        errno = posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ);
        if (errno != 0) {
            fail(arguments[0]);
        }
        if (waitpid(pid, NULL, 0) < 0) {
            fail("waitpid");
        }
        printf("start,%ld,,%s,%lld\n", run, i % 2 == 0 ? "nothing" : "exec", (long long)(now_ns() - begin));
        reap_everybody(); /* the guardian, which is ours once its parent has gone */
    }
}

/* ------------------------------------------------------------------------------------------ idle */

struct use {
    long long voluntary, involuntary, cpu_ns;
};

static bool read_text(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    close(fd);
    text[length < 0 ? 0 : length] = '\0';
    return length > 0;
}

static long long number_after(const char *text, const char *key) {
    const char *found = strstr(text, key);
    if (found == NULL) {
        errno = ENOENT;
        fail(key);
    }
    return strtoll(found + strlen(key), NULL, 10);
}

/* Of all threads of a process together. */
static void add_use(struct use *use, pid_t pid) {
    char path[PATH_MAX], text[4096];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        fail(path);
    }
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        if (task->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", pid, task->d_name);
        if (!read_text(path, text, sizeof text)) {
            fail(path);
        }
        use->voluntary += number_after(text, "\nvoluntary_ctxt_switches:");
        use->involuntary += number_after(text, "\nnonvoluntary_ctxt_switches:");
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, task->d_name);
        use->cpu_ns = use->cpu_ns < 0 || !read_text(path, text, sizeof text) ? -1 : use->cpu_ns + atoll(text);
    }
    closedir(tasks);
}

/* The process whose command line says that it guards that one. */
static pid_t find_guardian(pid_t worker) {
    char path[PATH_MAX], text[256], wanted[64];
    int length = snprintf(wanted, sizeof wanted, "localai-parentwatch: guarding %d ", worker);
    DIR *processes = opendir("/proc");
    if (processes == NULL) {
        fail("/proc");
    }
    pid_t found = -1;
    for (struct dirent *process; (process = readdir(processes)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%s/cmdline", process->d_name);
        if (read_text(path, text, sizeof text) && strncmp(text, wanted, (size_t)length) == 0) {
            found = (pid_t)atol(process->d_name);
        }
    }
    closedir(processes);
    if (found < 0) {
        errno = ESRCH;
        fail("the guardian");
    }
    return found;
}

static long long resident_kib(pid_t pid) {
    char path[PATH_MAX], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (!read_text(path, text, sizeof text)) {
        fail(path);
    }
    return number_after(text, "\nVmRSS:");
}

static void measure_idle(long run) {
    static const struct guard *const guards[] = {&SHARED, &STATIC,    &BY_GO,   &BY_PYTHON,    &EXEC,     &PIPE,
                                                 &PSUTIL, &POLL_TIER, &GETPPID, &GETPPID_FAST, &IPYKERNEL};
    enum { IDLERS = sizeof guards / sizeof *guards };
    struct tree trees[IDLERS];
    pid_t guardian = -1;
    struct use before[IDLERS] = {0};
    if (options.idle == 0) {
        return;
    }
    for (int i = 0; i < IDLERS; i++) {
        trees[i] = start_tree(&SITUATIONS[LEADER], guards[i], 0);
        if (guards[i]->by_exec) {
            guardian = find_guardian(trees[i].worker);
        }
    }
    sleep_ns(1000000000);
    printf("guardian,%ld,resident (KiB),%s,%lld\n", run, EXEC.name, resident_kib(guardian));
    for (int i = 0; i < IDLERS; i++) {
        add_use(&before[i], trees[i].worker);
        if (guards[i]->by_exec) {
            add_use(&before[i], guardian);
        }
    }
    alarm((unsigned)options.idle + DEADLINE_S);
    sleep_ns(options.idle * 1000000000);
    for (int i = 0; i < IDLERS; i++) {
        struct use after = {0};
        const char *name = guards[i]->name;
        add_use(&after, trees[i].worker);
        if (guards[i]->by_exec) {
            add_use(&after, guardian);
        }
        printf("wakeups,%ld,%ld,%s,%lld\n", run, options.idle, name, after.voluntary - before[i].voluntary);
        printf("preempted,%ld,%ld,%s,%lld\n", run, options.idle, name, after.involuntary - before[i].involuntary);
        if (after.cpu_ns < 0) {
            printf("cpu,%ld,%ld,%s,nan\n", run, options.idle, name);
        } else {
            printf("cpu,%ld,%ld,%s,%lld\n", run, options.idle, name, after.cpu_ns - before[i].cpu_ns);
        }
    }
    for (int i = 0; i < IDLERS; i++) {
        kill_supervisor(&trees[i]);
    }
    for (int i = 0; i < IDLERS; i++) {
        wait_until_readable(trees[i].worker_fd, -1);
        reap_worker(&trees[i]);
    }
    reap_everybody();
}

/* ------------------------------------------------------------------------------------------ main */

/* 0,1,2: in GiB. None where the text is empty. */
static void read_sizes(const char *text) {
    while (*text != '\0' && options.sizes < MAX_SIZES) {
        char *end;
        long gib = strtol(text, &end, 10);
        if (end == text || gib < 0 || (*end != ',' && *end != '\0')) {
            errno = EINVAL;
            fail("--resident");
        }
        options.resident[options.sizes++] = gib;
        text = *end == ',' ? end + 1 : end;
    }
}

static void read_options(int argc, char **argv) {
    const struct {
        const char *name;
        long *value, least, most;
    } known[] = {
        {"--runs", &options.runs, 0, 1000},
        {"--rounds", &options.rounds, 0, 1000000},
        {"--helpers", &options.helpers, 0, 1000},
        {"--faces", &options.faces, 0, 1000000},
        {"--crowds", &options.crowds, 0, 1000},
        {"--exec-crowds", &options.exec_crowds, 0, 1000},
        {"--polled", &options.polled, 0, MAX_POLLED},
        {"--arming", &options.arming, 0, 1000000},
        {"--idle", &options.idle, 0, 86400},
        {"--settle-us", &options.settle_us, 0, 10000000},
        {"--mib", &options.mib, 0, 1 << 20},
    };
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--against") == 0 && i + 1 < argc) {
            options.against = argv[i + 1];
            continue;
        }
        if (strcmp(argv[i], "--program") == 0 && i + 1 < argc) {
            snprintf(program, sizeof program, "%s", argv[i + 1]);
            continue;
        }
        if (strcmp(argv[i], "--resident") == 0 && i + 1 < argc) {
            read_sizes(argv[i + 1]);
            continue;
        }
        bool found = false;
        for (size_t j = 0; j < sizeof known / sizeof *known; j++) {
            char *end = NULL;
            if (strcmp(argv[i], known[j].name) != 0) {
                continue;
            }
            long value = i + 1 < argc ? strtol(argv[i + 1], &end, 10) : -1;
            found = end != NULL && *end == '\0' && value >= known[j].least && value <= known[j].most;
            *known[j].value = value;
        }
        if (!found) {
            errno = EINVAL;
            fail(argv[i]);
        }
    }
}

static void prepare(void) {
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (length < 0) {
        fail("/proc/self/exe");
    }
    folder[length] = '\0';
    *strrchr(folder, '/') = '\0';

    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/stderr.log", folder);
    log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    int lifeline[2];
    if (log_fd < 0 || pipe2(lifeline, O_CLOEXEC) < 0 || dup2(lifeline[0], 0) < 0) {
        fail(path);
    }
    /* So that everybody goes when who reads the samples is killed. */
    if (prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) < 0) {
        fail("PR_SET_PDEATHSIG");
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) < 0) {
        fail("PR_SET_CHILD_SUBREAPER");
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max; /* a pidfd for each worker of a crowd */
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGALRM, watchdog);
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH");
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH_INTERVAL");
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH_SCOPE");
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH_GRACE");
    unsetenv("LOCALAI_BACKEND_PARENT_PID");
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* That the workers load the library that they are said to. */
static void check_older_library(void) {
    struct tree tree = start_tree(&SITUATIONS[ALONE], &BEFORE, 0);
    char path[64], line[PATH_MAX + 128], older[PATH_MAX];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/maps", tree.worker);
    FILE *maps = fopen(path, "r");
    if (maps == NULL || realpath(options.against, older) == NULL) {
        fail(options.against);
    }
    while (fgets(line, sizeof line, maps) != NULL) {
        found = found || strstr(line, older) != NULL;
    }
    fclose(maps);
    if (!found) {
        dprintf(2, "bench: expected a liblocalai_parentwatch.so.0 in %s, which a worker loads\n",
                options.against);
        _exit(2);
    }
    kill_supervisor(&tree);
    wait_until_readable(tree.worker_fd, -1);
    reap_worker(&tree);
    reap_everybody();
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    prepare();
    if (options.against != NULL) {
        check_older_library();
    }
    printf("measure,run,case,guard,value\n");
    for (long run = 1; run <= options.runs; run++) {
        dprintf(2, "run %ld of %ld\n", run, options.runs);
        measure_rounds(run);
        measure_faces(run);
        measure_crowds(run);
        measure_polled(run);
        measure_resident(run);
        measure_arming(run);
        measure_start(run);
        measure_idle(run);
    }
    return 0;
}

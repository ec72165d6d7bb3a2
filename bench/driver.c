/*
 * Measures, and prints every sample as a line of words; report.py makes the tables.
 *
 *   driver --program PATH [--against FOLDER] [--runs N] [--rounds N] [--helpers N] [--crowds N] [--polled N] [--arming N]
 *          [--idle SECONDS] [--settle-us N] [--mib N]
 *
 *   run RUN                                          a run begins
 *   latency RUN SITUATION GUARD NANOSECONDS          supervisor killed until worker reaped
 *   helper RUN SITUATION GUARD NANOSECONDS           ... until its helper was gone, too; or "never"
 *   crowd RUN WORKERS GUARD NANOSECONDS              supervisor killed until the last of its workers was gone
 *   polled RUN GUARD NANOSECONDS                     as latency, for what polls
 *   arming RUN GUARD NAMED NANOSECONDS MINOR_FAULTS  one process that armed
 *   start RUN true|exec NANOSECONDS                  from the start of `true` until it was reaped
 *   guardian RSS_KIB                                 of one
 *   added RUN GUARD THREADS DESCRIPTORS DIRTY_KIB RSS_KIB VM_SIZE_KIB
 *                                                    what arming added to one
 *   idle WHO NANOSECONDS VOLUNTARY INVOLUNTARY CPU_NANOSECONDS
 *
 * A GUARD is what guards the worker: pdeathsig, poller, thread (a bare one that waits for the supervisor), exec (a
 * worker that arms nothing, run by `localai-parentwatch exec`), now (this library) or before (the one in the folder
 * of --against, which the same worker then loads).
 *
 * It is a subreaper, so that it can reap what a killed supervisor leaves, and it sleeps on a pidfd until
 * that has ended: spinning would take a processor from those who are measured.
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

#define INTERVAL_NS 2000000000 /* of the poll tier, by default, and of the plain poller */
#define MAX_POLLED 64
#define MAX_WORKERS 1000
/* A helper that the library is to end is gone by then: it has 1 s between its two signals. */
#define NEVER_MS 3000

static struct {
    const char *against;
    long runs, rounds, helpers, crowds, polled, arming, idle, settle_us, mib;
} options = {.runs = 5,
             .rounds = 100,
             .helpers = 1,
             .crowds = 3,
             .polled = 10,
             .arming = 60,
             .idle = 30,
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
    {"leader,had-child", "group", "ended", false},
    {"leader,helper", "group", "group", true},
    {"leader,session-helper", "group", "session", true},
    {"session", "session", NULL, false},
};
enum { NUMBER_OF_SITUATIONS = sizeof SITUATIONS / sizeof *SITUATIONS };

struct guard {
    const char *name;
    const char *argument; /* the worker's word for it */
    bool older_library;
    bool refuse; /* pidfd_open(2) is refused */
    bool by_exec; /* the worker, which arms nothing, is run by `localai-parentwatch exec` */
};

static const struct guard PDEATHSIG = {"pdeathsig", "pdeathsig", false, false, false};
static const struct guard NOW = {"now", "watch", false, false, false};
static const struct guard BEFORE = {"before", "watch", true, false, false};
static const struct guard EXEC = {"exec", "nothing", false, false, true};
static const struct guard POLL_TIER = {"now", "watch", false, true, false};
static const struct guard POLLER = {"poller", "poller", false, false, false};
static const struct guard THREAD = {"thread", "thread", false, false, false};

/* Those that are compared; the last one only with --against. */
static const struct guard *const GUARDS[] = {&PDEATHSIG, &NOW, &EXEC, &BEFORE};
enum { MOST_GUARDS = sizeof GUARDS / sizeof *GUARDS };

static int number_of_guards(void) { return options.against == NULL ? MOST_GUARDS - 1 : MOST_GUARDS; }

struct tree {
    pid_t supervisor;
    pid_t worker;
    int worker_fd; /* pidfds */
    int helper_fd;
    int64_t killed_at;
};

/* ------------------------------------------------------------------------------------- processes */

/* Nothing here takes long. Should something hang, the driver ends, and so everybody at the lifeline. */
static void watchdog(int signal) {
    (void)signal;
    static const char text[] = "bench: something did not happen within a minute\n";
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

/* A supervisor that starts so many workers; where their reports come from. */
static int start_supervisor(pid_t *pid, const struct situation *situation, const struct guard *guard,
                            int workers) {
    char supervisor[PATH_MAX + 16], worker[PATH_MAX + 16], mib[24], number[24];
    char *arguments[20];
    int count = 0;
    snprintf(supervisor, sizeof supervisor, "%s/supervisor", folder);
    snprintf(worker, sizeof worker, "%s/worker", folder);
    snprintf(mib, sizeof mib, "%ld", options.mib);
    snprintf(number, sizeof number, "%d", workers);
    arguments[count++] = supervisor;
    if (guard->refuse) {
        arguments[count++] = "--refuse-pidfd-open";
    }
    arguments[count++] = number;
    arguments[count++] = (char *)situation->spawn;
    if (guard->by_exec) {
        arguments[count++] = program;
        arguments[count++] = "exec";
        arguments[count++] = "--";
    }
    arguments[count++] = worker;
    arguments[count++] = (char *)guard->argument;
    if (options.mib > 0) {
        arguments[count++] = "--mib";
        arguments[count++] = mib;
    }
    if (situation->helper != NULL) {
        arguments[count++] = "--helper";
        arguments[count++] = (char *)situation->helper;
    }
    arguments[count] = NULL;
    choose_library(guard);
    return start(pid, arguments);
}

/* A whole tree, ready and asleep when this returns but for what `settle` is there for. */
static struct tree start_tree(const struct situation *situation, const struct guard *guard) {
    alarm(60);
    struct tree tree = {.worker_fd = -1, .helper_fd = -1};
    int from = start_supervisor(&tree.supervisor, situation, guard, 1);
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

/* Nanoseconds since the supervisor was killed. The worker has ended, and is our child by now. */
static int64_t reap_worker(struct tree *tree) {
    siginfo_t info;
    if (waitid(P_PIDFD, (id_t)tree->worker_fd, &info, WEXITED) < 0) {
        fail("waitid");
    }
    int64_t passed = now_ns() - tree->killed_at;
    close(tree->worker_fd);
    tree->worker_fd = -1;
    return passed;
}

static void kill_helper(struct tree *tree) {
    if (syscall(SYS_pidfd_send_signal, tree->helper_fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
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

static void measure_latency(long run, const struct situation *situation, const struct guard *guard,
                            bool wait_for_helper, bool print) {
    struct tree tree = start_tree(situation, guard);
    sleep_ns(options.settle_us * 1000);
    kill_supervisor(&tree);
    wait_until_readable(tree.worker_fd, -1);
    int64_t passed = reap_worker(&tree);
    if (print) {
        printf("latency %ld %s %s %lld\n", run, situation->name, guard->name, (long long)passed);
    }
    if (tree.helper_fd >= 0) {
        if (wait_for_helper) {
            char passed[24] = "never";
            if (wait_until_readable(tree.helper_fd, NEVER_MS)) {
                snprintf(passed, sizeof passed, "%lld", (long long)(now_ns() - tree.killed_at));
            }
            printf("helper %ld %s %s %s\n", run, situation->name, guard->name, passed);
        }
        kill_helper(&tree);
        close(tree.helper_fd);
    }
    reap_everybody();
}

/* Every row once a round, in an order that differs from round to round. */
static void measure_rounds(long run) {
    enum { WARM_UP = 3 };
    static unsigned seed = 1;
    int order[NUMBER_OF_SITUATIONS * MOST_GUARDS];
    int rows = NUMBER_OF_SITUATIONS * number_of_guards();
    for (int i = 0; i < rows; i++) {
        order[i] = i;
    }
    for (long round = options.rounds > 0 ? -WARM_UP : 0; round < options.rounds; round++) {
        for (int i = rows - 1; i > 0; i--) {
            int other = rand_r(&seed) % (i + 1), kept = order[i];
            order[i] = order[other];
            order[other] = kept;
        }
        for (int i = 0; i < rows; i++) {
            const struct guard *guard = GUARDS[order[i] / NUMBER_OF_SITUATIONS];
            bool wait_for_helper = guard != &PDEATHSIG && round >= 0 && round < options.helpers;
            measure_latency(run, &SITUATIONS[order[i] % NUMBER_OF_SITUATIONS], guard, wait_for_helper,
                            round >= 0);
        }
    }
}

/* All workers of one supervisor, which lead a group each and never had a child, until the last is gone. */
static void measure_crowd(long run, int workers, const struct guard *guard) {
    static int fds[MAX_WORKERS];
    struct tree tree;
    alarm(120);
    int from = start_supervisor(&tree.supervisor, &SITUATIONS[LEADER], guard, workers);
    for (int i = 0; i < workers; i++) {
        struct report report = receive(from);
        if (guard == &NOW || guard == &BEFORE) {
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
    printf("crowd %ld %d %s %lld\n", run, workers, guard->name, (long long)(now_ns() - tree.killed_at));
    for (int i = 0; i < workers; i++) {
        close(fds[i]);
    }
    reap_everybody();
}

static void measure_crowds(long run) {
    static const int workers[] = {300, MAX_WORKERS};
    for (int i = 0; i < 2; i++) {
        for (long crowd = 0; crowd < options.crowds; crowd++) {
            for (int i_guard = 0; i_guard < number_of_guards(); i_guard++) {
                const struct guard *guard = GUARDS[(i_guard + crowd) % number_of_guards()];
                if (guard != &EXEC) {
                    measure_crowd(run, workers[i], guard);
                }
            }
            measure_crowd(run, workers[i], &THREAD);
        }
    }
}

/*
 * How long a poller takes depends on where in its interval the supervisor dies. So the trees are started
 * evenly over one interval, the two kinds in turn, and their supervisors are killed together.
 */
static void measure_polled(long run) {
    static struct tree trees[2 * MAX_POLLED];
    const struct guard *guards[2] = {&POLL_TIER, &POLLER};
    int count = (int)options.polled * 2;
    if (count == 0) {
        return;
    }
    int64_t begin = now_ns();
    for (int i = 0; i < count; i++) {
        trees[i] = start_tree(&SITUATIONS[ALONE], guards[i % 2]);
        int64_t next = begin + (int64_t)INTERVAL_NS * (i + 1) / count;
        int64_t left = next - now_ns();
        if (left > 0) {
            sleep_ns(left);
        }
    }
    struct pollfd entries[2 * MAX_POLLED];
    for (int i = 0; i < count; i++) {
        entries[i] = (struct pollfd){.fd = trees[i].worker_fd, .events = POLLIN};
        kill_supervisor(&trees[i]);
    }
    for (int left = count; left > 0;) {
        if (poll(entries, (nfds_t)count, -1) < 0) {
            fail("poll");
        }
        for (int i = 0; i < count; i++) {
            if (entries[i].fd >= 0 && entries[i].revents != 0) {
                entries[i].fd = -1;
                left--;
                printf("polled %ld %s %lld\n", run, guards[i % 2]->name,
                       (long long)reap_worker(&trees[i]));
            }
        }
    }
    reap_everybody();
}

/* ---------------------------------------------------------------------------------------- arming */

static struct report one_arming(char *how) {
    char worker[PATH_MAX + 16];
    char *arguments[] = {worker, how, NULL};
    pid_t pid;
    snprintf(worker, sizeof worker, "%s/worker", folder);
    alarm(60);
    int from = start(&pid, arguments);
    struct report report = receive(from);
    expect_armed(&report, LOCALAI_PARENTWATCH_TIER_EVENT);
    close(from);
    reap_everybody();
    return report;
}

static void measure_arming(long run) {
    char token[64];
    localai_parentwatch_token(token, sizeof token);
    const struct guard *arms[] = {&NOW, &BEFORE};
    int count = options.against == NULL ? 1 : 2;
    for (long i = 0; i < options.arming * count; i++) {
        const struct guard *guard = arms[i % count];
        choose_library(guard);
        for (int named = 0; named < 2; named++) {
            if (named) {
                setenv("LOCALAI_BACKEND_PARENT_PID", token, 1);
            }
            struct report report = one_arming("time-arming");
            unsetenv("LOCALAI_BACKEND_PARENT_PID");
            printf("arming %ld %s %s %lld %lld\n", run, guard->name, named ? "named" : "unnamed",
                   (long long)report.values[0], (long long)report.values[1]);
        }
        if (i / count % 10 == 0) {
            struct report report = one_arming("look-at-arming");
            printf("added %ld %s", run, guard->name);
            for (int j = 0; j < LOOKED; j++) {
                printf(" %lld", (long long)report.values[j]);
            }
            printf("\n");
        }
    }
}

/* From the start of `true` until it is reaped, bare and by `localai-parentwatch exec`. */
static void measure_start(long run) {
    char *bare[] = {"/bin/true", NULL}, *guarded[] = {program, "exec", "--", "/bin/true", NULL};
    for (long i = 0; i < 2 * options.arming; i++) {
        char **arguments = i % 2 == 0 ? bare : guarded;
        pid_t pid;
        alarm(60);
        int64_t begin = now_ns();
        errno = posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ);
        if (errno != 0) {
            fail(arguments[0]);
        }
        if (waitpid(pid, NULL, 0) < 0) {
            fail("waitpid");
        }
        printf("start %ld %s %lld\n", run, i % 2 == 0 ? "true" : "exec", (long long)(now_ns() - begin));
        reap_everybody(); /* the guardian, which is ours once its parent has gone */
    }
}

/* ------------------------------------------------------------------------------------------ idle */

struct thread_use {
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

/* The number of the thread that has this name. */
static long find_thread(pid_t pid, const char *name) {
    char path[PATH_MAX], text[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        fail(path);
    }
    long found = -1;
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/comm", pid, task->d_name);
        if (read_text(path, text, sizeof text) && strncmp(text, name, strlen(name)) == 0) {
            found = atol(task->d_name);
        }
    }
    closedir(tasks);
    if (found < 0) {
        errno = ESRCH;
        fail(name);
    }
    return found;
}

static struct thread_use thread_use(pid_t pid, long thread) {
    char path[PATH_MAX], text[4096];
    struct thread_use use;
    snprintf(path, sizeof path, "/proc/%d/task/%ld/status", pid, thread);
    if (!read_text(path, text, sizeof text)) {
        fail(path);
    }
    use.voluntary = number_after(text, "\nvoluntary_ctxt_switches:");
    use.involuntary = number_after(text, "\nnonvoluntary_ctxt_switches:");
    snprintf(path, sizeof path, "/proc/%d/task/%ld/schedstat", pid, thread);
    use.cpu_ns = read_text(path, text, sizeof text) ? strtoll(text, NULL, 10) : -1;
    return use;
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

static void measure_idle(void) {
    static const struct {
        const struct guard *guard;
        const char *name, *thread;
    } idlers[] = {
        {&NOW, "event", "parent-watch"},
        {&POLL_TIER, "poll", "parent-watch"},
        {&POLLER, "poller", "poller"},
        {&EXEC, "guardian", NULL},
    };
    enum { IDLERS = sizeof idlers / sizeof *idlers };
    struct tree trees[IDLERS];
    long threads[IDLERS];
    pid_t watchers[IDLERS];
    struct thread_use before[IDLERS];
    if (options.idle == 0) {
        return;
    }
    for (int i = 0; i < IDLERS; i++) {
        trees[i] = start_tree(&SITUATIONS[ALONE], idlers[i].guard);
    }
    sleep_ns(500000000);
    int64_t begin = now_ns();
    for (int i = 0; i < IDLERS; i++) {
        watchers[i] = trees[i].worker;
        if (idlers[i].thread == NULL) {
            watchers[i] = threads[i] = find_guardian(trees[i].worker);
            printf("guardian %lld\n", resident_kib(watchers[i]));
        } else {
            threads[i] = find_thread(trees[i].worker, idlers[i].thread);
        }
        before[i] = thread_use(watchers[i], threads[i]);
    }
    alarm((unsigned)options.idle + 60);
    sleep_ns(options.idle * 1000000000);
    for (int i = 0; i < IDLERS; i++) {
        struct thread_use after = thread_use(watchers[i], threads[i]);
        printf("idle %s %lld %lld %lld %lld\n", idlers[i].name, (long long)(now_ns() - begin),
               after.voluntary - before[i].voluntary, after.involuntary - before[i].involuntary,
               after.cpu_ns < 0 ? -1 : after.cpu_ns - before[i].cpu_ns);
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

static void read_options(int argc, char **argv) {
    const struct {
        const char *name;
        long *value, least, most;
    } known[] = {
        {"--runs", &options.runs, 0, 1000},
        {"--rounds", &options.rounds, 0, 1000000},
        {"--helpers", &options.helpers, 0, 1000},
        {"--crowds", &options.crowds, 0, 1000},
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
    struct tree tree = start_tree(&SITUATIONS[ALONE], &BEFORE);
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
    for (long run = 1; run <= options.runs; run++) {
        printf("run %ld\n", run);
        measure_rounds(run);
        measure_crowds(run);
        measure_polled(run);
        measure_arming(run);
        measure_start(run);
    }
    measure_idle();
    return 0;
}

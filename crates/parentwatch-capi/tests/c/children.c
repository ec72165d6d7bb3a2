/* A worker that leads its process group ends the group only if it may have had a child. Each way to have had a child is
 * tested with a new worker:
 *
 *   test, adopts ── supervisor † ── worker, leads its group
 *        └─ bystander, put into that group by the test
 */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "tree.h"

extern char **environ;
static char stack[64 << 10];

static int end(void *unused) {
    (void)unused;
    return 0;
}

static void wait_for(pid_t child) {
    CHECK(child > 0);
    CHECK(waitpid(child, NULL, __WALL) == child);
}

static void never(void) {
}

static void by_fork(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    wait_for(child);
}

static void by_two_forks(void) {
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) _exit(0);
        _exit(0);
    }
    wait_for(child);
}

static void by_spawn(void) {
    pid_t child;
    char *command[] = {"/proc/self/exe", "--end", NULL};
    CHECK(posix_spawn(&child, command[0], NULL, NULL, command, environ) == 0);
    wait_for(child);
}

static void by_clone_without_signal(void) {
    wait_for(clone(end, stack + sizeof stack, CLONE_VM | CLONE_VFORK, NULL));
}

static void unseen(void) {
    signal(SIGCHLD, SIG_IGN);
    CHECK(fork() != 0 || (_exit(0), true));
}

static void unseen_by_flag(void) {
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    CHECK(fork() != 0 || (_exit(0), true));
}

static const struct way {
    const char *name;
    void (*have_child)(void);
    bool ends_group, before_exec;
} ways[] = {
    {"never", never, false, false},
    {"fork", by_fork, true, false},
    {"two forks", by_two_forks, true, false},
    {"posix_spawn", by_spawn, true, false},
    {"clone without a signal", by_clone_without_signal, true, false},
    {"SIGCHLD ignored", unseen, true, false},
    {"SA_NOCLDWAIT", unseen_by_flag, true, false},
    {"fork before exec", by_fork, true, true},
};

static _Noreturn void work(int ready) {
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    report(ready, getpid());
    pause_for_ever();
}

static void have_child_and_work(int ready, const void *how) {
    const struct way *way = how;
    way->have_child();
    if (way->before_exec) {
        char number[16];
        snprintf(number, sizeof number, "%d", ready);
        execl("/proc/self/exe", "children", "--work", number, (char *)NULL);
        _exit(3);
    }
    work(ready);
}

static void the_group_ends_if_the_worker_had_a_child(const struct way *way) {
    pid_t worker = 0;
    pid_t supervisor = supervise(have_child_and_work, way, &worker);
    pid_t bystander = fork();
    CHECK(bystander >= 0);
    if (bystander == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) == 0);
        pause_for_ever();
    }
    CHECK(setpgid(bystander, worker) == 0);
    CHECK(kill(supervisor, SIGKILL) == 0);
    bool lives = true;
    int status = 0;
    for (pid_t ended; (ended = waitpid(-1, &status, __WALL)) > 0;) {
        if (ended == worker) CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        lives = lives && ended != bystander;
        /* A helper gets SIGTERM before the worker ends. So the bystander must still live here. */
        if (ended == worker && !way->ends_group) {
            CHECK(kill(bystander, 0) == 0 && waitpid(bystander, NULL, WNOHANG) == 0);
            CHECK(kill(bystander, SIGKILL) == 0);
        }
    }
    CHECK(!lives);
    printf("%s: the group %s\n", way->name, way->ends_group ? "is ended" : "is left alone");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--end") == 0) return 0;
    if (argc > 2 && strcmp(argv[1], "--work") == 0) work(atoi(argv[2]));
    alarm(600);
    adopt_orphans();
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) the_group_ends_if_the_worker_had_a_child(&ways[i]);
    return 0;
}

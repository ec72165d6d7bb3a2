/* Tests localai_parentwatch_exec(). The program keeps the pid of the process that called it. It ends with its
 * supervisor, and its helpers end with it.
 *
 *   test, adopts ── supervisor ── program ── helper, in its own session
 *                                    guardian, a child of none of them
 */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "poll_tier.h"

enum { PATIENCE_MS = 20000 };

static int open_pidfd(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The program: this file's own executable. It starts a helper, reports both pids, and waits. */
static void be_program(int report) {
    pid_t pids[2] = {getpid(), fork()};
    alarm(2 * PATIENCE_MS / 1000); /* ends this process even if the test fails */
    if (pids[1] == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
    } else {
        CHECK(write(report, pids, sizeof pids) == sizeof pids);
    }
    for (;;) pause();
}

static void await_end(int pidfd, const char *who) {
    struct pollfd entry = {.fd = pidfd, .events = POLLIN};
    if (poll(&entry, 1, PATIENCE_MS) != 1) {
        fprintf(stderr, "exec: %s is still there\n", who);
        _exit(2);
    }
    close(pidfd);
}

/* How many guardians that process has. */
static int guardians_of(pid_t pid) {
    char wanted[64], path[300], line[64];
    int found = 0, length = snprintf(wanted, sizeof wanted, "localai-parentwatch: guarding %d", pid);
    DIR *processes = opendir("/proc");
    CHECK(processes != NULL);
    for (struct dirent *process; (process = readdir(processes)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%s/cmdline", process->d_name);
        FILE *file = fopen(path, "r");
        size_t got = file == NULL ? 0 : fread(line, 1, sizeof line - 1, file);
        line[got] = '\0';
        found += strncmp(line, wanted, (size_t)length) == 0;
        if (file != NULL) fclose(file);
    }
    closedir(processes);
    return found;
}

enum victim { SUPERVISOR, PROGRAM };

static void test_end(enum victim victim, bool polls) {
    int report[2];
    CHECK(pipe(report) == 0);
    pid_t supervisor = fork();
    if (supervisor == 0) {
        alarm(2 * PATIENCE_MS / 1000);
        pid_t program = fork();
        if (program == 0) {
            char number[16];
            char *argv[] = {"/proc/self/exe", "--program", number, NULL};
            snprintf(number, sizeof number, "%d", report[1]);
            if (polls) {
                setenv("LOCALAI_BACKEND_PARENT_WATCH_INTERVAL", "50ms", 1);
                refuse_pidfd_open();
            }
            localai_parentwatch_options_t options = {.size = sizeof options, .grace_ns = 100000000};
            program = getpid();
            CHECK(write(report[1], &program, sizeof program) == sizeof program);
            localai_parentwatch_exec(argv, NULL, &options);
            _exit(2);
        }
        for (;;) pause();
    }
    close(report[1]);
    pid_t forked, pids[2];
    CHECK(read(report[0], &forked, sizeof forked) == sizeof forked);
    CHECK(read(report[0], pids, sizeof pids) == sizeof pids);
    close(report[0]);
    CHECK(pids[0] == forked);
    CHECK(guardians_of(pids[0]) == 1);
    int program = open_pidfd(pids[0]), helper = open_pidfd(pids[1]);
    CHECK(program >= 0 && helper >= 0);
    kill(victim == SUPERVISOR ? supervisor : pids[0], SIGKILL);
    await_end(program, "the program");
    await_end(helper, "its helper");
    kill(supervisor, SIGKILL);
    /* This process adopts all of them. The last one is the guardian. */
    while (waitpid(-1, NULL, __WALL) > 0) {}
    CHECK(guardians_of(pids[0]) == 0);
    printf("ok     the %s is killed, %s tier\n", victim == SUPERVISOR ? "supervisor" : "program",
           polls ? "poll" : "event");
}

static void test_no_such_program(void) {
    struct rlimit before, after;
    CHECK(getrlimit(RLIMIT_RTTIME, &before) == 0);
    char *argv[] = {"localai-parentwatch-no-such-program", NULL};
    CHECK(localai_parentwatch_exec(argv, NULL, NULL) == 127);
    CHECK(errno == ENOENT);
    char *folder[] = {"/", NULL};
    CHECK(localai_parentwatch_exec(folder, NULL, NULL) == 126);
    CHECK(errno == EACCES);
    char *shell[] = {"sh", "-c", "exit 3", NULL}, *elsewhere[] = {"PATH=/no/such/folder", NULL};
    CHECK(localai_parentwatch_exec(shell, elsewhere, NULL) == 127);
    CHECK(errno == ENOENT && getenv("PATH") != NULL && strcmp(getenv("PATH"), "/no/such/folder") != 0);
    CHECK(getrlimit(RLIMIT_RTTIME, &after) == 0);
    CHECK(before.rlim_cur == after.rlim_cur && before.rlim_max == after.rlim_max);
    /* This process adopted the guardians of the failed calls. Reaps them. */
    while (waitpid(-1, NULL, __WALL) > 0) {}
    CHECK(guardians_of(getpid()) == 0);
    printf("ok     no such program\n");
}

static void on_death(void *unused) {
    (void)unused;
}

static void test_bad_arguments(void) {
    /* If a call is not refused, /bin/false runs in place of this test, which then fails. */
    char *argv[] = {"/bin/false", NULL}, *nothing[] = {NULL};
    localai_parentwatch_options_t options = {.size = sizeof options, .flags = 8};
    CHECK(localai_parentwatch_exec(argv, NULL, &options) == LOCALAI_PARENTWATCH_INVALID);
    options.flags = LOCALAI_PARENTWATCH_EXEC_VERBOSE;
    CHECK(localai_parentwatch_start(&options) == LOCALAI_PARENTWATCH_INVALID);
    options.flags = LOCALAI_PARENTWATCH_EXEC_IN_CGROUP;
    CHECK(localai_parentwatch_start(&options) == LOCALAI_PARENTWATCH_INVALID);
    options = (localai_parentwatch_options_t){.size = sizeof options, .on_death = on_death};
    CHECK(localai_parentwatch_exec(argv, NULL, &options) == LOCALAI_PARENTWATCH_INVALID);
    CHECK(localai_parentwatch_exec(nothing, NULL, NULL) == LOCALAI_PARENTWATCH_INVALID);
    CHECK(localai_parentwatch_exec(NULL, NULL, NULL) == LOCALAI_PARENTWATCH_INVALID);
    printf("ok     bad arguments\n");
}

/* The environment entry for a child. With it the child knows this process, although a shell is in between. */
static void test_child_env(void) {
    char entry[96], cut[8];
    int length = localai_parentwatch_child_env(entry, sizeof entry);
    CHECK(length > 0 && length == (int)strlen(entry));
    CHECK(localai_parentwatch_child_env(cut, sizeof cut) == length && strcmp(cut, "LOCALAI") == 0);
    CHECK(localai_parentwatch_child_env(NULL, 1) == LOCALAI_PARENTWATCH_INVALID);
    pid_t child = fork();
    if (child == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", getppid());
        char *argv[] = {"/bin/sh", "-c", "\"$@\"; exit $?", "sh", "/proc/self/exe", NULL, number, NULL};
        char self[256];
        ssize_t got = readlink("/proc/self/exe", self, sizeof self - 1);
        CHECK(got > 0);
        self[got] = '\0';
        argv[4] = self;
        argv[5] = "--watched";
        char *envp[] = {entry, NULL};
        execve(argv[0], argv, envp);
        _exit(2);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    printf("ok     the environment of a child\n");
}

/* Returns 0 if this process watches `supervisor`, two levels up, and 1 if it does not. */
static int watches(pid_t supervisor) {
    localai_parentwatch_info_t info = {.size = sizeof info};
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    CHECK(localai_parentwatch_status(&info) == LOCALAI_PARENTWATCH_ARMED);
    return info.watched_pids[1] == supervisor ? 0 : 1;
}

static void test_environment(void) {
    pid_t child = fork();
    if (child == 0) {
        char *argv[] = {"/proc/self/exe", "--environment", NULL}, *envp[] = {"ONLY=this", NULL};
        localai_parentwatch_exec(argv, envp, NULL);
        _exit(2);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    while (waitpid(-1, NULL, __WALL) > 0) {}
    printf("ok     environment and status\n");
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "--program") == 0) {
        be_program(atoi(argv[2]));
    }
    if (argc == 3 && strcmp(argv[1], "--watched") == 0) {
        return watches(atoi(argv[2]));
    }
    if (argc == 2 && strcmp(argv[1], "--environment") == 0) {
        return strcmp(environ[0], "ONLY=this") == 0 && environ[1] == NULL ? 7 : 3;
    }
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0);
    for (int polls = 0; polls < 2; polls++) {
        test_end(SUPERVISOR, polls);
        test_end(PROGRAM, polls);
    }
    test_no_such_program();
    test_bad_arguments();
    test_environment();
    test_child_env();
    return 0;
}

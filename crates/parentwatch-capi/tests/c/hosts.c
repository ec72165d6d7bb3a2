/* The library in unusual programs. One handles the traps of its own seccomp filter. Others cancel a thread that is
 * inside the library, or start it with a blocked signal. None of them must be harmed. */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "check.h"

static int trapped;

/* Makes the call fail as on a kernel without it. */
static void no_such_call(int signal, siginfo_t *info, void *context) {
    (void)signal;
    CHECK(info->si_syscall == SYS_pidfd_open);
    trapped++;
#if defined(__x86_64__)
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#elif defined(__aarch64__)
    ((ucontext_t *)context)->uc_mcontext.regs[0] = -ENOSYS;
#else
#error "name the register of a system call's result"
#endif
}

static void a_trapped_call_counts_as_a_failed_call(void) {
    struct sigaction action = {.sa_sigaction = no_such_call, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) == 0);
    CHECK(prctl(PR_SET_SECCOMP, (long)SECCOMP_MODE_FILTER, &program, 0L, 0L) == 0);
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    CHECK(trapped > 0);
    localai_parentwatch_info_t now = {.size = sizeof now};
    CHECK(localai_parentwatch_status(&now) == LOCALAI_PARENTWATCH_ARMED && now.tier == LOCALAI_PARENTWATCH_TIER_POLL);
}

static void *wait_for_the_parent(void *started) {
    pid_t parent = getppid();
    pthread_barrier_wait(started);
    CHECK(localai_parentwatch_wait_for_exit(parent, 10000000) == 0);
    for (;;) pause(); /* a cancellation point */
}

/* test ── parent ── child, whose thread waits for the parent */
static void a_cancelled_thread_ends_after_its_wait(void) {
    int cancelled[2], ended[2];
    CHECK(pipe(cancelled) == 0 && pipe(ended) == 0);
    pid_t parent = fork();
    CHECK(parent >= 0);
    if (parent == 0) {
        if (fork() == 0) {
            pthread_t waiter;
            pthread_barrier_t started;
            void *result = NULL;
            CHECK(pthread_barrier_init(&started, NULL, 2) == 0);
            CHECK(pthread_create(&waiter, NULL, wait_for_the_parent, &started) == 0);
            pthread_barrier_wait(&started);
            CHECK(pthread_cancel(waiter) == 0);
            CHECK(write(cancelled[1], "c", 1) == 1);
            CHECK(pthread_join(waiter, &result) == 0 && result == PTHREAD_CANCELED);
            CHECK(write(ended[1], "e", 1) == 1);
            _exit(0);
        }
        char byte;
        close(cancelled[1]), close(ended[1]);
        CHECK(read(cancelled[0], &byte, 1) == 1);
        _exit(0);
    }
    close(cancelled[1]), close(ended[1]);
    char byte = 0;
    CHECK(read(ended[0], &byte, 1) == 1 && byte == 'e');
    CHECK(waitpid(parent, NULL, 0) == parent);
}

static void *get_token(void *unused) {
    char token[64];
    CHECK(pthread_cancel(pthread_self()) == 0);
    CHECK(localai_parentwatch_token(token, sizeof token) > 0);
    pthread_testcancel();
    return unused;
}

static void a_cancelled_thread_gets_its_token(void) {
    pthread_t asking;
    void *result = NULL;
    CHECK(pthread_create(&asking, NULL, get_token, NULL) == 0);
    CHECK(pthread_join(asking, &result) == 0 && result == PTHREAD_CANCELED);
}

/* Runs in a forked child, which has its own watcher. */
static void a_blocked_signal_stays_blocked(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sigset_t blocked, pending;
        sigemptyset(&blocked), sigaddset(&blocked, SIGTRAP);
        CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
        CHECK(kill(getpid(), SIGTRAP) == 0);
        CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
        CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGTRAP) == 1);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
    alarm(600);
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH"), unsetenv("LOCALAI_BACKEND_PARENT_PID");
    a_cancelled_thread_gets_its_token();
    a_blocked_signal_stays_blocked();
    a_cancelled_thread_ends_after_its_wait();
    a_trapped_call_counts_as_a_failed_call();
    return 0;
}

/* Workers that arm while the kernel frees the memory of their killed supervisor. By then they have been re-parented,
 * but the supervisor's pidfd is not readable yet. Such a worker watches the supervisor until that has ended, and then
 * ends. A worker that arms after the supervisor's end exits while arming.
 *
 *   test, adopts ── supervisor, two threads † ── worker, arms as soon as it is an orphan
 */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"
#include "poll_tier.h"

enum { SUPERVISORS = 20 };

/* Memory that the kernel needs some time to free. */
static const size_t MEMORY = (size_t)200 << 20;

/* The worker writes one byte when it is ready, one when it is an orphan, and one if it survives arming after the
 * supervisor's end. */
static int words[2];
/* The worker cannot open pidfds, so it polls. */
static bool refused;

static void say(char word) {
    CHECK(write(words[1], &word, 1) == 1);
}

/* 'o' if the supervisor has ended, 't' if the kernel is still freeing its memory. */
static char sight(int supervisor) {
    struct pollfd ended = {supervisor, POLLIN, 0};
    return poll(&ended, 1, 0) == 1 ? 'o' : 't';
}

static void be_the_worker(pid_t parent, char *memory) {
    const struct timespec moment = {.tv_nsec = 1000000};
    CHECK(munmap(memory, MEMORY) == 0);
    int supervisor = (int)syscall(SYS_pidfd_open, parent, 0);
    if (refused) refuse_pidfd_open();
    say('r');
    while (getppid() == parent) nanosleep(&moment, NULL);
    char seen = sight(supervisor);
    say(seen);
    CHECK(freopen("/dev/null", "w", stderr) != NULL); /* hides the worker's last line */
    start_parent_death_watcher();
    if (seen == 'o') say('s');
    for (;;) pause();
}

static void *supervise(void *memory) {
    char token[64];
    CHECK(localai_parentwatch_token(token, sizeof token) > 0);
    pid_t parent = getpid();
    pid_t worker = fork();
    CHECK(worker >= 0);
    if (worker == 0) {
        CHECK(setenv("LOCALAI_BACKEND_PARENT_PID", token, 1) == 0);
        be_the_worker(parent, memory);
    }
    for (;;) pause();
}

static void be_the_supervisor(void) {
    CHECK(prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) == 0);
    char *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    madvise(memory, MEMORY, MADV_NOHUGEPAGE); /* huge pages are freed too fast */
    for (size_t at = 0; at < MEMORY; at += 4096) memory[at] = 1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, supervise, memory) == 0);
    for (;;) pause();
}

static char hear(void) {
    char word = 0;
    CHECK(read(words[0], &word, 1) == 1);
    return word;
}

/* Returns how many workers armed while the kernel was freeing their supervisor's memory. */
static int kill_supervisors(void) {
    int taken_down = 0;
    for (int number = 0; number < SUPERVISORS; number++) {
        CHECK(pipe(words) == 0);
        pid_t supervisor = fork();
        CHECK(supervisor >= 0);
        if (supervisor == 0) be_the_supervisor();
        close(words[1]);
        CHECK(hear() == 'r');
        CHECK(kill(supervisor, SIGKILL) == 0);
        taken_down += hear() == 't';
        char survived = 0;
        CHECK(read(words[0], &survived, 1) == 0);
        close(words[0]);
        int status = -1;
        for (pid_t ended; (ended = waitpid(-1, &status, 0)) > 0;) {
            CHECK(ended == supervisor ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 1);
        }
    }
    return taken_down;
}

int main(void) {
    alarm(600);
    unsetenv("LOCALAI_BACKEND_PARENT_WATCH");
    CHECK(setenv("LOCALAI_BACKEND_PARENT_WATCH_INTERVAL", "10ms", 1) == 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0);
    int by_events = kill_supervisors();
    refused = true;
    int by_looks = kill_supervisors();
    printf("       %d and %d of %d workers armed while their supervisor was taken down\n", by_events, by_looks,
           SUPERVISORS);
    return 0;
}

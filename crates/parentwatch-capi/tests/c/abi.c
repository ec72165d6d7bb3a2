/* Tests the C ABI from outside, linked against the installed library: bad input, struct sizes, repeated calls, forks.
 * Exits with status 0 if everything was as documented. */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"

#define OFF "LOCALAI_BACKEND_PARENT_WATCH"
#define INTERVAL "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL"
#define SCOPE "LOCALAI_BACKEND_PARENT_WATCH_SCOPE"
#define PARENT "LOCALAI_BACKEND_PARENT_PID"

static localai_parentwatch_info_t info(void) {
    localai_parentwatch_info_t now;
    memset(&now, 0xAA, sizeof now);
    now.size = sizeof now;
    CHECK(localai_parentwatch_status(&now) == now.state);
    CHECK(now.size == sizeof now);
    CHECK((now.flags & ~(uint32_t)LOCALAI_PARENTWATCH_GRACE_IS_SET) == 0);
    CHECK(now.flags != 0 || now.grace_ns == 0);
    return now;
}

static localai_parentwatch_options_t options(void) {
    localai_parentwatch_options_t none;
    memset(&none, 0, sizeof none);
    none.size = sizeof none;
    return none;
}

static void hook(void *data) { (void)data; }
static void another_hook(void *data) { (void)data; }

/* The last bytes of a page. The next page is inaccessible, so that an access behind them crashes. */
static void *at_the_end_of_a_page(size_t bytes) {
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK(mprotect(pages + page, page, PROT_NONE) == 0);
    return pages + page - bytes;
}

static void refused(const localai_parentwatch_options_t *bad) {
    CHECK(localai_parentwatch_start(bad) == LOCALAI_PARENTWATCH_INVALID);
    CHECK(info().state == LOCALAI_PARENTWATCH_NOT_STARTED);
}

static void bad_options_are_refused_and_arm_nothing(void) {
    /* A size that is too small is refused, and nothing behind it is read. */
    for (size_t size = 0; size < sizeof(localai_parentwatch_options_t); size += 8) {
        size_t there = size < sizeof(size_t) ? sizeof(size_t) : size;
        localai_parentwatch_options_t *small = at_the_end_of_a_page(there);
        memset(small, 0, there);
        small->size = size;
        refused(small);
    }
    /* A struct of a later header that sets an option that this library does not know. */
    struct { localai_parentwatch_options_t known; uint64_t later; } larger = {options(), 1};
    larger.known.size = sizeof larger;
    refused(&larger.known);

    localai_parentwatch_options_t bad;
    bad = options(), bad.size = SIZE_MAX, refused(&bad);
    bad = options(), bad.size = 4097, refused(&bad);
    bad = options(), bad.flags = 2, refused(&bad);
    bad = options(), bad.scope = 4, refused(&bad);
    bad = options(), bad.scope = -1, refused(&bad);
    bad = options(), bad.interval_ns = 9999999, refused(&bad);
    bad = options(), bad.interval_ns = 3600000000001u, refused(&bad);
    bad = options(), bad.interval_ns = UINT64_MAX, refused(&bad);
    bad = options(), bad.grace_ns = 3600000000001u, refused(&bad);
    const char *no_supervisors[] = {"", " ", "0", "-5", "soon", "1@", "1@2", "1@2@3@4", "\xff", "4294967296"};
    for (size_t i = 0; i < sizeof no_supervisors / sizeof *no_supervisors; i++) {
        bad = options(), bad.parent = no_supervisors[i], refused(&bad);
    }
    /* A misaligned struct. */
    char *page = at_the_end_of_a_page(256);
    refused((const localai_parentwatch_options_t *)(const void *)(page + 1));
}

static void status_writes_no_more_than_the_size(void) {
    CHECK(localai_parentwatch_status(NULL) == LOCALAI_PARENTWATCH_INVALID);
    for (size_t size = 0; size <= sizeof(localai_parentwatch_info_t); size += 8) {
        size_t there = size < sizeof(size_t) ? sizeof(size_t) : size;
        localai_parentwatch_info_t *small = at_the_end_of_a_page(there);
        small->size = size;
        int32_t got = localai_parentwatch_status(small);
        CHECK(got == (size < 16 ? LOCALAI_PARENTWATCH_INVALID : LOCALAI_PARENTWATCH_NOT_STARTED));
        CHECK(small->size == size);
    }
    struct { localai_parentwatch_info_t known; char later[16]; } larger;
    memset(&larger, 0xAA, sizeof larger);
    larger.known.size = sizeof larger;
    CHECK(localai_parentwatch_status(&larger.known) == LOCALAI_PARENTWATCH_NOT_STARTED);
    CHECK(larger.known.size == sizeof larger.known);
    CHECK(larger.later[0] == (char)0xAA);
}

static void the_environment_is_read_and_nothing_is_printed(void) {
    CHECK(localai_parentwatch_enabled() == 1);
    CHECK(localai_parentwatch_interval_ns() == 2000000000u);
    setenv(OFF, " Off ", 1);
    setenv(INTERVAL, "1m30s", 1);
    CHECK(localai_parentwatch_enabled() == 0);
    CHECK(localai_parentwatch_interval_ns() == 90000000000u);
    setenv(INTERVAL, "soon", 1);
    setenv(SCOPE, "process", 1);
    CHECK(localai_parentwatch_interval_ns() == 2000000000u);
    CHECK(info().scope == LOCALAI_PARENTWATCH_SCOPE_PROCESS);
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_DISABLED);
    CHECK(info().state == LOCALAI_PARENTWATCH_DISABLED);
    CHECK(info().tier == LOCALAI_PARENTWATCH_TIER_NONE);
    unsetenv(OFF), unsetenv(INTERVAL), unsetenv(SCOPE);
}

static void the_token_is_cut_like_snprintf(void) {
    char whole[64], cut[8];
    int32_t length = localai_parentwatch_token(NULL, 0);
    CHECK(length > 0 && length < (int32_t)sizeof whole);
    CHECK(localai_parentwatch_token(whole, sizeof whole) == length);
    CHECK((int32_t)strlen(whole) == length);
    long pid = 0;
    unsigned long long start = 0, pidns = 0;
    char end = 0;
    CHECK(sscanf(whole, "%ld@%llu@%llu%c", &pid, &start, &pidns, &end) == 3);
    CHECK(pid == getpid() && start > 0 && pidns > 0);
    CHECK(localai_parentwatch_token(cut, sizeof cut) == length);
    CHECK(strlen(cut) == sizeof cut - 1 && strncmp(cut, whole, sizeof cut - 1) == 0);
    memset(cut, 'x', sizeof cut);
    CHECK(localai_parentwatch_token(cut, 1) == length && cut[0] == 0 && cut[1] == 'x');
    CHECK(localai_parentwatch_token(NULL, 8) == LOCALAI_PARENTWATCH_INVALID);
}

static void every_status_has_a_text(void) {
    struct { int32_t status; const char *text; int error; } all[] = {
        {LOCALAI_PARENTWATCH_ARMED, "armed", 0},
        {LOCALAI_PARENTWATCH_DISABLED, "disabled", 0},
        {LOCALAI_PARENTWATCH_NO_PARENT, "no_parent", 0},
        {LOCALAI_PARENTWATCH_UNSUPPORTED, "unsupported", 0},
        {LOCALAI_PARENTWATCH_NOT_STARTED, "not_started", 0},
        {LOCALAI_PARENTWATCH_EXHAUSTED, "exhausted", 1},
        {LOCALAI_PARENTWATCH_INVALID, "invalid", 1},
        {LOCALAI_PARENTWATCH_INTERNAL, "internal", 1},
        {5, "unknown", 0},
        {INT32_MIN, "unknown", 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK(strcmp(localai_parentwatch_status_text(all[i].status), all[i].text) == 0);
        CHECK(LOCALAI_PARENTWATCH_IS_ERROR(all[i].status) == all[i].error);
    }
    CHECK(localai_parentwatch_abi_version() == LOCALAI_PARENTWATCH_ABI_VERSION);
    CHECK(strchr(localai_parentwatch_version(), '.') != NULL);
}

static void waiting_works_without_a_watcher(void) {
    CHECK(localai_parentwatch_parent_died(getppid()) == 0);
    CHECK(localai_parentwatch_parent_died(getpid()) == 1);
    for (int32_t pid = 1; pid >= -1; pid--) {
        CHECK(localai_parentwatch_wait_for_exit(pid, 0) == LOCALAI_PARENTWATCH_NO_PARENT);
    }
    CHECK(localai_parentwatch_wait_for_exit(getpid(), 0) == 0);
    /* After two forks: the grandchild waits for the child, which ends meanwhile. */
    int ready[2], done[2];
    CHECK(pipe(ready) == 0 && pipe(done) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pid_t self = getpid();
        if (fork() == 0) {
            CHECK(write(ready[1], "r", 1) == 1);
            CHECK(localai_parentwatch_wait_for_exit(self, 10000000) == 0);
            CHECK(getppid() != self);
            CHECK(localai_parentwatch_wait_for_exit(self, 10000000) == 0);
            CHECK(write(done[1], "d", 1) == 1);
            _exit(0);
        }
        char byte;
        CHECK(read(ready[0], &byte, 1) == 1);
        _exit(0);
    }
    close(done[1]);
    char byte = 0;
    CHECK(read(done[0], &byte, 1) == 1 && byte == 'd');
    CHECK(waitpid(child, NULL, 0) == child);
}

static void once_armed_other_options_are_refused(void) {
    int data = 0;
    struct { localai_parentwatch_options_t known; uint64_t later; } larger = {options(), 0};
    localai_parentwatch_options_t *asked = &larger.known;
    asked->size = sizeof larger; /* a struct of a later header, whose new option is not set */
    asked->scope = LOCALAI_PARENTWATCH_SCOPE_PROCESS;
    asked->interval_ns = 100000000;
    asked->grace_ns = 3000000000u;
    asked->on_death = hook;
    asked->user_data = &data;
    CHECK(localai_parentwatch_start(asked) == LOCALAI_PARENTWATCH_ARMED);

    localai_parentwatch_info_t armed = info();
    CHECK(armed.state == LOCALAI_PARENTWATCH_ARMED);
    CHECK(armed.tier == LOCALAI_PARENTWATCH_TIER_EVENT || armed.tier == LOCALAI_PARENTWATCH_TIER_POLL);
    CHECK(armed.watched_pids[0] == getppid() && armed.watched_pids[1] == 0);
    CHECK(armed.scope == LOCALAI_PARENTWATCH_SCOPE_PROCESS);
    CHECK(armed.interval_ns == 100000000 && armed.grace_ns == 3000000000u);
    CHECK(armed.flags == LOCALAI_PARENTWATCH_GRACE_IS_SET);

    CHECK(localai_parentwatch_start(asked) == LOCALAI_PARENTWATCH_ARMED);
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    CHECK(localai_parentwatch_start(NULL) == LOCALAI_PARENTWATCH_ARMED);
    localai_parentwatch_options_t other;
    other = options();
    CHECK(localai_parentwatch_start(&other) == LOCALAI_PARENTWATCH_ARMED);
#define OTHER(change)                                                                    \
    (other = options(), (change), localai_parentwatch_start(&other) == LOCALAI_PARENTWATCH_INVALID)
    CHECK(OTHER(other.scope = LOCALAI_PARENTWATCH_SCOPE_GROUP));
    CHECK(OTHER(other.interval_ns = 200000000));
    CHECK(OTHER(other.grace_ns = 1000000000));
    CHECK(OTHER(other.flags = LOCALAI_PARENTWATCH_GRACE_IS_SET));
    CHECK(OTHER(other.parent = "4242"));
    CHECK(OTHER((other.on_death = another_hook, other.user_data = &data)));
    CHECK(OTHER((other.on_death = hook, other.user_data = NULL)));
    CHECK(info().state == LOCALAI_PARENTWATCH_ARMED && info().interval_ns == 100000000);
}

static void a_forked_child_starts_over(void) {
    pid_t parent = getpid();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(info().state == LOCALAI_PARENTWATCH_NOT_STARTED);
        CHECK(info().tier == LOCALAI_PARENTWATCH_TIER_NONE);
        CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
        CHECK(info().watched_pids[0] == parent);
        CHECK(info().scope == LOCALAI_PARENTWATCH_SCOPE_TREE);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(info().state == LOCALAI_PARENTWATCH_ARMED);
}

int main(void) {
    unsetenv(OFF), unsetenv(INTERVAL), unsetenv(SCOPE), unsetenv(PARENT);
    CHECK(info().state == LOCALAI_PARENTWATCH_NOT_STARTED);
    CHECK(info().scope == LOCALAI_PARENTWATCH_SCOPE_TREE);
    bad_options_are_refused_and_arm_nothing();
    status_writes_no_more_than_the_size();
    the_environment_is_read_and_nothing_is_printed();
    the_token_is_cut_like_snprintf();
    every_status_has_a_text();
    waiting_works_without_a_watcher();
    once_armed_other_options_are_refused();
    a_forked_child_starts_over();
    return 0;
}

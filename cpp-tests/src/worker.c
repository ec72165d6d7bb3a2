/* A worker in C for tree_test: starts the watcher, prints "ready", and waits for the end of its standard input. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <localai_parentwatch.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void say(const char *word) {
    if (write(1, word, strlen(word)) < 0) {
        _exit(4);
    }
}

static void stop_gracefully(int signal) {
    (void)signal;
    say("stop\n");
    _exit(5);
}

static void hook(void *data) { say(data); }

static void hook_that_hangs(void *data) {
    say(data);
    for (;;) {
        struct timespec hour = {3600, 0};
        nanosleep(&hour, NULL);
    }
}

int main(int argc, char **argv) {
    const char *scenario = argc > 1 ? argv[1] : "F01";
    static char data[] = "hook\n";
    localai_parentwatch_options_t options = {.size = sizeof options};
    if (strcmp(scenario, "F01_hook") == 0) {
        options.on_death = hook;
        options.grace_ns = 60000000000u;
        options.user_data = data;
    } else if (strcmp(scenario, "F16") == 0) {
        options.on_death = hook_that_hangs;
        options.grace_ns = 300000000u;
        options.user_data = data;
    } else if (strcmp(scenario, "F01_graceful") == 0 || strcmp(scenario, "F01_grace") == 0) {
        options.grace_ns = 60000000000u;
        if (strcmp(scenario, "F01_graceful") == 0) {
            signal(SIGTERM, stop_gracefully);
        }
    } else if (strcmp(scenario, "F01") != 0) {
        fprintf(stderr, "unknown scenario: %s\n", scenario);
        return 2;
    }
    const int32_t status =
        options.grace_ns == 0 ? start_parent_death_watcher() : localai_parentwatch_start(&options);
    if (LOCALAI_PARENTWATCH_IS_ERROR(status)) {
        fprintf(stderr, "not started: %s\n", localai_parentwatch_status_text(status));
        return 2;
    }
    say("ready\n");
    char byte;
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    return 3;
}

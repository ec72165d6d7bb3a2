/*
 * The worker in C. The workers in all languages have this command line and answer these requests, so each scenario runs
 * with all of them. requests.c has the part that C and C++ share.
 *
 *   worker --report FD --name NAME [--arm first|request] [--hook return|hang|leave|crash]
 *          [--grace MS] [--library PATH]
 *
 * --arm first (the default) arms at the beginning of main, before the port is opened. --arm request arms only on
 * request. --hook sets a hook. It reports that it runs, and then returns, hangs, exits with status 7, or aborts.
 * --library (C only) loads that library at run time in place of the linked one.
 *
 * Each request and its reply:
 *
 *   ping             {"pid", "ppid"}
 *   info             {"state", "tier", "watched", "scope", "interval_ns", "grace_ns"}
 *   arm              {"status"}: call start
 *   arm-from-threads {"statuses": […]}: call start in 16 threads at once
 *   arm-in-thread    {}: call start in another thread, without waiting for it
 *   arm-copy PATH    {"status"}: load another copy of the library and call its start (not in Go)
 *   token            {"token"}: the token of this process
 *   start CMD …      {"pid"}: start a helper in the worker's group; the worker holds the pipe that is its stdin
 *   fork             {"pid"}: fork a child that serves as a worker too, named child, not armed
 *   handle           {}: install a handler for SIGUSR1 that reports; block SIGUSR2 and report it from a thread in
 *                    sigwait
 *   setuid UID       {"result"}
 *   drain MS         {}: on SIGTERM, take that long to stop and exit with status 9; −1 ignores SIGTERM
 *   replace FD       {}: replace the descriptor by a readable pipe (dup2)
 *   replace FD PID   {}: replace the descriptor by a pidfd on that process
 *   close FD         {}: close the descriptor
 *   threads COUNT    {}: start that many idle threads
 *   leave-main-thread  {}: end the main thread and serve on another one (C and C++ only)
 *   flood            {}: write to the language's stderr forever, in four threads
 *   resist           {}: install exit handlers and a SIGTERM handler that never return
 *   unload           {}: dlclose (with --library)
 *   reload           {}: dlopen again (with --library)
 */
#define _GNU_SOURCE
#include "requests.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *library_handle;

static void load(void) {
    library_handle = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    if (library_handle == NULL) {
        dprintf(2, "worker: %s\n", dlerror());
        _exit(2);
    }
    *(void **)&library.start = dlsym(library_handle, "localai_parentwatch_start");
    *(void **)&library.status = dlsym(library_handle, "localai_parentwatch_status");
    *(void **)&library.token = dlsym(library_handle, "localai_parentwatch_token");
    *(void **)&library.status_text = dlsym(library_handle, "localai_parentwatch_status_text");
    if (!library.start || !library.status || !library.token || !library.status_text) {
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
    if (strcmp(request, "arm-from-threads") == 0) {
        answer_arm_from_threads(connection);
    } else if (strcmp(request, "arm-in-thread") == 0) {
        answer_arm_in_thread(connection);
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
        answer_shared(connection, count, words);
    }
}

int main(int argc, char **argv) {
    read_command_line(argc, argv);
    if (library_path != NULL) {
        load();
    }
    run_worker(arm, answer);
}

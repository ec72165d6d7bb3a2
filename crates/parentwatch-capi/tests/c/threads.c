/* Sixteen threads query the status and arm at the same time. All get the same answer. There is one watcher thread,
 * and it keeps no descriptor in the program's table. Also run under ThreadSanitizer. */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { THREADS = 16 };

static pthread_barrier_t all_there;
static int counter;

static void hook(void *data) { ++*(int *)data; }

static void *arm(void *unused) {
    localai_parentwatch_options_t asked = {.size = sizeof asked, .on_death = hook, .user_data = &counter};
    localai_parentwatch_info_t now = {.size = sizeof now};
    pthread_barrier_wait(&all_there);
    CHECK(localai_parentwatch_status(&now) == now.state);
    /* On a stalled machine a call may return NOT_STARTED in place of a long wait. Try again then. */
    int32_t outcome;
    do outcome = localai_parentwatch_start(&asked);
    while (outcome == LOCALAI_PARENTWATCH_NOT_STARTED);
    CHECK(outcome == LOCALAI_PARENTWATCH_ARMED);
    CHECK(localai_parentwatch_status(&now) == LOCALAI_PARENTWATCH_ARMED);
    return unused;
}

/* How many files "folder/ENTRY" + suffix contain `text`. */
static int count(const char *folder, const char *suffix, const char *text) {
    int found = 0;
    DIR *entries = opendir(folder);
    CHECK(entries != NULL);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        char path[600], content[4096] = "";
        snprintf(path, sizeof path, "%s/%s%s", folder, entry->d_name, suffix);
        FILE *file = fopen(path, "r");
        if (file == NULL) continue;
        size_t length = fread(content, 1, sizeof content - 1, file);
        content[length] = 0;
        fclose(file);
        found += strstr(content, text) != NULL;
    }
    closedir(entries);
    return found;
}

/* Waits until there is a thread of that name, since a thread sets its name itself. */
static void one_thread_has_the_name(const char *name) {
    int found;
    for (int looks = 0; (found = count("/proc/self/task", "/comm", name)) == 0; looks++) {
        CHECK(looks < 60000);
        usleep(1000);
    }
    CHECK(found == 1);
}

int main(void) {
    pthread_t threads[THREADS];
    alarm(600); /* ends the test if it never arms */
    CHECK(pthread_barrier_init(&all_there, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, arm, NULL) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    one_thread_has_the_name("parent-watch\n");
    one_thread_has_the_name("parent-hook\n");
    localai_parentwatch_info_t now = {.size = sizeof now};
    CHECK(localai_parentwatch_status(&now) == LOCALAI_PARENTWATCH_ARMED);
    /* The watcher has its own descriptor table, so no pidfd is in this one. The fdinfo of a pidfd has a line "Pid:"
     * (pidfd_open(2)). */
    CHECK(count("/proc/self/fdinfo", "", "\nPid:\t") == 0);
    return 0;
}

/* Tests what the library does to a program's memory. Starting the watcher adds at most 1 MiB of address space. And the
 * reaper works in a program whose code and constants lie in anonymous memory (huge pages for text, packers). */
#define _GNU_SOURCE
#include <localai_parentwatch.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tree.h"

/* 3 MiB of constants and of code: mappings so large that the reaper would release them if they were plain memory. */
__asm__(".section .rodata\n.fill 3 << 20, 1, 7\n.text\n.fill 3 << 20, 1, 0x90\n");

static long address_space_kib(void) {
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "VmSize:", 7) == 0) kib = atol(line + 7);
    }
    fclose(status);
    CHECK(kib > 0);
    return kib;
}

static void arming_adds_little_address_space(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        long before = address_space_kib();
        CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
        long added = address_space_kib() - before;
        printf("arming adds %ld KiB of address space\n", added);
        CHECK(added <= 1024);
        fflush(stdout);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Moves the read-only mappings of the program's own file into anonymous memory. Its code is among them. */
__attribute__((noinline)) static void move_program(void) {
    static struct {
        unsigned long begin, end;
        int protection;
    } mappings[64];
    int count = 0;
    char line[512], program[256] = "", path[256], permissions[8];
    CHECK(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long begin, end;
        path[0] = '\0';
        CHECK(sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &begin, &end, permissions, path) >= 3);
        if (strcmp(path, program) != 0 || permissions[1] == 'w') continue;
        mappings[count].begin = begin, mappings[count].end = end;
        mappings[count++].protection = PROT_READ | (permissions[2] == 'x' ? PROT_EXEC : 0);
    }
    fclose(maps);
    CHECK(count > 0);
    for (int i = 0; i < count; i++) {
        size_t size = mappings[i].end - mappings[i].begin;
        char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(copy != MAP_FAILED);
        memcpy(copy, (void *)mappings[i].begin, size);
        CHECK(mprotect(copy, size, mappings[i].protection) == 0);
        CHECK(mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)mappings[i].begin) != MAP_FAILED);
    }
}

static void move_and_work(int ready, const void *how) {
    (void)how;
    pid_t helper = fork();
    if (helper == 0) {
        signal(SIGTERM, SIG_IGN);
        pause_for_ever();
    }
    move_program();
    CHECK(start_parent_death_watcher() == LOCALAI_PARENTWATCH_ARMED);
    report(ready, helper);
    pause_for_ever();
}

/* test, adopts ── supervisor † ── worker, has moved ── helper, ignores SIGTERM */
static void the_reaper_works_in_a_moved_program(void) {
    pid_t helper = 0;
    pid_t supervisor = supervise(move_and_work, NULL, &helper);
    CHECK(kill(supervisor, SIGKILL) == 0);
    int status = 0;
    bool has_ended = false;
    for (pid_t ended; (ended = wait(&status)) > 0;) {
        /* Once the worker is gone, this process adopts the reaper too. If the reaper crashes, the helper is left. */
        if (WIFSIGNALED(status) && ended != supervisor && ended != helper) kill(helper, SIGKILL);
        CHECK(ended == supervisor || ended == helper || WIFEXITED(status));
        has_ended = has_ended || ended == helper;
    }
    CHECK(has_ended);
    printf("a program in anonymous memory: its helper is gone\n");
}

int main(void) {
    alarm(60);
    adopt_orphans();
    arming_adds_little_address_space();
    the_reaper_works_in_a_moved_program();
    return 0;
}

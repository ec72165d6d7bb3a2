/*
 * What the workers in C and in C++ do in the same way: the command line, the port, and every request
 * but those that are about the language's own threads, stderr and exit. See worker.c.
 */
#ifndef E2E_WORKERS_REQUESTS_H
#define E2E_WORKERS_REQUESTS_H

#include "localai_parentwatch.h"
#include "protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many threads call start at once. */
enum { THREADS = 16 };

/* The library's functions: as linked, unless the worker puts others here. */
extern struct library {
    int32_t (*start)(const localai_parentwatch_options_t *);
    int32_t (*status)(localai_parentwatch_info_t *);
    int32_t (*token)(char *, size_t);
    const char *(*status_text)(int32_t);
} library;

/* What the command line says of the options, and --library (NULL: not given). */
extern localai_parentwatch_options_t options;
extern const char *library_path;

void read_command_line(int argc, char **argv);

/* Calls start; the word for its status. */
typedef const char *arm_fn(void);

/* Arms first, if the command line says so, opens the port and serves. `answer` leaves the requests that it
 * does not know to answer_shared. */
__attribute__((noreturn)) void run_worker(arm_fn *arm, answer_fn *answer);
void answer_shared(int connection, int count, char **words);

__attribute__((noreturn)) void hang(void);

#ifdef __cplusplus
}
#endif

#endif

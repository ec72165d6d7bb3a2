/*
 * The part that the workers in C and C++ share: the command line, the port, and most requests. The other requests use
 * the threads, the stderr or the exit of the language. See worker.c.
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

/* The library's functions: those that are linked, unless the worker stores others here. */
extern struct library {
    int32_t (*start)(const localai_parentwatch_options_t *);
    int32_t (*status)(localai_parentwatch_info_t *);
    int32_t (*token)(char *, size_t);
    const char *(*status_text)(int32_t);
} library;

/* The options from the command line, and the value of --library (NULL if it was not given). */
extern localai_parentwatch_options_t options;
extern const char *library_path;

void read_command_line(int argc, char **argv);

/* Calls start and returns the text of its status. */
typedef const char *arm_fn(void);

/* Arms if the command line says so, opens the port, and serves. `answer` passes requests that it does not know to
 * answer_shared. */
__attribute__((noreturn)) void run_worker(arm_fn *arm, answer_fn *answer);
void answer_shared(int connection, int count, char **words);

__attribute__((noreturn)) void hang(void);

#ifdef __cplusplus
}
#endif

#endif

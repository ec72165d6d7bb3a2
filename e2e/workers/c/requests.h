/*
 * The code that the workers in C and C++ share: the command line, the port, and all requests except those
 * about the language's own threads, stderr and exit. See worker.c.
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

/* The library's functions: the linked ones, unless the worker replaces them. */
extern struct library {
    int32_t (*start)(const localai_parentwatch_options_t *);
    int32_t (*status)(localai_parentwatch_info_t *);
    int32_t (*token)(char *, size_t);
    const char *(*status_text)(int32_t);
} library;

/* The options of the command line, and --library (NULL: not given). */
extern localai_parentwatch_options_t options;
extern const char *library_path;

void read_command_line(int argc, char **argv);

/* Calls start, and returns the word for its status. */
typedef const char *arm_fn(void);

/* Arms first, if the command line says so, then opens the port and serves. `answer` calls answer_shared for
 * the requests that it does not know. */
__attribute__((noreturn)) void run_worker(arm_fn *arm, answer_fn *answer);
void answer_shared(int connection, int count, char **words);

__attribute__((noreturn)) void hang(void);

#ifdef __cplusplus
}
#endif

#endif

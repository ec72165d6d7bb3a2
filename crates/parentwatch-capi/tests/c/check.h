/* CHECK(condition): if the condition is false, prints it with its file and line, and exits with status 2. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <unistd.h>

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);     \
            _exit(2);                                                                    \
        }                                                                                \
    } while (0)

#endif

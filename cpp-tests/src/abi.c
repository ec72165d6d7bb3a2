/* The installed header, library and CMake package are of one piece. In plain C, and quick to build: broken
 * installations are tried with it. DECLARED_FUNCTIONS are the names that the header declares, PACKAGE_VERSION
 * what CMake says; both come from CMakeLists.txt. */
#include <localai_parentwatch.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* What programs have been compiled with: a header where this differs has another ABI version. */
#if LOCALAI_PARENTWATCH_ABI_VERSION != 1
#error "the tests are about ABI version 1; the header is of another"
#endif
_Static_assert(sizeof(void *) != 8 || sizeof(localai_parentwatch_options_t) == 56, "options");
_Static_assert(offsetof(localai_parentwatch_options_t, size) == 0, "options.size");
_Static_assert(offsetof(localai_parentwatch_options_t, interval_ns) == 8, "options.interval_ns");
_Static_assert(offsetof(localai_parentwatch_options_t, grace_ns) == 16, "options.grace_ns");
_Static_assert(sizeof(void *) != 8 || offsetof(localai_parentwatch_options_t, scope) == 48, "options.scope");
_Static_assert(sizeof(void *) != 8 || sizeof(localai_parentwatch_info_t) == 48, "info");
_Static_assert(offsetof(localai_parentwatch_info_t, state) == sizeof(size_t), "info.state");

/* A function that the library lacks does not link, one that the header lacks does not compile. Not static:
 * a compiler that sees all there is to the table may leave the table out. */
typedef void (*function)(void);
#define ENTRY(name) {#name, (function)name},
struct entry {
    const char *name;
    function address;
};
extern const struct entry functions[];
const struct entry functions[] = {
    DECLARED_FUNCTIONS
    /* by hand: what has been promised */
    ENTRY(start_parent_death_watcher)
    ENTRY(localai_parentwatch_start)
    ENTRY(localai_parentwatch_status)
    ENTRY(localai_parentwatch_enabled)
    ENTRY(localai_parentwatch_interval_ns)
    ENTRY(localai_parentwatch_wait_for_exit)
    ENTRY(localai_parentwatch_parent_died)
    ENTRY(localai_parentwatch_token)
    ENTRY(localai_parentwatch_status_text)
    ENTRY(localai_parentwatch_version)
    ENTRY(localai_parentwatch_abi_version)
};

int main(void) {
    int wrong = 0;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (functions[i].address == NULL) {
            printf("%s is not there\n", functions[i].name);
            wrong = 1;
        }
    }
    if (localai_parentwatch_abi_version() != LOCALAI_PARENTWATCH_ABI_VERSION) {
        printf("the header has ABI version %d, the library has %u\n", LOCALAI_PARENTWATCH_ABI_VERSION,
               (unsigned)localai_parentwatch_abi_version());
        wrong = 1;
    }
    if (strcmp(localai_parentwatch_version(), PACKAGE_VERSION) != 0) {
        printf("the CMake package has version %s, the library has %s\n", PACKAGE_VERSION,
               localai_parentwatch_version());
        wrong = 1;
    }
    /* The library tells the same through the structs: one of another layout would not be understood. */
    localai_parentwatch_info_t info = {.size = sizeof info};
    if (localai_parentwatch_status(&info) != LOCALAI_PARENTWATCH_NOT_STARTED || info.size != sizeof info ||
        info.state != LOCALAI_PARENTWATCH_NOT_STARTED || info.flags != 0 || info.interval_ns == 0) {
        printf("localai_parentwatch_status() does not fill what the header declares\n");
        wrong = 1;
    }
    localai_parentwatch_options_t options = {.size = sizeof options, .flags = 2};
    if (localai_parentwatch_start(&options) != LOCALAI_PARENTWATCH_INVALID) {
        printf("localai_parentwatch_start() does not see options.flags\n");
        wrong = 1;
    }
    return wrong;
}

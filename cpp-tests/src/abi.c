/* Checks that the installed header, library and CMake package agree. It is plain C and quick to build, because it also
 * runs on broken installations. DECLARED_FUNCTIONS has the names that the header declares, and PACKAGE_VERSION is the
 * version in CMake. Both come from CMakeLists.txt. */
#include <localai_parentwatch.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The layout that programs were compiled with. If it changes, the header must have another ABI version. */
#if LOCALAI_PARENTWATCH_ABI_VERSION != 1
#error "these tests are for ABI version 1, and the header has another"
#endif
_Static_assert(sizeof(void *) != 8 || sizeof(localai_parentwatch_options_t) == 56, "options");
_Static_assert(offsetof(localai_parentwatch_options_t, size) == 0, "options.size");
_Static_assert(offsetof(localai_parentwatch_options_t, interval_ns) == 8, "options.interval_ns");
_Static_assert(offsetof(localai_parentwatch_options_t, grace_ns) == 16, "options.grace_ns");
_Static_assert(sizeof(void *) != 8 || offsetof(localai_parentwatch_options_t, scope) == 48, "options.scope");
_Static_assert(sizeof(void *) != 8 || sizeof(localai_parentwatch_info_t) == 48, "info");
_Static_assert(offsetof(localai_parentwatch_info_t, state) == sizeof(size_t), "info.state");

/* A function that the library lacks does not link. One that the header lacks does not compile. The table is not static:
 * then a compiler could drop it. */
typedef void (*function)(void);
#define ENTRY(name) {#name, (function)name},
struct entry {
    const char *name;
    function address;
};
extern const struct entry functions[];
const struct entry functions[] = {
    DECLARED_FUNCTIONS
    /* written by hand: the promised functions */
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
    /* Check the layout of the structs with the library itself. */
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

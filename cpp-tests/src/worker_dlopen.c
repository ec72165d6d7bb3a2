/* A worker for tree_test that loads LIBRARY, arms, and unloads it (H04). */
#include <dlfcn.h>
#include <errno.h>
#include <localai_parentwatch.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    int32_t (*start)(void);
    uint32_t (*abi_version)(void);
    /* As POSIX recommends: ISO C does not define the cast. */
    *(void **)&start = dlsym(library, "start_parent_death_watcher");
    *(void **)&abi_version = dlsym(library, "localai_parentwatch_abi_version");
    if (start == NULL || abi_version == NULL || abi_version() != LOCALAI_PARENTWATCH_ABI_VERSION ||
        start() != LOCALAI_PARENTWATCH_ARMED) {
        fprintf(stderr, "%s does not start a watcher\n", LIBRARY);
        return 2;
    }
    if (dlclose(library) != 0) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    /* Its thread still runs the library's code, which must still be mapped. Wait for twenty polls, if it polls. */
    usleep(200000);
    if (write(1, "ready\n", 6) != 6) {
        return 4;
    }
    char byte;
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    return 3;
}

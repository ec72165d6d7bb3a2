/* The header with LOCALAI_PARENTWATCH_STUB needs no library, and answers as one that supports nothing. In C and, by way
 * of stub.cpp, in C++. */
#define LOCALAI_PARENTWATCH_STUB
#include <localai_parentwatch.h>
#include <stdio.h>
#include <string.h>

static int wrong = 0;

static void expect(int holds, const char *what) {
    if (!holds) {
        printf("wrong: %s\n", what);
        wrong = 1;
    }
}

int main(void) {
    char entry[96];
    char cut[8];
    localai_parentwatch_info_t info;
    expect(start_parent_death_watcher() == LOCALAI_PARENTWATCH_UNSUPPORTED, "start_parent_death_watcher");
    expect(localai_parentwatch_start(NULL) == LOCALAI_PARENTWATCH_UNSUPPORTED, "start");
    expect(localai_parentwatch_exec(NULL, NULL, NULL) == LOCALAI_PARENTWATCH_UNSUPPORTED, "exec");
    memset(&info, 1, sizeof info);
    info.size = sizeof info;
    expect(localai_parentwatch_status(&info) == LOCALAI_PARENTWATCH_UNSUPPORTED, "status");
    expect(info.state == LOCALAI_PARENTWATCH_UNSUPPORTED && info.tier == LOCALAI_PARENTWATCH_TIER_NONE, "info.state");
    expect(info.size == sizeof info && info.grace_ns == 0, "info.grace_ns");
    info.size = 1;
    expect(localai_parentwatch_status(&info) == LOCALAI_PARENTWATCH_INVALID, "status of a small size");
    expect(localai_parentwatch_enabled() == 0, "enabled");
    expect(localai_parentwatch_interval_ns() == 2000000000, "interval");
    expect(localai_parentwatch_wait_for_exit(2, 0) == LOCALAI_PARENTWATCH_UNSUPPORTED, "wait_for_exit");
    expect(localai_parentwatch_parent_died(2) == 0, "parent_died");
    expect(localai_parentwatch_token(entry, sizeof entry) == 0 && entry[0] == '\0', "token");
    expect(localai_parentwatch_child_env(entry, sizeof entry) == 27, "child_env");
    expect(strcmp(entry, "LOCALAI_BACKEND_PARENT_PID=") == 0, "child_env's entry");
    expect(localai_parentwatch_child_env(cut, sizeof cut) == 27 && strcmp(cut, "LOCALAI") == 0, "child_env, cut");
    expect(strcmp(localai_parentwatch_status_text(LOCALAI_PARENTWATCH_UNSUPPORTED), "unsupported") == 0, "status_text");
    expect(localai_parentwatch_version()[0] != '\0', "version");
    expect(localai_parentwatch_abi_version() == LOCALAI_PARENTWATCH_ABI_VERSION, "abi_version");
    return wrong;
}

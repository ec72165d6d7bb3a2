/* The functions of the library's interface that all controls share. */
#include "localai_parentwatch.h"
#include "protocol.h"

#include <string.h>

int32_t localai_parentwatch_token(char *buffer, size_t size) {
    own_token(buffer, size, 1);
    return (int32_t)strlen(buffer);
}

const char *localai_parentwatch_status_text(int32_t status) {
    switch (status) {
    case LOCALAI_PARENTWATCH_ARMED:
        return "armed";
    case LOCALAI_PARENTWATCH_DISABLED:
        return "disabled";
    case LOCALAI_PARENTWATCH_NO_PARENT:
        return "no_parent";
    case LOCALAI_PARENTWATCH_NOT_STARTED:
        return "not_started";
    default:
        return "internal";
    }
}

// The header compiles by itself, may be included twice, and is C++17.
#include <localai_parentwatch.h>
#include <localai_parentwatch.h>

static_assert(__cplusplus >= 201703L, "this is to be compiled as C++17");
static_assert(LOCALAI_PARENTWATCH_IS_ERROR(LOCALAI_PARENTWATCH_INVALID));
static_assert(!LOCALAI_PARENTWATCH_IS_ERROR(LOCALAI_PARENTWATCH_ARMED));

// The drop-in header compiles by itself, and may be included twice.
#include "parent_watch.h"
#include "parent_watch.h"

static_assert(__cplusplus >= 201703L, "this is to be compiled as C++17");

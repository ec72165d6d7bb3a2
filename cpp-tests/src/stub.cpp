#include "stub.c"

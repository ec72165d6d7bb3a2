/* The header compiles by itself, may be included twice, and is C11. */
#include <localai_parentwatch.h>
#include <localai_parentwatch.h>

#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 201112L
#error "compile this as C11"
#endif

extern const size_t header_alone_c;
const size_t header_alone_c = sizeof(localai_parentwatch_options_t) + sizeof(localai_parentwatch_info_t);

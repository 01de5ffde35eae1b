/* Opens and closes a stretch of code compiled for more than the default instruction set. GCC and
 * Clang spell it differently, and each ignores the other's pragma. System headers go before it. */
#pragma once
#define FF_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define FF_REGION_BEGIN(target_string)                                                             \
    FF_PRAGMA(clang attribute push(__attribute__((target(target_string))), apply_to = function))
#define FF_REGION_END FF_PRAGMA(clang attribute pop)
#else
#define FF_REGION_BEGIN(target_string)                                                             \
    FF_PRAGMA(GCC push_options) FF_PRAGMA(GCC target(target_string))
#define FF_REGION_END FF_PRAGMA(GCC pop_options)
#endif

/* Threads that share the parts of a call: see pool.c. */
#pragma once
#include <stddef.h>

/* Does part(what, k) for every k < parts, by the caller and at most threads - 1 others, and returns
 * when all are done. They are done in any order, each in the default floating-point environment. */
void ff_share(void (*part)(void *what, size_t k), void *what, size_t parts, unsigned threads);

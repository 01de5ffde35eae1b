/* The level every machine of the target has: whatever the compiler emits by default. */
#include "kernels.h"
#include "scalar.h"
#define FF_TABLE ff_kernels_baseline
#include "kernels.inc.h"

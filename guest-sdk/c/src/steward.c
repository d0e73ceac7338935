// The SDK, in one piece: compile this file, bindings/plugin.c and your own with bindings/plugin_component_type.o.
// Each part below is one idea and knows those before it.

#include "internal.h"

#ifdef __wasm__
#include "heap.c"
#endif

#include "memory.c"

#include "cbor.c"

#include "format.c"

#include "signature.c"

#include "call.c"

#include "shell.c"

#include "world.c"

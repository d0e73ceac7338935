// What wit-bindgen has made of the world, with its warnings kept to itself.
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"

// `cabi_post` functions are not exported: each would be one more call of the guest, and the SDK needs none (memory.c). All others are.
#define __export_name__(name)

#include "../bindings/plugin.h"

#define EXPORT(result, symbol, function) \
    __attribute__((export_name("steward:plugin/referent@0.1.0#" function))) \
    result __wasm_export_exports_steward_plugin_referent_##symbol

EXPORT(uint8_t *, describe, "describe")(void);
EXPORT(uint8_t *, static_object_create, "[static]object.create")
(uint8_t *, size_t, uint8_t *, size_t, int64_t, int64_t, uint8_t *, size_t);
EXPORT(uint8_t *, method_object_step, "[method]object.step")
(uint8_t *, int64_t, int64_t, int32_t, int64_t, int32_t, int64_t, int64_t, uint8_t *, size_t, int32_t, uint8_t *, size_t);
EXPORT(uint8_t *, method_object_save, "[method]object.save")(uint8_t *);
EXPORT(uint8_t *, static_object_load, "[static]object.load")
(uint8_t *, size_t, uint8_t *, size_t, uint8_t *, size_t, int64_t, int64_t, uint8_t *, size_t);
EXPORT(void, object_dtor, "[dtor]object")(exports_steward_plugin_referent_object_t *);

#include "../bindings/plugin.c"

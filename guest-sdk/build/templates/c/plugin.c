// {{Type}}: so many callers at a time.

#include "steward.h"

// The state. The fields that ST_SAVES names are saved when the object moves to a new version.
typedef struct {{Type}} {
    uint32_t places;
    uint32_t taken;
} {{Type}};

ST_METHOD({{Type}}, create, "{{Type}}(places: int = 1)", 0, "Lets so many callers in at a time; the others wait in turn.") {
    self->places = st_u32(call, "places");
    ST_REQUIRE(self->places > 0, "places must be at least 1");
    return st_none(call);
}

ST_METHOD({{Type}}, enter, "enter() -> bool", ST_FIFO, "Takes a place, waiting in turn until there is one; False at the deadline.") {
    // A call that waits must have changed nothing: look first, then change.
    if (self->taken == self->places) {
        return st_pending(call);
    }
    self->taken++;
    return st_return_bool(call, true);
}

ST_TIMEOUT({{Type}}, enter) { return st_return_bool(call, false); }

ST_METHOD({{Type}}, leave, "leave()", 0, "Gives a place back.") {
    ST_REQUIRE(self->taken > 0, "nobody is inside");
    self->taken--;
    return st_none(call);
}

ST_METHOD({{Type}}, free, "free() -> int", ST_READ, "Places free at this moment.") {
    return st_return_u64(call, self->places - self->taken);
}

ST_SAVES({{Type}}, places, taken);
ST_TYPE({{Type}}, "0.1.0", create, enter, enter_timeout, leave, free, saves);
ST_PLUGIN(&{{Type}}_type);

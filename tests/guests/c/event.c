// threading.Event.

#include "guests.h"

extern const st_type Event_type;

/// A flag.
typedef struct Event {
    bool is_set;
} Event;

ST_METHOD(Event, create, "Event as GuestEvent()", 0, "A flag to wait for.") { return st_none(call); }

ST_METHOD(Event, is_set, "is_set() -> bool", ST_READ, "Whether the flag is set.") {
    return st_return_bool(call, self->is_set);
}

ST_METHOD(Event, set, "set()", 0, "Sets the flag and lets all go that wait for it.") {
    self->is_set = true;
    return st_none(call);
}

ST_METHOD(Event, clear, "clear()", 0, "Clears the flag: whoever waits from now on parks.") {
    self->is_set = false;
    return st_none(call);
}

ST_METHOD(Event, wait, "wait() -> bool", ST_READ | ST_ALL,
          "Parks until the flag is set; returns True, or False if the deadline came first.") {
    return self->is_set ? st_return_bool(call, true) : st_pending(call);
}

ST_TIMEOUT(Event, wait) { return st_return_bool(call, false); }

ST_METHOD(Event, value, "#GETVALUE()", ST_READ, "An event has no value to copy.") { return NOT_PICKLABLE(call); }

static st_answer show(const Event *self, st_call *call) {
    return st_return_text(call, self->is_set ? "<Event: set>" : "<Event: unset>");
}

ST_METHOD(Event, str, "__str__() -> str", ST_READ, "`str(event)`.") { return show(self, call); }

ST_METHOD(Event, repr, "__repr__() -> str", ST_READ, "`repr(event)`.") { return show(self, call); }

ST_SAVES(Event, is_set);
ST_TYPE(Event, "1.0.0", create, is_set, set, clear, wait, wait_timeout, value, str, repr, saves);

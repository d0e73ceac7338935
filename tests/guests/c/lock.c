// threading.Lock.

#include "guests.h"

extern const st_type Lock_type;

/// Who holds the lock, and by which call, if anybody does.
typedef struct Lock {
    bool is_held;
    /// It has said goodbye: then nobody's end frees the lock.
    bool is_ownerless;
    /// Its grant said that the one before was lost.
    bool was_abandoned;
    /// The last holder was lost while holding it, and the next one is to know.
    bool abandoned;
    uint64_t session;
    uint64_t call;
} Lock;

ST_METHOD(Lock, create, "Lock as GuestLock()", 0, "A lock without owner: whoever has a proxy may release it.") {
    return st_none(call);
}

ST_METHOD(Lock, acquire, "acquire() -> bool", ST_FIFO,
          "Takes the lock, parking until it is free; returns True, or False at the deadline.") {
    if (self->is_held) {
        return st_pending(call);
    }
    bool abandoned = self->abandoned;
    *self = (Lock){.is_held = true, .was_abandoned = abandoned, .session = st_caller(call).session, .call = st_call_id(call)};
    if (abandoned) {
        st_grant_abandoned(call);
    } else {
        st_grant(call);
    }
    return st_return_bool(call, true);
}

ST_TIMEOUT(Lock, acquire) { return st_return_bool(call, false); }

ST_METHOD(Lock, release, "release()", 0, "Frees the lock. Raises RuntimeError if nobody holds it.") {
    if (!self->is_held) {
        return st_raise(call, "RuntimeError", "release unlocked lock");
    }
    self->is_held = false;
    st_freed(call);
    return st_none(call);
}

ST_METHOD(Lock, locked, "locked() -> bool", ST_READ, "Whether somebody holds the lock.") {
    return st_return_bool(call, self->is_held);
}

ST_METHOD(Lock, value, "#GETVALUE()", ST_READ, "A lock has no value to copy.") { return NOT_PICKLABLE(call); }

ST_OWNER_LOST(Lock) {
    if (!self->is_held || self->is_ownerless || self->session != lost.session) {
        return false;
    }
    if (lost.orderly) {
        self->is_ownerless = true;
    } else {
        self->is_held = false;
        self->abandoned = true;
        st_freed(call);
    }
    return true;
}

ST_UNDELIVERED(Lock) {
    if (!self->is_held || self->call != st_call_id(call)) {
        return false;
    }
    self->is_held = false;
    self->abandoned |= self->was_abandoned || lost.sent;
    st_freed(call);
    return true;
}

ST_SAVES(Lock, is_held, is_ownerless, was_abandoned, abandoned, session, call);
ST_TYPE(Lock, "1.0.0", create, acquire, acquire_timeout, release, locked, value, on_owner_lost, on_undelivered, saves);

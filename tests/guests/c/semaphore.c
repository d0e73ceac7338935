// threading.Semaphore.

#include "guests.h"

extern const st_type Semaphore_type;

/// A permit that is out.
struct held {
    uint64_t session;
    uint64_t call;
};

/// Who holds which permits is known only as far as people release their own. A release by somebody who holds none may stand for any
/// permit that is out, so a lost session gives back what it held less what others may already have given back.
typedef struct Semaphore {
    /// Free permits.
    int64_t value;
    /// The permits that are out and have an owner, as they were got.
    struct held *held;
    size_t held_count;
    /// How many those are, and those of sessions that have said goodbye.
    int64_t out_total;
    /// Releases that may stand for any of `out_total`.
    int64_t foreign;
    /// Permits whose holder was lost while holding them, and whose next holders are to know.
    int64_t abandoned;
} Semaphore;

/// Takes up to `n` permits out of what a session holds, the newest first, and says how many.
static int64_t take_from(Semaphore *self, uint64_t session, int64_t n) {
    int64_t taken = 0;
    size_t kept = self->held_count;
    for (size_t at = self->held_count; at > 0; at--) {
        if (self->held[at - 1].session == session && taken < n) {
            taken++;
        } else {
            self->held[--kept] = self->held[at - 1];
        }
    }
    if (kept > 0) {
        memmove(self->held, self->held + kept, (self->held_count - kept) * sizeof *self->held);
    }
    self->held_count -= kept;
    self->out_total -= taken;
    return taken;
}

ST_METHOD(Semaphore, create, "Semaphore as GuestSemaphore(value: int = 1)", 0, "A counter of permits.") {
    self->value = st_i64(call, "value");
    ST_REQUIRE(self->value >= 0, "semaphore initial value must be >= 0");
    return st_none(call);
}

ST_METHOD(Semaphore, acquire, "acquire() -> bool", ST_FIFO,
          "Takes a permit, parking until there is one; returns True, or False at the deadline.") {
    if (self->value == 0) {
        return st_pending(call);
    }
    self->value--;
    self->out_total++;
    self->held = st_realloc(self->held, (self->held_count + 1) * sizeof *self->held);
    self->held[self->held_count++] = (struct held){st_caller(call).session, st_call_id(call)};
    if (self->abandoned > 0) {
        self->abandoned--;
        st_grant_abandoned(call);
    } else {
        st_grant(call);
    }
    return st_return_bool(call, true);
}

ST_TIMEOUT(Semaphore, acquire) { return st_return_bool(call, false); }

ST_METHOD(Semaphore, release, "release(n: int = 1)", 0, "Gives back `n` permits. Anybody may.") {
    int64_t n = st_i64(call, "n");
    ST_REQUIRE(n >= 1, "n must be one or more");
    if (n > INT64_MAX - self->value) {
        return st_raise(call, "OverflowError", "semaphore value is limited to 63 bits");
    }
    int64_t own = take_from(self, st_caller(call).session, n);
    self->value += n;
    // Both are at most INT64_MAX, so that their sum may not be.
    self->foreign = n - own > self->out_total - self->foreign ? self->out_total : self->foreign + (n - own);
    if (self->foreign == self->out_total) {
        self->held_count = 0;
        self->out_total = self->foreign = 0;
    }
    return st_none(call);
}

ST_METHOD(Semaphore, get_value, "get_value() -> int", ST_READ, "How many permits are free.") {
    return st_return_i64(call, self->value);
}

ST_METHOD(Semaphore, locked, "locked() -> bool", ST_READ, "Whether no permit is free.") {
    return st_return_bool(call, self->value == 0);
}

ST_METHOD(Semaphore, value, "#GETVALUE()", ST_READ, "A semaphore has no value to copy.") { return NOT_PICKLABLE(call); }

static st_answer show(const Semaphore *self, st_call *call) {
    char value[48];
    st_text_format(value, sizeof value, "<Semaphore: value=%lld>", (long long)self->value);
    return st_return_text(call, value);
}

ST_METHOD(Semaphore, str, "__str__() -> str", ST_READ, "`str(semaphore)`.") { return show(self, call); }

ST_METHOD(Semaphore, repr, "__repr__() -> str", ST_READ, "`repr(semaphore)`.") { return show(self, call); }

ST_OWNER_LOST(Semaphore) {
    int64_t out_total = self->out_total, held = take_from(self, lost.session, INT64_MAX);
    if (lost.orderly) {
        // They stay out, and nobody's end frees them any more.
        self->out_total = out_total;
        return held > 0;
    }
    int64_t given_back = held < self->foreign ? held : self->foreign;
    self->foreign -= given_back;
    self->value += held - given_back;
    self->abandoned += held - given_back;
    return held > 0;
}

ST_UNDELIVERED(Semaphore) {
    for (size_t at = 0; at < self->held_count; at++) {
        if (self->held[at].call == st_call_id(call)) {
            self->value += take_from(self, self->held[at].session, 1);
            self->abandoned += lost.sent;
            return true;
        }
    }
    return false;
}

ST_SAVE(Semaphore) {
    st_put_list(out, 5);
    st_put_i64(out, self->value);
    st_put_i64(out, self->out_total);
    st_put_i64(out, self->foreign);
    st_put_i64(out, self->abandoned);
    st_put_list(out, 2 * self->held_count);
    for (size_t at = 0; at < self->held_count; at++) {
        st_put_u64(out, self->held[at].session);
        st_put_u64(out, self->held[at].call);
    }
}

ST_LOAD(Semaphore) {
    st_reader reader = st_read(state);
    size_t parts, numbers;
    bool read = st_read_list(&reader, &parts) && parts == 5 && st_read_i64(&reader, &self->value) &&
                st_read_i64(&reader, &self->out_total) && st_read_i64(&reader, &self->foreign) &&
                st_read_i64(&reader, &self->abandoned) && st_read_list(&reader, &numbers);
    ST_REQUIRE(read, "state is malformed");
    self->held = st_alloc(numbers / 2 * sizeof *self->held);
    for (; self->held_count < numbers / 2; self->held_count++) {
        struct held *held = &self->held[self->held_count];
        ST_REQUIRE(st_read_u64(&reader, &held->session) && st_read_u64(&reader, &held->call), "state is malformed");
    }
    return st_none(call);
}

ST_DROP(Semaphore) { free(self->held); }

ST_TYPE(Semaphore, "1.0.0", create, acquire, acquire_timeout, release, get_value, locked, value, str, repr, on_owner_lost,
        on_undelivered, on_save, on_load, on_drop);

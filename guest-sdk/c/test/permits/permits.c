// Permits that callers take some of, each way of waiting once; and a cupboard for proxies and whatever else.

#include <stdlib.h>
#include <string.h>

#include "steward.h"

typedef struct Permits {
    uint32_t free;
    uint64_t lost, cancelled, ticks, ticked_at_ms;
    /// Calls that it answers itself; not saved, for they come again.
    uint64_t by_hand[8];
    uint32_t by_hand_count;
} Permits;

ST_METHOD(Permits, create, "Permits(free: u32 = 0)", 0, "Permits.") {
    self->free = st_u32(call, "free");
    return st_none(call);
}

ST_METHOD(Permits, take, "take(n: u32 = 1) -> int", ST_FIFO, "Takes permits, in turn.") {
    uint32_t n = st_u32(call, "n");
    if (self->free < n) {
        return st_pending(call);
    }
    self->free -= n;
    return st_return_u64(call, self->free);
}

ST_METHOD(Permits, take_any, "take_any(n: u32) -> int", ST_ALL, "Takes permits as soon as there are enough.") {
    return Permits_take(self, call);
}

ST_TIMEOUT(Permits, take_any) { return st_return_u64(call, self->free); }

ST_METHOD(Permits, take_until, "take_until(at_ms: u64) -> bool", ST_FIFO, "Takes one, or gives up at a time.") {
    if (self->free > 0) {
        self->free--;
        return st_return_bool(call, true);
    }
    uint64_t at_ms = st_u64(call, "at_ms");
    return st_now_ms(call) >= at_ms ? st_return_bool(call, false) : st_pending_until(call, at_ms);
}

ST_METHOD(Permits, wait, "wait()", ST_READ | ST_FIFO, "Waits until there is a permit, and takes none.") {
    return self->free == 0 ? st_pending(call) : st_none(call);
}

ST_METHOD(Permits, give, "give(n: u32 = 1)", 0, "Gives permits.") {
    self->free += st_u32(call, "n");
    return st_none(call);
}

ST_METHOD(Permits, seen, "seen() -> tuple", ST_READ, "What its hooks have seen.") {
    st_writer *out = st_result(call);
    st_put_tuple(out, 5);
    st_put_u64(out, self->free);
    st_put_u64(out, self->lost);
    st_put_u64(out, self->cancelled);
    st_put_u64(out, self->ticks);
    st_put_u64(out, self->ticked_at_ms);
    return st_done(call);
}

ST_METHOD(Permits, undeclared, "undeclared()", ST_READ, "Waits, and says nothing of it.") { return st_pending(call); }

ST_METHOD(Permits, rash, "rash()", ST_FIFO, "Changes the object and parks.") {
    self->free++;
    return st_pending(call);
}

ST_METHOD(Permits, false_reader, "false_reader()", ST_READ, "Changes the object and says that it does not.") {
    self->free++;
    return st_none(call);
}

ST_METHOD(Permits, wrong_getter, "wrong_getter(n: str)", 0, "Asks for an argument of another type.") {
    (void)st_i64(call, "n");
    return st_none(call);
}

ST_METHOD(Permits, one_of_many, "one_of_many(*rest) -> any", ST_READ, "Asks for one argument where there may be many.") {
    return st_return_item(call, st_arg(call, "rest"));
}

ST_METHOD(Permits, join, "join() -> int", ST_FIFO, "Waits for answer_joined.") {
    ST_REQUIRE(self->by_hand_count < 8, "there are 8 already");
    self->by_hand[self->by_hand_count++] = st_call_id(call);
    return st_by_hand(call);
}

ST_METHOD(Permits, answer_joined, "answer_joined() -> int", 0, "Answers those who joined.") {
    int64_t answered = 0;
    for (uint32_t at = 0; at < self->by_hand_count; at++) {
        st_writer id = {NULL, 0, 0};
        st_put_u64(&id, self->by_hand[at]);
        answered += st_complete_with_grant(call, self->by_hand[at], st_written(&id));
    }
    self->by_hand_count = 0;
    return st_return_i64(call, answered);
}

ST_METHOD(Permits, alarm, "alarm(at_ms: u64)", 0, "Asks for a tick.") {
    st_wake_at(call, st_u64(call, "at_ms"));
    return st_none(call);
}

ST_METHOD(Permits, stuck, "stuck()", 0, "Asks for a tick that is had already.") {
    st_wake_at(call, st_now_ms(call));
    self->ticks = UINT64_MAX;
    return st_none(call);
}

ST_METHOD(Permits, random, "random() -> bool", ST_READ, "Whether two numbers differ, and a fraction is one.") {
    double fraction = st_random_f64(call);
    return st_return_bool(call, st_random(call) != st_random(call) && fraction >= 0 && fraction < 1);
}

ST_METHOD(Permits, bind, "bind(a: any, b: int = 2, *rest: int, k: list[int] | None = None, **kw: any) -> tuple", ST_READ, "What each got.") {
    st_writer *out = st_result(call);
    size_t count, pairs = 0;
    st_item item;
    st_reader rest = st_rest(call, "rest", &count);
    st_put_tuple(out, 6);
    st_put_item(out, st_arg(call, "a"));
    st_put_i64(out, st_i64(call, "b"));
    st_put_list(out, count);
    while (st_read_item(&rest, &item)) {
        st_put_item(out, item);
    }
    st_put_item(out, st_arg(call, "k"));
    st_put_bool(out, st_given(call, "k"));
    for (st_keyword pair = {.next = 0}; st_keywords(call, "kw", &pair);) {
        pairs++;
    }
    st_put_dict(out, pairs);
    for (st_keyword pair = {.next = 0}; st_keywords(call, "kw", &pair);) {
        st_put_str(out, pair.name);
        st_put_item(out, pair.value);
    }
    return st_done(call);
}

ST_METHOD(Permits, both, "both(a: float, b: str, *, k: bool)", ST_READ, "Two by place and one by name.") { return st_none(call); }

ST_METHOD(Permits, numbers, "numbers(f: float = -1.5e-3, u: u64 = 7) -> tuple", ST_READ, "Back again.") {
    st_writer *out = st_result(call);
    st_put_tuple(out, 2);
    st_put_f64(out, st_f64(call, "f"));
    st_put_u64(out, st_u64(call, "u"));
    return st_done(call);
}

ST_OWNER_LOST(Permits) {
    self->lost = lost.session;
    self->free++;
    return true;
}

ST_CANCELLED(Permits) {
    self->cancelled = st_call_id(call);
    return false;
}

ST_TICK(Permits) {
    if (self->ticks == UINT64_MAX) {
        st_wake_at(call, st_now_ms(call));
        return false;
    }
    self->ticks++;
    self->ticked_at_ms = st_now_ms(call);
    self->free++;
    return true;
}

ST_MIGRATE(Permits) {
    if (ST_IS(from, "1.1.0")) {
        self->free = 7;
        return st_none(call);
    }
    return st_raise(call, "ValueError", "state of %.*s", (int)from.len, from.ptr);
}

ST_SAVES(Permits, free, lost, cancelled, ticks, ticked_at_ms);
ST_TYPE(Permits, "1.2.0", create, take, take_any, take_any_timeout, take_until, wait, give, seen, undeclared, rash, false_reader,
        wrong_getter, one_of_many, join, answer_joined, alarm, stuck, random, bind, both, numbers, on_owner_lost, on_cancelled, on_tick,
        on_migrate, saves);

/// Every kind of field, and a stack of kept values.
typedef struct Cupboard {
    bool flag;
    int8_t i8;
    uint8_t u8;
    int16_t i16;
    uint16_t u16;
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    float f32;
    double f64;
    st_any kept, first, second;
} Cupboard;

static void push(Cupboard *self, st_item item) {
    st_forget(&self->second);
    self->second = self->first;
    self->first = st_keep(item);
}

ST_METHOD(Cupboard, create, "Cupboard(*items)", 0, "A cupboard.") {
    size_t count;
    st_reader items = st_rest(call, "items", &count);
    for (st_item item; st_read_item(&items, &item);) {
        push(self, item);
    }
    *self = (Cupboard){true, INT8_MIN, UINT8_MAX, INT16_MIN, UINT16_MAX, INT32_MIN, UINT32_MAX, INT64_MIN, 0.5F, -0.1, self->kept,
                       self->first, self->second};
    return st_none(call);
}

ST_METHOD(Cupboard, intact, "intact() -> bool", ST_READ, "Whether the fields are as they were made.") {
    return st_return_bool(call, self->flag && self->i8 == INT8_MIN && self->u8 == UINT8_MAX && self->i16 == INT16_MIN &&
                                    self->u16 == UINT16_MAX && self->i32 == INT32_MIN && self->u32 == UINT32_MAX &&
                                    self->i64 == INT64_MIN && self->f32 >= 0.5F && self->f32 <= 0.5F && self->f64 >= -0.1 &&
                                    self->f64 <= -0.1);
}

ST_METHOD(Cupboard, keep, "keep(handle: proxy)", 0, "Keeps a proxy, in place of the one before.") {
    st_forget(&self->kept);
    self->kept = st_keep(st_arg(call, "handle"));
    return st_none(call);
}

ST_METHOD(Cupboard, put, "put(item)", ST_FIFO, "Puts an item in, waiting for room.") {
    if (self->first.ptr != NULL) {
        return st_pending(call);
    }
    push(self, st_arg(call, "item"));
    return st_none(call);
}

ST_METHOD(Cupboard, pop, "pop() -> any", 0, "Takes the item out.") {
    st_answer answer = st_return_item(call, st_item_of(&self->first));
    st_forget(&self->first);
    self->first = self->second;
    self->second = (st_any){NULL, 0, false};
    return answer;
}

ST_METHOD(Cupboard, ask, "ask(n: int)", 0, "Asks the proxy.") {
    st_writer args = {NULL, 0, 0};
    st_put_args(&args, 1);
    st_put_i64(&args, st_i64(call, "n"));
    st_put_dict(&args, 0);
    ST_REQUIRE(st_invoke(call, 9, &self->kept, "put", st_written(&args)), "there is no proxy");
    return st_none(call);
}

ST_RETURNED(Cupboard) {
    st_writer text = {NULL, 0, 0};
    st_put_str(&text, returned.kind);
    push(self, returned.raised ? st_written(&text) : returned.result);
    return true;
}

ST_UNDELIVERED(Cupboard) {
    push(self, lost.result);
    return ST_IS(lost.method, "pop") && lost.sent;
}

ST_SAVES(Cupboard, flag, i8, u8, i16, u16, i32, u32, i64, f32, f64, kept, first, second);
ST_TYPE(Cupboard, "1.0.0", create, intact, keep, put, pop, ask, on_returned, on_undelivered, saves);

ST_PLUGIN(&Permits_type, &Cupboard_type);

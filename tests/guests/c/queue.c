// queue.Queue.

#include "guests.h"

extern const st_type Queue_type;

/// Bytes of items that one `get_many` hands out, unless the first item alone is larger.
enum { BATCH_BYTES_MAX = 1 << 20 };

enum {
    OPEN,
    /// What is there may still be got.
    DRAINING,
    /// Shut down at once: what comes back is dropped.
    DROPPED,
};

enum { PUT_LINE = ST_LINE(1), GET_LINE = ST_LINE(2) };

/// Items in the order they were put, in a ring.
typedef struct Queue {
    /// 0: no limit.
    uint64_t maxsize;
    st_any *items;
    size_t first, count, capacity;
    /// Items that were put and not yet dealt with.
    uint64_t unfinished;
    uint8_t shut;
} Queue;

static void make_room(Queue *self) {
    if (self->count < self->capacity) {
        return;
    }
    size_t capacity = self->capacity == 0 ? 4 : 2 * self->capacity;
    st_any *items = st_alloc(capacity * sizeof *items);
    for (size_t at = 0; at < self->count; at++) {
        items[at] = self->items[(self->first + at) % self->capacity];
    }
    free(self->items);
    self->items = items;
    self->first = 0;
    self->capacity = capacity;
}

static st_any *item_at(const Queue *self, size_t at) { return &self->items[(self->first + at) % self->capacity]; }

static void push(Queue *self, st_item item) {
    make_room(self);
    self->count++;
    *item_at(self, self->count - 1) = st_keep(item);
}

static void push_front(Queue *self, st_item item) {
    make_room(self);
    self->first = (self->first + self->capacity - 1) % self->capacity;
    self->count++;
    *item_at(self, 0) = st_keep(item);
}

static void pop(Queue *self) {
    st_forget(item_at(self, 0));
    self->first = (self->first + 1) % self->capacity;
    self->count--;
}

ST_METHOD(Queue, create, "Queue as GuestQueue(maxsize: int = 0)", 0, "A queue: first in, first out.") {
    int64_t maxsize = st_i64(call, "maxsize");
    self->maxsize = maxsize > 0 ? (uint64_t)maxsize : 0;
    return st_none(call);
}

/// Puts `count` items that a reader is at, all or none.
static st_answer put_all(Queue *self, st_call *call, st_reader items, size_t count) {
    if (self->shut != OPEN) {
        return st_raise(call, "ShutDown", "%s", "");
    }
    ST_REQUIRE(self->maxsize == 0 || count <= self->maxsize, "%zu items never fit, maxsize is %llu", count,
               (unsigned long long)self->maxsize);
    if (self->maxsize > 0 && self->count + count > self->maxsize) {
        return st_pending(call);
    }
    st_item item;
    while (st_read_item(&items, &item)) {
        push(self, item);
    }
    self->unfinished += count;
    return st_none(call);
}

ST_METHOD(Queue, put, "put(item: any)", ST_FIFO | PUT_LINE,
          "Adds an item, parking while the queue is full. Raises Full at the deadline, ShutDown if the queue is shut down.") {
    return put_all(self, call, st_read(st_arg(call, "item")), 1);
}

ST_TIMEOUT(Queue, put) { return st_raise(call, "Full", "%s", ""); }

ST_METHOD(Queue, get, "get() -> any", ST_FIFO | GET_LINE, "Removes and returns an item, parking while the queue is empty.") {
    if (self->count > 0) {
        st_answer answer = st_return_item(call, st_item_of(item_at(self, 0)));
        pop(self);
        return answer;
    }
    return self->shut == OPEN ? st_pending(call) : st_raise(call, "ShutDown", "%s", "");
}

ST_TIMEOUT(Queue, get) { return st_raise(call, "Empty", "%s", ""); }

ST_METHOD(Queue, put_nowait, "put_nowait(item: any)", 0, "Adds an item. Raises Full if there is no room.") {
    st_answer answer = Queue_put(self, call);
    return answer == ST_PENDING ? st_raise(call, "Full", "%s", "") : answer;
}

ST_METHOD(Queue, get_nowait, "get_nowait() -> any", 0, "Removes and returns an item. Raises Empty if there is none.") {
    st_answer answer = Queue_get(self, call);
    return answer == ST_PENDING ? st_raise(call, "Empty", "%s", "") : answer;
}

ST_METHOD(Queue, put_many, "put_many(items: list)", ST_FIFO | PUT_LINE,
          "Adds all items of a list at once, parking until there is room for all.") {
    st_reader items = st_read(st_arg(call, "items"));
    size_t count = 0;
    ST_REQUIRE(st_read_list(&items, &count), "items are no list");
    return put_all(self, call, items, count);
}

ST_TIMEOUT(Queue, put_many) { return st_raise(call, "Full", "%s", ""); }

ST_METHOD(Queue, get_many, "get_many(n: int) -> list", ST_FIFO | GET_LINE,
          "Removes and returns a list of up to `n` items, parking while the queue is empty.") {
    int64_t n = st_i64(call, "n");
    ST_REQUIRE(n > 0, "n must be one or more");
    if (self->count == 0) {
        return self->shut == OPEN ? st_pending(call) : st_raise(call, "ShutDown", "%s", "");
    }
    size_t count = 1, bytes = item_at(self, 0)->len;
    for (; count < self->count && count < (uint64_t)n; count++) {
        bytes += item_at(self, count)->len;
        if (bytes > BATCH_BYTES_MAX) {
            break;
        }
    }
    st_writer *out = st_result(call);
    st_put_list(out, count);
    for (; count > 0; count--) {
        st_put_item(out, st_item_of(item_at(self, 0)));
        pop(self);
    }
    return st_done(call);
}

ST_TIMEOUT(Queue, get_many) { return st_raise(call, "Empty", "%s", ""); }

ST_METHOD(Queue, qsize, "qsize() -> int", ST_READ, "How many items there are.") { return st_return_u64(call, self->count); }

ST_METHOD(Queue, empty, "empty() -> bool", ST_READ, "Whether there are no items.") {
    return st_return_bool(call, self->count == 0);
}

ST_METHOD(Queue, full, "full() -> bool", ST_READ, "Whether there are as many items as `maxsize` allows.") {
    return st_return_bool(call, self->maxsize > 0 && self->count >= self->maxsize);
}

ST_METHOD(Queue, task_done, "task_done()", 0, "Says that an item that was got is dealt with.") {
    ST_REQUIRE(self->unfinished > 0, "task_done() called too many times");
    self->unfinished--;
    return st_none(call);
}

ST_METHOD(Queue, join, "join()", ST_READ | ST_ALL,
          "Parks until every item that was put is dealt with. Raises TimeoutError at the deadline.") {
    return self->unfinished == 0 ? st_none(call) : st_pending(call);
}

ST_TIMEOUT(Queue, join) {
    return st_raise(call, "TimeoutError", "%llu items are not dealt with", (unsigned long long)self->unfinished);
}

ST_METHOD(Queue, shutdown, "shutdown(immediate: bool = False)", 0,
          "Ends the queue; if `immediate`, all items are dropped and count as dealt with.") {
    if (st_bool(call, "immediate")) {
        self->shut = DROPPED;
        self->unfinished -= self->count < self->unfinished ? self->count : self->unfinished;
        while (self->count > 0) {
            pop(self);
        }
    } else if (self->shut == OPEN) {
        self->shut = DRAINING;
    }
    return st_none(call);
}

ST_METHOD(Queue, is_shutdown, "is_shutdown() -> bool", ST_READ, "Whether the queue is shut down.") {
    return st_return_bool(call, self->shut != OPEN);
}

ST_METHOD(Queue, close, "close()", ST_READ, "Does nothing; `multiprocessing.Queue` has it.") { return st_none(call); }

ST_METHOD(Queue, join_thread, "join_thread()", ST_READ, "Does nothing; `multiprocessing.Queue` has it.") { return st_none(call); }

ST_METHOD(Queue, cancel_join_thread, "cancel_join_thread()", ST_READ, "Does nothing; `multiprocessing.Queue` has it.") {
    return st_none(call);
}

ST_METHOD(Queue, value, "#GETVALUE()", ST_READ, "A queue has no value to copy.") { return NOT_PICKLABLE(call); }

static st_answer show(const Queue *self, st_call *call) {
    char text[80];
    if (self->maxsize > 0) {
        st_text_format(text, sizeof text, "<Queue: %zu of %llu items>", self->count, (unsigned long long)self->maxsize);
    } else {
        st_text_format(text, sizeof text, self->count == 1 ? "<Queue: %zu item>" : "<Queue: %zu items>", self->count);
    }
    return st_return_text(call, text);
}

ST_METHOD(Queue, str, "__str__() -> str", ST_READ, "`str(queue)`.") { return show(self, call); }

ST_METHOD(Queue, repr, "__repr__() -> str", ST_READ, "`repr(queue)`.") { return show(self, call); }

/// Gives items back to their place.
static void give_back(Queue *self, st_reader *items) {
    st_item item;
    size_t before = self->count;
    while (st_read_item(items, &item)) {
        push_front(self, item);
    }
    // Where each starts is known only from the front, so now they lie the wrong way round.
    size_t count = self->count - before;
    for (size_t at = 0; at < count / 2; at++) {
        st_any *a = item_at(self, at), *b = item_at(self, count - 1 - at), kept = *a;
        *a = *b;
        *b = kept;
    }
}

/// Items that nobody got go back to their place; those lost last come first.
ST_UNDELIVERED(Queue) {
    st_reader items = st_read(lost.result);
    size_t count = 1;
    if (ST_IS(lost.method, "get_many")) {
        if (!st_read_list(&items, &count)) {
            return false;
        }
    } else if (!ST_IS(lost.method, "get") && !ST_IS(lost.method, "get_nowait")) {
        return false;
    }
    if (self->shut == DROPPED) {
        self->unfinished -= count < self->unfinished ? count : self->unfinished;
    } else {
        give_back(self, &items);
    }
    return true;
}

ST_SAVE(Queue) {
    st_put_list(out, self->count);
    for (size_t at = 0; at < self->count; at++) {
        st_put_item(out, st_item_of(item_at(self, at)));
    }
}

ST_LOAD(Queue) {
    st_reader items = st_read(state);
    size_t count;
    ST_REQUIRE(st_read_list(&items, &count), "state is malformed");
    st_item item;
    while (st_read_item(&items, &item)) {
        push(self, item);
    }
    return st_none(call);
}

ST_DROP(Queue) {
    while (self->count > 0) {
        pop(self);
    }
    free(self->items);
}

ST_SAVES(Queue, maxsize, unfinished, shut);
ST_TYPE(Queue, "1.0.0", create, put, put_timeout, get, get_timeout, put_nowait, get_nowait, put_many, put_many_timeout,
        get_many, get_many_timeout, qsize, empty, full, task_done, join, join_timeout, shutdown, is_shutdown, close, join_thread,
        cancel_join_thread, value, str, repr, on_undelivered, saves, on_save, on_load, on_drop);

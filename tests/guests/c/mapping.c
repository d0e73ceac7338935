// Python's dict.

#include "guests.h"

extern const st_type dict_type;

struct pair {
    st_any key;
    st_any value;
    /// What identifies the key; NULL for NaN, which equals nothing.
    uint8_t *id;
    uint32_t id_len;
    uint32_t hash;
};

/// Pairs in the order their keys came. A key is looked for from the first to the last: this is for tests of small dicts.
typedef struct dict {
    struct pair *pairs;
    size_t count, capacity;
} dict;

static uint32_t hash_of(st_item id) {
    uint32_t hash = 2166136261;
    for (size_t at = 0; at < id.len; at++) {
        hash = (hash ^ id.ptr[at]) * 16777619;
    }
    return hash;
}

/// What identifies a key: empty for what equals nothing.
static st_answer id_of(st_call *call, st_item key, st_item *id) {
    st_writer out = {NULL, 0, 0};
    bool findable = true;
    st_answer answer = key_of(call, key, &out, &findable);
    *id = findable ? st_written(&out) : (st_item){NULL, 0};
    return answer;
}

/// Where a key stands, or `count`.
static size_t place_of(const dict *self, st_item id) {
    uint32_t hash = hash_of(id);
    size_t at = 0;
    while (at < self->count && !(id.len > 0 && self->pairs[at].hash == hash &&
                                 st_item_equal(id, (st_item){self->pairs[at].id, self->pairs[at].id_len}))) {
        at++;
    }
    return at;
}

static st_answer find(const dict *self, st_call *call, st_item key, size_t *place) {
    st_item id;
    st_answer answer = id_of(call, key, &id);
    *place = answer == ST_DONE ? place_of(self, id) : self->count;
    return answer;
}

static void set(dict *self, st_item id, st_item key, st_item value) {
    size_t at = place_of(self, id);
    if (at < self->count) {
        // The first key stays, as in Python.
        st_any old = self->pairs[at].value;
        self->pairs[at].value = st_keep(value);
        st_forget(&old);
        return;
    }
    if (self->count == self->capacity) {
        self->capacity = self->capacity == 0 ? 4 : 2 * self->capacity;
        self->pairs = st_realloc(self->pairs, self->capacity * sizeof *self->pairs);
    }
    struct pair *pair = &self->pairs[self->count++];
    *pair = (struct pair){.key = st_keep(key), .value = st_keep(value), .hash = hash_of(id)};
    if (id.len > 0) {
        pair->id = st_alloc(id.len);
        memcpy(pair->id, id.ptr, id.len);
        pair->id_len = (uint32_t)id.len;
    }
}

static void forget_pair(struct pair *pair) {
    st_forget(&pair->key);
    st_forget(&pair->value);
    free(pair->id);
}

static void remove_at(dict *self, size_t at) {
    forget_pair(&self->pairs[at]);
    memmove(&self->pairs[at], &self->pairs[at + 1], (self->count - at - 1) * sizeof *self->pairs);
    self->count--;
}

static void remove_all(dict *self) {
    while (self->count > 0) {
        forget_pair(&self->pairs[--self->count]);
    }
}

static st_answer key_error(st_call *call, st_item key) {
    st_writer text = {NULL, 0, 0};
    put_repr(&text, key);
    (void)st_raise(call, "KeyError", "%.*s", (int)text.len, (const char *)text.ptr);
    return st_raised_with(call, key);
}

/// Reads the next pair of a mapping, or of an iterable of pairs.
static bool next_pair(st_reader *reader, bool is_mapping, st_item *key, st_item *value) {
    size_t parts = 2;
    return (is_mapping || (st_read_list(reader, &parts) && parts == 2)) && st_read_item(reader, key) &&
           st_read_item(reader, value);
}

/// Sets all pairs of `*other` and `**kwargs`, or none if one of them cannot be: looks at all, then sets all.
static st_answer absorb(dict *self, st_call *call, const char *name) {
    size_t count = 0;
    st_reader others = st_rest(call, "other", &count), reader;
    st_item other = {NULL, 0}, key, value, id;
    if (count > 1) {
        return st_raise(call, "TypeError", "%s expected at most 1 argument, got %zu", name, count);
    }
    bool has_other = st_read_item(&others, &other), is_mapping = has_other && st_kind_of(other) == ST_KIND_DICT;
    for (int sets = 0; sets < 2; sets++) {
        size_t pairs = 0;
        reader = st_read(other);
        if (has_other && !(is_mapping ? st_read_dict(&reader, &pairs) : st_read_list(&reader, &pairs))) {
            return st_raise(call, "TypeError", "wrong type");
        }
        for (size_t at = 0; at < pairs; at++) {
            if (!next_pair(&reader, is_mapping, &key, &value)) {
                return st_raise(call, "TypeError", "wrong type");
            }
            if (id_of(call, key, &id) == ST_RAISED) {
                return ST_RAISED;
            }
            if (sets) {
                set(self, id, key, value);
            }
        }
    }
    for (st_keyword pair = {.next = 0}; st_keywords(call, "kwargs", &pair);) {
        st_writer text = {NULL, 0, 0};
        st_put_str(&text, pair.name);
        set(self, st_written(&text), st_written(&text), pair.value);
    }
    return st_none(call);
}

ST_METHOD(dict, create, "dict as GuestDict(*other: any, **kwargs: any)", 0, "A dict.") { return absorb(self, call, "dict"); }

ST_METHOD(dict, contains, "__contains__(key: any) -> bool", ST_READ, "Says whether a key is in the dict.") {
    size_t at;
    return find(self, call, st_arg(call, "key"), &at) == ST_RAISED ? ST_RAISED : st_return_bool(call, at < self->count);
}

ST_METHOD(dict, delitem, "__delitem__(key: any)", 0, "Removes a key. Raises KeyError if it is not there.") {
    size_t at;
    if (find(self, call, st_arg(call, "key"), &at) == ST_RAISED) {
        return ST_RAISED;
    }
    if (at == self->count) {
        return key_error(call, st_arg(call, "key"));
    }
    remove_at(self, at);
    return st_none(call);
}

ST_METHOD(dict, getitem, "__getitem__(key: any) -> any", ST_READ, "Returns the value of a key. Raises KeyError if it is not there.") {
    size_t at;
    if (find(self, call, st_arg(call, "key"), &at) == ST_RAISED) {
        return ST_RAISED;
    }
    return at < self->count ? st_return_item(call, st_item_of(&self->pairs[at].value)) : key_error(call, st_arg(call, "key"));
}

ST_METHOD(dict, len, "__len__() -> int", ST_READ, "Returns the number of keys.") { return st_return_u64(call, self->count); }

ST_METHOD(dict, setitem, "__setitem__(key: any, value: any)", 0, "Sets the value of a key.") {
    st_item id;
    if (id_of(call, st_arg(call, "key"), &id) == ST_RAISED) {
        return ST_RAISED;
    }
    set(self, id, st_arg(call, "key"), st_arg(call, "value"));
    return st_none(call);
}

ST_METHOD(dict, clear, "clear()", 0, "Removes all keys.") {
    remove_all(self);
    return st_none(call);
}

static void put_mapping(const dict *self, st_writer *out) {
    st_put_dict(out, self->count);
    for (size_t at = 0; at < self->count; at++) {
        st_put_item(out, st_item_of(&self->pairs[at].key));
        st_put_item(out, st_item_of(&self->pairs[at].value));
    }
}

ST_METHOD(dict, copy, "copy() -> any", ST_READ, "Returns a copy.") {
    put_mapping(self, st_result(call));
    return st_done(call);
}

ST_METHOD(dict, get, "get(key: any, default: any = None) -> any", ST_READ, "Returns the value of a key, or `default`.") {
    size_t at;
    if (find(self, call, st_arg(call, "key"), &at) == ST_RAISED) {
        return ST_RAISED;
    }
    return st_return_item(call, at < self->count ? st_item_of(&self->pairs[at].value) : st_arg(call, "default"));
}

ST_METHOD(dict, items, "items() -> list", ST_READ, "Returns a list of pairs.") {
    st_writer *out = st_result(call);
    st_put_list(out, self->count);
    for (size_t at = 0; at < self->count; at++) {
        st_put_tuple(out, 2);
        st_put_item(out, st_item_of(&self->pairs[at].key));
        st_put_item(out, st_item_of(&self->pairs[at].value));
    }
    return st_done(call);
}

ST_METHOD(dict, keys, "keys() -> list", ST_READ, "Returns a list of the keys.") {
    st_writer *out = st_result(call);
    st_put_list(out, self->count);
    for (size_t at = 0; at < self->count; at++) {
        st_put_item(out, st_item_of(&self->pairs[at].key));
    }
    return st_done(call);
}

ST_METHOD(dict, pop, "pop(key: any, *default: any) -> any", 0,
          "Removes a key and returns its value, or `default`. Raises KeyError if it is not there and no default is given.") {
    size_t at, count;
    st_reader rest = st_rest(call, "default", &count);
    st_item otherwise;
    if (find(self, call, st_arg(call, "key"), &at) == ST_RAISED) {
        return ST_RAISED;
    }
    if (at < self->count) {
        st_answer answer = st_return_item(call, st_item_of(&self->pairs[at].value));
        remove_at(self, at);
        return answer;
    }
    return st_read_item(&rest, &otherwise) ? st_return_item(call, otherwise) : key_error(call, st_arg(call, "key"));
}

ST_METHOD(dict, popitem, "popitem() -> tuple", 0, "Removes and returns the newest pair. Raises KeyError if the dict is empty.") {
    st_writer *out = st_result(call);
    if (self->count == 0) {
        st_writer text = {NULL, 0, 0};
        st_put_text(&text, "popitem(): dictionary is empty");
        return key_error(call, st_written(&text));
    }
    st_put_tuple(out, 2);
    st_put_item(out, st_item_of(&self->pairs[self->count - 1].key));
    st_put_item(out, st_item_of(&self->pairs[self->count - 1].value));
    remove_at(self, self->count - 1);
    return st_done(call);
}

ST_METHOD(dict, setdefault, "setdefault(key: any, default: any = None) -> any", 0,
          "Returns the value of a key, which is set to `default` first if it is missing.") {
    st_item key = st_arg(call, "key"), id;
    if (id_of(call, key, &id) == ST_RAISED) {
        return ST_RAISED;
    }
    size_t at = place_of(self, id);
    if (at < self->count) {
        return st_return_item(call, st_item_of(&self->pairs[at].value));
    }
    set(self, id, key, st_arg(call, "default"));
    return st_return_item(call, st_arg(call, "default"));
}

ST_METHOD(dict, update, "update(*other: any, **kwargs: any)", 0,
          "Takes over the pairs of a mapping or of an iterable of pairs, and the keyword arguments, in one step.") {
    return absorb(self, call, "update");
}

ST_METHOD(dict, values, "values() -> list", ST_READ, "Returns a list of the values.") {
    st_writer *out = st_result(call);
    st_put_list(out, self->count);
    for (size_t at = 0; at < self->count; at++) {
        st_put_item(out, st_item_of(&self->pairs[at].value));
    }
    return st_done(call);
}

ST_METHOD(dict, value, "#GETVALUE() -> any", ST_READ, "A copy for `_getvalue()`.") { return dict_copy(self, call); }

static st_answer show(const dict *self, st_call *call) {
    st_writer mapping = {NULL, 0, 0}, text = {NULL, 0, 0};
    put_mapping(self, &mapping);
    put_repr(&text, st_written(&mapping));
    return st_return_str(call, (st_str){(const char *)text.ptr, text.len});
}

ST_METHOD(dict, str, "__str__() -> str", ST_READ, "`str(dict)`.") { return show(self, call); }

ST_METHOD(dict, repr, "__repr__() -> str", ST_READ, "`repr(dict)`.") { return show(self, call); }

ST_SAVE(dict) { put_mapping(self, out); }

ST_LOAD(dict) {
    st_reader reader = st_read(state);
    size_t count;
    ST_REQUIRE(st_read_dict(&reader, &count), "state is malformed");
    for (; count > 0; count--) {
        st_item key, value, id;
        ST_REQUIRE(next_pair(&reader, true, &key, &value), "state is malformed");
        if (id_of(call, key, &id) == ST_RAISED) {
            return ST_RAISED;
        }
        set(self, id, key, value);
    }
    return st_none(call);
}

ST_DROP(dict) {
    remove_all(self);
    free(self->pairs);
}

ST_TYPE(dict, "1.0.0", create, contains, delitem, getitem, len, setitem, clear, copy, get, items, keys, pop, popitem, setdefault,
        update, values, value, str, repr, on_save, on_load, on_drop);

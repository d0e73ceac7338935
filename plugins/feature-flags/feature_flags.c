// FeatureFlags(): which features are on, for whom, read by many and changed by few.

#include <stdlib.h>
#include <string.h>

#include "steward.h"

enum {
    /// Beyond, `set` raises.
    FLAGS_MAX = 4096,
    NAME_BYTES_MAX = 256,
    /// Of flags that were removed, so many are remembered for `changes_since`.
    REMOVED_MAX = 1024,
};

/// A flag, or what is remembered of one that was removed.
struct flag {
    char *name;
    size_t name_len;
    double percent;
    /// The version that it was last changed in.
    uint64_t version;
    bool is_removed;
};

/// Flags in the order of their names, removed ones among them.
typedef struct FeatureFlags {
    struct flag *flags;
    uint32_t count, removed, capacity;
    uint64_t version;
    /// Of all changes after this version it is known what they were.
    uint64_t known_since;
} FeatureFlags;

static int order(st_str a, st_str b) {
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

static st_str name_of(const struct flag *flag) { return (st_str){flag->name, flag->name_len}; }

/// Where a name stands, or would.
static uint32_t place_of(const FeatureFlags *self, st_str name, bool *found) {
    uint32_t low = 0, high = self->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order(name_of(&self->flags[middle]), name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = low < self->count && order(name_of(&self->flags[low]), name) == 0;
    return low;
}

/// The flag of this name that is not removed; NULL if there is none.
static struct flag *find(const FeatureFlags *self, st_str name) {
    bool found;
    uint32_t at = place_of(self, name, &found);
    return found && !self->flags[at].is_removed ? &self->flags[at] : NULL;
}

static struct flag *insert(FeatureFlags *self, uint32_t at, st_str name) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity == 0 ? 4 : 2 * self->capacity;
        self->flags = st_realloc(self->flags, self->capacity * sizeof *self->flags);
    }
    memmove(&self->flags[at + 1], &self->flags[at], (self->count - at) * sizeof *self->flags);
    self->count++;
    self->flags[at] = (struct flag){.name = st_alloc(name.len), .name_len = name.len};
    memcpy(self->flags[at].name, name.ptr, name.len);
    return &self->flags[at];
}

/// Forgets the flag that was removed first, and with it what changed up to then.
static void forget_removed(FeatureFlags *self) {
    uint32_t oldest = self->count;
    for (uint32_t at = 0; at < self->count; at++) {
        const struct flag *flag = &self->flags[at];
        if (flag->is_removed && (oldest == self->count || flag->version < self->flags[oldest].version)) {
            oldest = at;
        }
    }
    self->known_since = self->flags[oldest].version;
    free(self->flags[oldest].name);
    memmove(&self->flags[oldest], &self->flags[oldest + 1], (self->count - oldest - 1) * sizeof *self->flags);
    self->count--;
    self->removed--;
}

ST_METHOD(FeatureFlags, create, "FeatureFlags()", 0,
          "Which features are on, for whom.\n\n"
          "A flag is on for a percentage of units: users, machines, whatever is asked about. Every change makes a new version of the whole, so that\n"
          "a reader keeps a snapshot of its own and waits for a newer one.") {
    return st_none(call);
}

ST_METHOD(FeatureFlags, set, "set(name: str, percent: float = 100.0) -> int", 0,
          "Turns a flag on for so many percent of units, 0 for none; returns the version since which that is so.") {
    st_str name = st_text(call, "name");
    double percent = st_f64(call, "percent");
    char text[ST_F64_TEXT];
    ST_REQUIRE(name.len >= 1 && name.len <= NAME_BYTES_MAX, "name has %zu bytes, not from 1 to %d", name.len, NAME_BYTES_MAX);
    ST_REQUIRE(percent >= 0 && percent <= 100, "percent is %s, not from 0 to 100", st_f64_text(text, percent));
    bool found;
    uint32_t at = place_of(self, name, &found);
    if (found && !self->flags[at].is_removed && percent >= self->flags[at].percent && percent <= self->flags[at].percent) {
        return st_return_u64(call, self->flags[at].version);
    }
    if (!found || self->flags[at].is_removed) {
        ST_REQUIRE(self->count - self->removed < FLAGS_MAX, "there are %d flags, which is the limit", FLAGS_MAX);
    }
    struct flag *flag = found ? &self->flags[at] : insert(self, at, name);
    self->removed -= flag->is_removed;
    flag->is_removed = false;
    flag->percent = percent;
    flag->version = ++self->version;
    return st_return_u64(call, self->version);
}

ST_METHOD(FeatureFlags, remove, "remove(name: str) -> int", 0, "Removes a flag; returns the version without it. Raises KeyError if there is none.") {
    st_str name = st_text(call, "name");
    struct flag *flag = find(self, name);
    if (flag == NULL) {
        (void)st_raise(call, "KeyError", "'%.*s'", (int)name.len, name.ptr);
        return st_raised_with(call, st_arg(call, "name"));
    }
    flag->is_removed = true;
    flag->version = ++self->version;
    if (++self->removed > REMOVED_MAX) {
        forget_removed(self);
    }
    return st_return_u64(call, self->version);
}

/// Where a unit lies among all, for one flag: from 0 up to 100, always the same (FNV-1a, mixed as MurmurHash3 does it at its end).
static double share(st_str name, st_str unit) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t at = 0; at < name.len; at++) {
        hash = (hash ^ (uint8_t)name.ptr[at]) * 0x100000001b3;
    }
    // No text has this byte, so that names and units do not run together.
    hash = (hash ^ 0xff) * 0x100000001b3;
    for (size_t at = 0; at < unit.len; at++) {
        hash = (hash ^ (uint8_t)unit.ptr[at]) * 0x100000001b3;
    }
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
    hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
    hash ^= hash >> 33;
    return (double)(hash >> 11) / (double)((uint64_t)1 << 53) * 100;
}

ST_METHOD(FeatureFlags, is_on, "is_on(name: str, unit: str = '') -> bool", ST_READ,
          "Whether a flag is on for a unit. What was on stays on while the percentage rises. A flag that there is not is off.") {
    st_str name = st_text(call, "name");
    const struct flag *flag = find(self, name);
    return st_return_bool(call, flag != NULL && share(name, st_text(call, "unit")) < flag->percent);
}

ST_METHOD(FeatureFlags, version, "version() -> int", ST_READ, "The version: how many changes there were.") {
    return st_return_u64(call, self->version);
}

ST_METHOD(FeatureFlags, snapshot, "snapshot() -> tuple[int, dict[str, float]]", ST_READ, "The version and the percentage of every flag.") {
    st_writer *out = st_result(call);
    st_put_tuple(out, 2);
    st_put_u64(out, self->version);
    st_put_dict(out, self->count - self->removed);
    for (uint32_t at = 0; at < self->count; at++) {
        if (!self->flags[at].is_removed) {
            st_put_str(out, name_of(&self->flags[at]));
            st_put_f64(out, self->flags[at].percent);
        }
    }
    return st_done(call);
}

ST_METHOD(FeatureFlags, changes_since, "changes_since(version: u64) -> tuple[int, dict[str, float | None]]", ST_READ,
          "The version and the flags that have changed since an earlier one, None for those removed.\n\n"
          "Raises LookupError if that is so long ago that removals since are forgotten: then a snapshot is due.") {
    uint64_t version = st_u64(call, "version");
    if (version < self->known_since) {
        return st_raise(call, "LookupError", "changes are known since version %llu, not %llu", (unsigned long long)self->known_since,
                        (unsigned long long)version);
    }
    size_t count = 0;
    for (uint32_t at = 0; at < self->count; at++) {
        count += self->flags[at].version > version;
    }
    st_writer *out = st_result(call);
    st_put_tuple(out, 2);
    st_put_u64(out, self->version);
    st_put_dict(out, count);
    for (uint32_t at = 0; at < self->count; at++) {
        const struct flag *flag = &self->flags[at];
        if (flag->version > version) {
            st_put_str(out, name_of(flag));
            if (flag->is_removed) {
                st_put_null(out);
            } else {
                st_put_f64(out, flag->percent);
            }
        }
    }
    return st_done(call);
}

ST_METHOD(FeatureFlags, wait_for, "wait_for(version: u64) -> int", ST_READ | ST_ALL,
          "Parks until there is a version newer than this one; returns the newest, at the deadline as well.") {
    return self->version > st_u64(call, "version") ? st_return_u64(call, self->version) : st_pending(call);
}

ST_TIMEOUT(FeatureFlags, wait_for) { return st_return_u64(call, self->version); }

ST_SAVE(FeatureFlags) {
    st_put_list(out, self->count);
    for (uint32_t at = 0; at < self->count; at++) {
        const struct flag *flag = &self->flags[at];
        st_put_list(out, 3);
        st_put_str(out, name_of(flag));
        st_put_u64(out, flag->version);
        if (flag->is_removed) {
            st_put_null(out);
        } else {
            st_put_f64(out, flag->percent);
        }
    }
}

ST_LOAD(FeatureFlags) {
    st_reader reader = st_read(state);
    size_t count, parts;
    ST_REQUIRE(st_read_list(&reader, &count) && count <= FLAGS_MAX + REMOVED_MAX, "state is malformed");
    for (; count > 0; count--) {
        st_str name;
        bool found = false;
        ST_REQUIRE(st_read_list(&reader, &parts) && parts == 3 && st_read_str(&reader, &name), "state is malformed");
        uint32_t at = place_of(self, name, &found);
        ST_REQUIRE(!found, "state is malformed");
        struct flag *flag = insert(self, at, name);
        ST_REQUIRE(st_read_u64(&reader, &flag->version), "state is malformed");
        flag->is_removed = st_read_null(&reader);
        self->removed += flag->is_removed;
        ST_REQUIRE(flag->is_removed || st_read_f64(&reader, &flag->percent), "state is malformed");
    }
    return st_none(call);
}

ST_DROP(FeatureFlags) {
    for (uint32_t at = 0; at < self->count; at++) {
        free(self->flags[at].name);
    }
    free(self->flags);
}

ST_SAVES(FeatureFlags, version, known_since);
ST_TYPE(FeatureFlags, "1.0.0", create, set, remove, is_on, version, snapshot, changes_since, wait_for, wait_for_timeout, saves, on_save, on_load,
        on_drop);
ST_PLUGIN(&FeatureFlags_type);

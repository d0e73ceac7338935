/// Writes Steward plugins in C: types whose objects live in the host, shared by all its clients, each sandboxed.
///
/// A type is a struct and a table of methods; README.md in the folder above is the manual. A method never blocks: one that
/// cannot answer yet returns st_pending(), having changed nothing, and is called again after later steps.
///
/// What this is not: a general CBOR library, a clock, a source of randomness, threads. Nothing here may be kept in globals: several
/// objects may share one instance.
#ifndef STEWARD_H
#define STEWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ST_UNUSED __attribute__((unused))
#define ST_MUST_USE __attribute__((warn_unused_result))
#define ST_FORMAT(at) __attribute__((format(printf, at, at + 1)))

// ---------------------------------------------------------------------------------------------------------------- Values

/// Text that belongs to somebody else: UTF-8, not ended by a NUL.
typedef struct st_str {
    const char *ptr;
    size_t len;
} st_str;

/// Bytes that belong to somebody else.
typedef struct st_bytes {
    const uint8_t *ptr;
    size_t len;
} st_bytes;

/// One encoded value that belongs to somebody else: an argument lasts until its method returns.
typedef struct st_item {
    const uint8_t *ptr;
    size_t len;
} st_item;

/// One encoded value that is the object's own. Zeroed, it is none. While it exists, the objects that its tokens name stay alive.
typedef struct st_any {
    uint8_t *ptr;
    uint32_t len;
    /// There are tokens in it.
    bool tokens;
} st_any;

/// What an item is.
typedef enum st_kind {
    ST_KIND_MALFORMED,
    ST_KIND_NULL,
    ST_KIND_BOOL,
    ST_KIND_INT,
    /// Beyond 64 bits.
    ST_KIND_BIG_INT,
    ST_KIND_FLOAT,
    ST_KIND_STR,
    ST_KIND_BYTES,
    ST_KIND_BYTE_ARRAY,
    ST_KIND_LIST,
    ST_KIND_TUPLE,
    ST_KIND_SET,
    ST_KIND_FROZEN_SET,
    ST_KIND_DICT,
    ST_KIND_TOKEN,
    /// Decimals, dates, opaque values and what else docs/protocol.md has tags for.
    ST_KIND_OTHER,
} st_kind;

/// What `item` is, by its first bytes.
st_kind st_kind_of(st_item item);

/// Copies an item, so that the object may keep it. Its tokens are held from now on.
ST_MUST_USE st_any st_keep(st_item item);
/// Frees a kept item and lets its tokens go; leaves none.
void st_forget(st_any *any);
/// The kept item, to read or to return; null for none.
st_item st_item_of(const st_any *any);

/// The object that a token names.
typedef struct st_token {
    st_str typeid;
    uint64_t ident;
    /// Of the host, if it is another one: such objects are not kept alive. Else empty.
    st_str address;
} st_token;

/// Reads a token; false if `item` is none.
bool st_token_of(st_item item, st_token *token);

// ---------------------------------------------------------------------------------------------------- Reading and writing

/// Reads items, front to back. Every function returns false, and leaves what it would fill as it was, if the next item is something else
/// or there is none; from then on the reader has failed, and all of them return false.
typedef struct st_reader {
    /// NULL once it has failed.
    const uint8_t *at;
    const uint8_t *end;
} st_reader;

/// A reader at the start of an item.
st_reader st_read(st_item item);
/// What is next; malformed at the end.
st_kind st_read_kind(const st_reader *reader);
/// Takes null if it is next. The only one that fails without failing the reader.
bool st_read_null(st_reader *reader);
bool st_read_bool(st_reader *reader, bool *value);
/// Takes integers that fit, and truth values, as Python does.
bool st_read_i64(st_reader *reader, int64_t *value);
bool st_read_u64(st_reader *reader, uint64_t *value);
bool st_read_u32(st_reader *reader, uint32_t *value);
/// Takes floats of any width, and integers.
bool st_read_f64(st_reader *reader, double *value);
bool st_read_str(st_reader *reader, st_str *value);
/// Takes bytes and bytearrays.
bool st_read_bytes(st_reader *reader, st_bytes *value);
/// Takes the head of a list, tuple, set or frozen set, whose `count` items are next.
bool st_read_list(st_reader *reader, size_t *count);
/// Takes the head of a dict, whose `count` pairs are next: a key, its value.
bool st_read_dict(st_reader *reader, size_t *count);
/// Takes any item, undecoded. Fails on what nests deeper than 32.
bool st_read_item(st_reader *reader, st_item *item);
/// Whether everything was read, and nothing failed.
bool st_read_end(const st_reader *reader);

/// Items as they are being written; zeroed, it is empty. Its memory lasts until the step is over.
typedef struct st_writer {
    uint8_t *ptr;
    size_t len;
    size_t capacity;
} st_writer;

void st_put_null(st_writer *out);
void st_put_bool(st_writer *out, bool value);
void st_put_i64(st_writer *out, int64_t value);
void st_put_u64(st_writer *out, uint64_t value);
void st_put_f64(st_writer *out, double value);
void st_put_str(st_writer *out, st_str value);
/// Text that ends with a NUL.
void st_put_text(st_writer *out, const char *value);
void st_put_bytes(st_writer *out, st_bytes value);
/// Heads: as many items follow, of a dict pairs.
void st_put_list(st_writer *out, size_t count);
void st_put_tuple(st_writer *out, size_t count);
void st_put_dict(st_writer *out, size_t count);
/// An item as it is.
void st_put_item(st_writer *out, st_item item);
/// What was written so far. It must be one item, where one is wanted.
st_item st_written(const st_writer *out);

/// The text of a literal.
#define ST_STR(literal) ((st_str){(literal), sizeof(literal) - 1})
/// Whether a text is this literal.
#define ST_IS(text, literal) st_str_equal((text), ST_STR(literal))
bool st_str_equal(st_str a, st_str b);
bool st_item_equal(st_item a, st_item b);

/// Zeroed memory, which free() frees. Traps if there is no more: an object's memory is limited.
ST_MUST_USE void *st_alloc(size_t bytes);
/// As realloc(), but it traps if there is no more. What is new is not zeroed.
ST_MUST_USE void *st_realloc(void *memory, size_t bytes);

// ----------------------------------------------------------------------------------------------------------------- Calls

/// What one turn of an object knows and may ask for: a call of a method, or a hook. Its functions are valid until that returns.
typedef struct st_call st_call;

/// What a method gives. Only functions below make one.
typedef enum st_answer {
    ST_DONE,
    ST_RAISED,
    ST_PENDING,
    ST_BY_HAND,
} st_answer;

/// Who calls and who holds: a session and one of that client's threads or tasks. Never reused.
typedef struct st_owner {
    uint64_t session;
    uint64_t thread;
} st_owner;

/// The host's clock in ms. It never goes back.
uint64_t st_now_ms(const st_call *call);
/// The call's number within its object, never reused; 0 where there is none.
uint64_t st_call_id(const st_call *call);
/// Who calls; zeros where nobody does.
st_owner st_caller(const st_call *call);
/// The tenant whose object this is.
st_str st_tenant(const st_call *call);
/// A random number, decided by the seed of this turn (SplitMix64). Not for secrets.
uint64_t st_random(st_call *call);
/// A random number from 0 up to, not including, 1.
double st_random_f64(st_call *call);

// Arguments, by their parameters' names, or their defaults. Before a method is called they are checked against the types in its
// signature, so these cannot fail, unless the signature says another type: that raises SystemError, whatever the method returns.

bool st_bool(st_call *call, const char *name);
/// `int` and `i64`.
int64_t st_i64(st_call *call, const char *name);
/// `u64` and `u32`.
uint64_t st_u64(st_call *call, const char *name);
/// `u32`.
uint32_t st_u32(st_call *call, const char *name);
/// `float`.
double st_f64(st_call *call, const char *name);
/// `str`.
st_str st_text(st_call *call, const char *name);
/// `bytes`.
st_bytes st_data(st_call *call, const char *name);
/// Any type, undecoded. Those of `*name` and `**name` are several: st_rest(), st_keywords().
st_item st_arg(st_call *call, const char *name);
/// Whether an argument was given, so that it is not the default.
bool st_given(st_call *call, const char *name);
/// A reader of the `count` items of `*name`.
st_reader st_rest(st_call *call, const char *name, size_t *count);
/// The pairs of `**name`: zero `at` before the first; false after the last.
typedef struct st_keyword {
    st_str name;
    st_item value;
    size_t next;
} st_keyword;
bool st_keywords(st_call *call, const char *name, st_keyword *at);

// Answers: `return st_return_bool(call, true);`

st_answer st_none(st_call *call);
st_answer st_return_bool(st_call *call, bool value);
st_answer st_return_i64(st_call *call, int64_t value);
st_answer st_return_u64(st_call *call, uint64_t value);
st_answer st_return_f64(st_call *call, double value);
st_answer st_return_str(st_call *call, st_str value);
st_answer st_return_text(st_call *call, const char *value);
st_answer st_return_bytes(st_call *call, st_bytes value);
st_answer st_return_item(st_call *call, st_item value);
/// Where to write an answer of several parts, followed by `return st_done(call)`.
st_writer *st_result(st_call *call);
st_answer st_done(st_call *call);
/// Raises. `kind` is an exception's name, and a literal; `format` knows %s, %.*s, %c, %d, %u, %x with the sizes l, ll, z, and %%. A float is
/// written by st_f64_text().
st_answer st_raise(st_call *call, const char *kind, const char *format, ...) ST_FORMAT(3);
/// Adds what belongs to the kind of the fault just raised, encoded: the key of a KeyError.
st_answer st_raised_with(st_call *call, st_item data);
/// Raises ValueError unless the condition holds.
#define ST_REQUIRE(condition, ...)                             \
    do {                                                       \
        if (!(condition)) {                                    \
            return st_raise(call, "ValueError", __VA_ARGS__);  \
        }                                                      \
    } while (0)
/// Parks the call, which has changed nothing: it is tried again after later steps.
st_answer st_pending(st_call *call);
/// Parks the call: it is tried again after later steps, and at this time of st_now_ms().
st_answer st_pending_until(st_call *call, uint64_t until_ms);
/// Leaves the call to st_complete(): the object has noted its number where it is not saved, for after a move to another version the
/// method is called again.
st_answer st_by_hand(st_call *call);

/// Answers a call that a method left by hand. False if it does not wait (any more).
bool st_complete(st_call *call, uint64_t id, st_item value);
bool st_complete_with_grant(st_call *call, uint64_t id, st_item value);
bool st_complete_with_fault(st_call *call, uint64_t id, const char *kind, const char *message);

/// Says that this call is granted something that is held from now on: its reply carries a fence, under which calls may be guarded until
/// st_freed(). Counts only if the method returns a value.
void st_grant(st_call *call);
/// The same; and whoever held it before was lost while holding it, so that what it protects may be half done.
void st_grant_abandoned(st_call *call);
/// Says that nobody holds any more what was granted before this step.
void st_freed(st_call *call);
/// Asks for ST_TICK at a time of st_now_ms(); the earliest wish counts, until its time has come.
void st_wake_at(st_call *call, uint64_t at_ms);
/// Asks for a call on an object whose token is kept. Its end arrives at ST_RETURNED with `tag`. `args` is what st_put_args() begins. False
/// if there is no such token.
bool st_invoke(st_call *call, uint64_t tag, const st_any *on, const char *method, st_item args);
/// Begins arguments: `count` positional ones follow, then st_put_dict() and the keyword ones.
void st_put_args(st_writer *out, size_t count);

typedef enum st_level { ST_ERROR, ST_WARN, ST_INFO, ST_DEBUG } st_level;
/// Writes a line to the host's log, formatted as st_raise() does it. Cut at 4 KiB; beyond 64 KiB a step it is dropped.
void st_log(st_level level, const char *format, ...) ST_FORMAT(2);

/// Formats as st_raise() does it into `bytes` of text, cut if it is longer, and ended by a NUL.
void st_text_format(char *text, size_t bytes, const char *format, ...) ST_FORMAT(3);
/// Room for any float.
#define ST_F64_TEXT 32
/// Writes a float as Python does: the shortest digits that read back as the same, ended by a NUL. Returns `text`.
const char *st_f64_text(char text[ST_F64_TEXT], double value);

// ---------------------------------------------------------------------------------------------------------------- Hooks

/// A session has ended.
typedef struct st_owner_lost {
    /// All owners of it are lost. Its waiting calls were cancelled before.
    uint64_t session;
    /// The client said goodbye: holdings without owner stay as they are.
    bool orderly;
} st_owner_lost;

/// A result that never reached its client. Several arrive newest first.
typedef struct st_undelivered {
    /// The method's name; empty if there is no such method any more.
    st_str method;
    st_item result;
    /// It was sent: its client may have seen it, and begun with what it was granted.
    bool sent;
} st_undelivered;

/// A call that st_invoke() asked for has ended.
typedef struct st_returned {
    uint64_t tag;
    /// It raised `kind` and `message`, and there is no result.
    bool raised;
    st_item result;
    st_str kind;
    st_str message;
} st_returned;

/// Why a waiting call was given up.
typedef enum st_why { ST_WHY_DEADLINE, ST_WHY_CLIENT, ST_WHY_SESSION_ENDED } st_why;

// ----------------------------------------------------------------------------------------------------------------- Types

/// Flags of a method.
enum {
    /// It changes nothing: it may run again, and raises no version.
    ST_READ = 1 << 0,
    /// Its calls may park, in a line of which only the first is tried again; newcomers queue behind it.
    ST_FIFO = 1 << 1,
    /// Its calls may park, and all of them are tried again, oldest first.
    ST_ALL = 1 << 2,
};
/// A flag: methods of one type with the same number (1 to 15) wait in one line.
#define ST_LINE(number) ((number) << 8)

enum { ST_PART_METHOD, ST_PART_TIMEOUT, ST_PART_FIELDS, ST_PART_OWNER_LOST, ST_PART_TICK, ST_PART_CANCELLED,
       ST_PART_UNDELIVERED, ST_PART_RETURNED, ST_PART_SAVE, ST_PART_LOAD, ST_PART_MIGRATE, ST_PART_DROP };

/// A field that is saved.
typedef struct st_field {
    const char *name;
    uint32_t offset;
    uint32_t kind;
} st_field;

enum { ST_FIELD_BOOL, ST_FIELD_I8, ST_FIELD_U8, ST_FIELD_I16, ST_FIELD_U16, ST_FIELD_I32, ST_FIELD_U32, ST_FIELD_I64,
       ST_FIELD_U64, ST_FIELD_F32, ST_FIELD_F64, ST_FIELD_ANY };

/// What a type is made of. Only the macros below make one.
typedef struct st_part {
    uint32_t kind;
    uint32_t flags;
    const char *signature;
    const char *doc;
    /// The method that a timeout belongs to.
    const struct st_part *of;
    const st_field *fields;
    uint32_t fields_count;
    union {
        st_answer (*method)(void *self, st_call *call);
        st_answer (*timeout)(const void *self, st_call *call);
        bool (*owner_lost)(void *self, st_call *call, st_owner_lost lost);
        bool (*tick)(void *self, st_call *call);
        bool (*cancelled)(void *self, st_call *call, st_why why);
        bool (*undelivered)(void *self, st_call *call, st_undelivered lost);
        bool (*returned)(void *self, st_call *call, st_returned returned);
        void (*save)(const void *self, st_writer *out);
        st_answer (*load)(void *self, st_call *call, st_item state, st_str from);
        st_answer (*migrate)(void *self, st_call *call, st_str from);
        void (*drop)(void *self);
    } run;
} st_part;

/// A type. Only ST_TYPE makes one.
typedef struct st_type {
    const char *version;
    const st_part *const *parts;
    /// What was read of each part's signature, once it was needed.
    struct st_plan **plans;
    uint32_t parts_count;
    uint32_t bytes;
} st_type;

/// A method: `ST_METHOD(limiter, acquire, "acquire(n: float = 1) -> bool", ST_FIFO, "Takes n tokens.") { … }`, with `self` and `call`
/// at hand. The first one in ST_TYPE is the constructor, whose signature is named as the type and whose doc is the type's; `self` is zeroed then.
#define ST_METHOD(type, name, signature, flags, doc)                                                              \
    static st_answer type##_##name(type *self, st_call *call);                                                    \
    static st_answer type##_##name##_run(void *self, st_call *call) { return type##_##name(self, call); }         \
    static const st_part type##_##name##_part = {                                                                 \
        ST_PART_METHOD, (flags), (signature), (doc), NULL, NULL, 0, {.method = type##_##name##_run}};             \
    static st_answer type##_##name(ST_UNUSED type *self, ST_UNUSED st_call *call)

/// What a call of a method that parks answers at its deadline; without one it raises TimeoutError. Listed in ST_TYPE as `name_timeout`.
#define ST_TIMEOUT(type, name)                                                                                    \
    static st_answer type##_##name##_timeout(const type *self, st_call *call);                                    \
    static st_answer type##_##name##_timeout_run(const void *self, st_call *call) {                               \
        return type##_##name##_timeout(self, call);                                                               \
    }                                                                                                             \
    static const st_part type##_##name##_timeout_part = {                                                         \
        ST_PART_TIMEOUT, 0, NULL, NULL, &type##_##name##_part, NULL, 0, {.timeout = type##_##name##_timeout_run}}; \
    static st_answer type##_##name##_timeout(ST_UNUSED const type *self, ST_UNUSED st_call *call)

#define ST_HOOK_(type, hook, PART, result, ...)                                                                   \
    static const st_part type##_on_##hook##_part = {                                                              \
        PART, 0, NULL, NULL, NULL, NULL, 0, {.hook = type##_on_##hook##_run}};                                    \
    static result type##_on_##hook(__VA_ARGS__)

/// A session has ended: `lost`. Returns whether the object changed, as hooks do. Listed in ST_TYPE as `on_owner_lost`, and so on.
#define ST_OWNER_LOST(type)                                                                                       \
    static bool type##_on_owner_lost(type *self, st_call *call, st_owner_lost lost);                              \
    static bool type##_on_owner_lost_run(void *self, st_call *call, st_owner_lost lost) {                         \
        return type##_on_owner_lost(self, call, lost);                                                            \
    }                                                                                                             \
    ST_HOOK_(type, owner_lost, ST_PART_OWNER_LOST, bool, ST_UNUSED type *self, ST_UNUSED st_call *call, ST_UNUSED st_owner_lost lost)

/// The time of st_wake_at() has come.
#define ST_TICK(type)                                                                                             \
    static bool type##_on_tick(type *self, st_call *call);                                                        \
    static bool type##_on_tick_run(void *self, st_call *call) { return type##_on_tick(self, call); }              \
    ST_HOOK_(type, tick, ST_PART_TICK, bool, ST_UNUSED type *self, ST_UNUSED st_call *call)

/// A waiting call was given up: `why`; st_call_id() is its number.
#define ST_CANCELLED(type)                                                                                        \
    static bool type##_on_cancelled(type *self, st_call *call, st_why why);                                       \
    static bool type##_on_cancelled_run(void *self, st_call *call, st_why why) {                                  \
        return type##_on_cancelled(self, call, why);                                                              \
    }                                                                                                             \
    ST_HOOK_(type, cancelled, ST_PART_CANCELLED, bool, ST_UNUSED type *self, ST_UNUSED st_call *call, ST_UNUSED st_why why)

/// A result never reached its client: `lost`; st_call_id() is the number of its call.
#define ST_UNDELIVERED(type)                                                                                      \
    static bool type##_on_undelivered(type *self, st_call *call, st_undelivered lost);                            \
    static bool type##_on_undelivered_run(void *self, st_call *call, st_undelivered lost) {                       \
        return type##_on_undelivered(self, call, lost);                                                           \
    }                                                                                                             \
    ST_HOOK_(type, undelivered, ST_PART_UNDELIVERED, bool, ST_UNUSED type *self, ST_UNUSED st_call *call, ST_UNUSED st_undelivered lost)

/// A call that st_invoke() asked for has ended: `returned`.
#define ST_RETURNED(type)                                                                                         \
    static bool type##_on_returned(type *self, st_call *call, st_returned returned);                              \
    static bool type##_on_returned_run(void *self, st_call *call, st_returned returned) {                         \
        return type##_on_returned(self, call, returned);                                                          \
    }                                                                                                             \
    ST_HOOK_(type, returned, ST_PART_RETURNED, bool, ST_UNUSED type *self, ST_UNUSED st_call *call, ST_UNUSED st_returned returned)

/// The state is these fields: numbers, bool, st_any. A state that lacks one leaves it zeroed; one that has more is loaded as well.
/// Listed in ST_TYPE as `saves`. Kept items among them are forgotten when the object ends.
#define ST_SAVES(type, ...)                                                                                       \
    static const st_field type##_fields[] = {ST_EACH_(ST_FIELD_, type, __VA_ARGS__)};                             \
    static const st_part type##_saves_part = {ST_PART_FIELDS, 0, NULL, NULL, NULL, type##_fields,                 \
                                              sizeof type##_fields / sizeof type##_fields[0], {NULL}}

/// Writes the state as one item to `out`, beside or instead of ST_SAVES; changes nothing. Listed as `on_save`.
#define ST_SAVE(type)                                                                                             \
    static void type##_on_save(const type *self, st_writer *out);                                                 \
    static void type##_on_save_run(const void *self, st_writer *out) { type##_on_save(self, out); }               \
    ST_HOOK_(type, save, ST_PART_SAVE, void, ST_UNUSED const type *self, ST_UNUSED st_writer *out)

/// Fills a zeroed object from a `state` that ST_SAVE of the version `from` wrote. Returns st_none(call), or raises. Listed as `on_load`.
#define ST_LOAD(type)                                                                                             \
    static st_answer type##_on_load(type *self, st_call *call, st_item state, st_str from);                       \
    static st_answer type##_on_load_run(void *self, st_call *call, st_item state, st_str from) {                  \
        return type##_on_load(self, call, state, from);                                                           \
    }                                                                                                             \
    ST_HOOK_(type, load, ST_PART_LOAD, st_answer, ST_UNUSED type *self, ST_UNUSED st_call *call, ST_UNUSED st_item state, \
             ST_UNUSED st_str from)

/// Mends an object after it was loaded from another version's state. Returns st_none(call), or raises. Listed as `on_migrate`.
#define ST_MIGRATE(type)                                                                                          \
    static st_answer type##_on_migrate(type *self, st_call *call, st_str from);                                   \
    static st_answer type##_on_migrate_run(void *self, st_call *call, st_str from) {                              \
        return type##_on_migrate(self, call, from);                                                               \
    }                                                                                                             \
    ST_HOOK_(type, migrate, ST_PART_MIGRATE, st_answer, ST_UNUSED type *self, ST_UNUSED st_call *call, ST_UNUSED st_str from)

/// Frees what the object has allocated: it ends. Listed as `on_drop`.
#define ST_DROP(type)                                                                                             \
    static void type##_on_drop(type *self);                                                                       \
    static void type##_on_drop_run(void *self) { type##_on_drop(self); }                                          \
    ST_HOOK_(type, drop, ST_PART_DROP, void, ST_UNUSED type *self)

/// A type, of its constructor, its methods in the order in which clients see them, and the other parts: at most 48.
/// `ST_TYPE(limiter, "1.0.0", create, acquire, saves);` A part that is defined and not listed is a compiler's warning.
#define ST_TYPE(type, version, ...)                                                                               \
    static const st_part *const type##_parts[] = {ST_EACH_(ST_PART_, type, __VA_ARGS__)};                         \
    static struct st_plan *type##_plans[sizeof type##_parts / sizeof type##_parts[0]];                            \
    const st_type type##_type = {version, type##_parts, type##_plans,                                             \
                                 sizeof type##_parts / sizeof type##_parts[0], sizeof(type)}

/// The types of the plugin, once in it: `ST_PLUGIN(&limiter_type, &other_type);` A type of another file is declared as
/// `extern const st_type other_type;`.
#define ST_PLUGIN(...)                                                                                            \
    const st_type *const st_plugin_types[] = {__VA_ARGS__};                                                       \
    const size_t st_plugin_types_count = sizeof st_plugin_types / sizeof st_plugin_types[0]
extern const st_type *const st_plugin_types[];
extern const size_t st_plugin_types_count;

// ------------------------------------------------------------------------------------------------- What the macros are made of

#define ST_PART_(type, name) &type##_##name##_part
#define ST_FIELD_(type, name) {#name, (uint32_t)offsetof(type, name), ST_FIELD_KIND_(((type *)0)->name)}
#define ST_FIELD_KIND_(field)                                                                                     \
    _Generic((field), bool: ST_FIELD_BOOL, signed char: ST_FIELD_I8, unsigned char: ST_FIELD_U8, short: ST_FIELD_I16, \
             unsigned short: ST_FIELD_U16, int: ST_FIELD_I32, unsigned: ST_FIELD_U32,                             \
             long: sizeof(long) == 8 ? ST_FIELD_I64 : ST_FIELD_I32,                                               \
             unsigned long: sizeof(long) == 8 ? ST_FIELD_U64 : ST_FIELD_U32, long long: ST_FIELD_I64,             \
             unsigned long long: ST_FIELD_U64, float: ST_FIELD_F32, double: ST_FIELD_F64, st_any: ST_FIELD_ANY)
#define ST_EACH_(macro, type, ...) ST_JOIN_(ST_EACH_, ST_COUNT_(__VA_ARGS__))(macro, type, __VA_ARGS__)
#define ST_JOIN_(a, b) ST_JOIN__(a, b)
#define ST_JOIN__(a, b) a##b
#define ST_COUNT_(...) \
    ST_COUNT__(__VA_ARGS__, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24, \
               23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define ST_COUNT__(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, _18, _19, _20, _21, _22, \
                   _23, _24, _25, _26, _27, _28, _29, _30, _31, _32, _33, _34, _35, _36, _37, _38, _39, _40, _41, _42, \
                   _43, _44, _45, _46, _47, _48, count, ...) count
#define ST_EACH_1(m, t, a) m(t, a)
#define ST_EACH_2(m, t, a, ...) m(t, a), ST_EACH_1(m, t, __VA_ARGS__)
#define ST_EACH_3(m, t, a, ...) m(t, a), ST_EACH_2(m, t, __VA_ARGS__)
#define ST_EACH_4(m, t, a, ...) m(t, a), ST_EACH_3(m, t, __VA_ARGS__)
#define ST_EACH_5(m, t, a, ...) m(t, a), ST_EACH_4(m, t, __VA_ARGS__)
#define ST_EACH_6(m, t, a, ...) m(t, a), ST_EACH_5(m, t, __VA_ARGS__)
#define ST_EACH_7(m, t, a, ...) m(t, a), ST_EACH_6(m, t, __VA_ARGS__)
#define ST_EACH_8(m, t, a, ...) m(t, a), ST_EACH_7(m, t, __VA_ARGS__)
#define ST_EACH_9(m, t, a, ...) m(t, a), ST_EACH_8(m, t, __VA_ARGS__)
#define ST_EACH_10(m, t, a, ...) m(t, a), ST_EACH_9(m, t, __VA_ARGS__)
#define ST_EACH_11(m, t, a, ...) m(t, a), ST_EACH_10(m, t, __VA_ARGS__)
#define ST_EACH_12(m, t, a, ...) m(t, a), ST_EACH_11(m, t, __VA_ARGS__)
#define ST_EACH_13(m, t, a, ...) m(t, a), ST_EACH_12(m, t, __VA_ARGS__)
#define ST_EACH_14(m, t, a, ...) m(t, a), ST_EACH_13(m, t, __VA_ARGS__)
#define ST_EACH_15(m, t, a, ...) m(t, a), ST_EACH_14(m, t, __VA_ARGS__)
#define ST_EACH_16(m, t, a, ...) m(t, a), ST_EACH_15(m, t, __VA_ARGS__)
#define ST_EACH_17(m, t, a, ...) m(t, a), ST_EACH_16(m, t, __VA_ARGS__)
#define ST_EACH_18(m, t, a, ...) m(t, a), ST_EACH_17(m, t, __VA_ARGS__)
#define ST_EACH_19(m, t, a, ...) m(t, a), ST_EACH_18(m, t, __VA_ARGS__)
#define ST_EACH_20(m, t, a, ...) m(t, a), ST_EACH_19(m, t, __VA_ARGS__)
#define ST_EACH_21(m, t, a, ...) m(t, a), ST_EACH_20(m, t, __VA_ARGS__)
#define ST_EACH_22(m, t, a, ...) m(t, a), ST_EACH_21(m, t, __VA_ARGS__)
#define ST_EACH_23(m, t, a, ...) m(t, a), ST_EACH_22(m, t, __VA_ARGS__)
#define ST_EACH_24(m, t, a, ...) m(t, a), ST_EACH_23(m, t, __VA_ARGS__)
#define ST_EACH_25(m, t, a, ...) m(t, a), ST_EACH_24(m, t, __VA_ARGS__)
#define ST_EACH_26(m, t, a, ...) m(t, a), ST_EACH_25(m, t, __VA_ARGS__)
#define ST_EACH_27(m, t, a, ...) m(t, a), ST_EACH_26(m, t, __VA_ARGS__)
#define ST_EACH_28(m, t, a, ...) m(t, a), ST_EACH_27(m, t, __VA_ARGS__)
#define ST_EACH_29(m, t, a, ...) m(t, a), ST_EACH_28(m, t, __VA_ARGS__)
#define ST_EACH_30(m, t, a, ...) m(t, a), ST_EACH_29(m, t, __VA_ARGS__)
#define ST_EACH_31(m, t, a, ...) m(t, a), ST_EACH_30(m, t, __VA_ARGS__)
#define ST_EACH_32(m, t, a, ...) m(t, a), ST_EACH_31(m, t, __VA_ARGS__)
#define ST_EACH_33(m, t, a, ...) m(t, a), ST_EACH_32(m, t, __VA_ARGS__)
#define ST_EACH_34(m, t, a, ...) m(t, a), ST_EACH_33(m, t, __VA_ARGS__)
#define ST_EACH_35(m, t, a, ...) m(t, a), ST_EACH_34(m, t, __VA_ARGS__)
#define ST_EACH_36(m, t, a, ...) m(t, a), ST_EACH_35(m, t, __VA_ARGS__)
#define ST_EACH_37(m, t, a, ...) m(t, a), ST_EACH_36(m, t, __VA_ARGS__)
#define ST_EACH_38(m, t, a, ...) m(t, a), ST_EACH_37(m, t, __VA_ARGS__)
#define ST_EACH_39(m, t, a, ...) m(t, a), ST_EACH_38(m, t, __VA_ARGS__)
#define ST_EACH_40(m, t, a, ...) m(t, a), ST_EACH_39(m, t, __VA_ARGS__)
#define ST_EACH_41(m, t, a, ...) m(t, a), ST_EACH_40(m, t, __VA_ARGS__)
#define ST_EACH_42(m, t, a, ...) m(t, a), ST_EACH_41(m, t, __VA_ARGS__)
#define ST_EACH_43(m, t, a, ...) m(t, a), ST_EACH_42(m, t, __VA_ARGS__)
#define ST_EACH_44(m, t, a, ...) m(t, a), ST_EACH_43(m, t, __VA_ARGS__)
#define ST_EACH_45(m, t, a, ...) m(t, a), ST_EACH_44(m, t, __VA_ARGS__)
#define ST_EACH_46(m, t, a, ...) m(t, a), ST_EACH_45(m, t, __VA_ARGS__)
#define ST_EACH_47(m, t, a, ...) m(t, a), ST_EACH_46(m, t, __VA_ARGS__)
#define ST_EACH_48(m, t, a, ...) m(t, a), ST_EACH_47(m, t, __VA_ARGS__)

#endif

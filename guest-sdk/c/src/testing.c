// The SDK as it is compiled natively, with the harness of steward_test.h around it, which stands for the host.

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>

#include "steward.c"

#include "../include/steward_test.h"

// ------------------------------------------------------------------------------------------------------------ What it knows

enum { NAME_BYTES = 32, THINGS_MAX = 16, TEXT_BYTES = 4096 };

/// A call, for as long as the script runs.
struct made_call {
    uint64_t id;
    uint64_t session;
    uint32_t method;
    uint8_t *args;
    size_t args_len;
    char label[NAME_BYTES];
    /// The object has it; not so between a move and its turn to be called again.
    bool is_issued;
    bool is_answered;
    bool is_taken;
    char *answer;
    uint8_t grant;
    uint8_t *result;
    size_t result_len;
};

/// An object and the host around it.
struct thing {
    char name[NAME_BYTES];
    object *object;
    const st_type *type;
    struct made_call *calls;
    size_t calls_count;
    plugin_option_u64_t wake_at;
    uint64_t *held;
    size_t held_count;
    uint64_t version;
    bool is_held;
    char *asked;
};

static struct {
    struct thing things[THINGS_MAX];
    size_t things_count;
    uint64_t now_ms, seed;
} world;

static struct {
    const char *line;
    char why[TEXT_BYTES];
    jmp_buf out;
    int ran, failed;
} run;

NORETURN ST_FORMAT(1) static void differs(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(run.why, sizeof run.why, format, args);
    va_end(args);
    longjmp(run.out, 1);
}

void steward_plugin_host_log(steward_plugin_host_level_t level, plugin_string_t *message) {
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    (void)fprintf(stderr, "%s: %.*s\n", levels[level & 3], (int)message->len, (const char *)message->ptr);
}

exports_steward_plugin_referent_own_object_t exports_steward_plugin_referent_object_new(object *o) {
    // The one that was made last: handles mean nothing here.
    world.things[world.things_count < THINGS_MAX ? world.things_count : THINGS_MAX - 1].object = o;
    return (exports_steward_plugin_referent_own_object_t){1};
}

/// As a host's: what the guest gave is gone now.
static void turn_over(void) {
    turn_begin(0);
    st__arena_reset();
}

static char *copy_text(const char *text, size_t len) {
    char *copy = st_alloc(len + 1);
    memcpy(copy, text, len);
    return copy;
}

static uint8_t *copy_bytes(const uint8_t *bytes, size_t len) {
    uint8_t *copy = st_alloc(len);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    return copy;
}

static struct thing *thing_called(st_str name) {
    for (size_t at = 0; at < world.things_count; at++) {
        if (st_str_equal(name, text_of(world.things[at].name))) {
            return &world.things[at];
        }
    }
    differs("no object is called `%.*s`", (int)name.len, name.ptr);
}

static struct made_call *call_of(struct thing *thing, uint64_t id) {
    return id >= 1 && id <= thing->calls_count ? &thing->calls[id - 1] : NULL;
}

static void world_end(void) {
    for (size_t at = 0; at < world.things_count; at++) {
        struct thing *thing = &world.things[at];
        exports_steward_plugin_referent_object_destructor(thing->object);
        for (size_t call = 0; call < thing->calls_count; call++) {
            free(thing->calls[call].args);
            free(thing->calls[call].answer);
            free(thing->calls[call].result);
        }
        free(thing->calls);
        free(thing->held);
        free(thing->asked);
    }
    for (size_t type = 0; type < st_plugin_types_count; type++) {
        for (uint32_t part = 0; part < st_plugin_types[type]->parts_count; part++) {
            free(st_plugin_types[type]->plans[part]);
            st_plugin_types[type]->plans[part] = NULL;
        }
    }
    memset(&world, 0, sizeof world);
    turn_over();
}

// ----------------------------------------------------------------------------------------------------------------- Values

static void put_literal(struct text *t, st_writer *out);

static void put_quoted(struct text *t, st_writer *out, bool is_bytes) {
    char quote = *t->at++;
    char value[TEXT_BYTES];
    size_t len = 0;
    for (; t->at < t->end && *t->at != quote && len < sizeof value; t->at++) {
        unsigned byte = (unsigned char)*t->at;
        if (byte == '\\' && t->end - t->at > 1) {
            t->at++;
            byte = *t->at == 'n' ? '\n' : *t->at == 't' ? '\t' : *t->at == 'r' ? '\r' : (unsigned char)*t->at;
            if (*t->at == 'x' && t->end - t->at > 2) {
                (void)sscanf(t->at + 1, "%2x", &byte);
                t->at += 2;
            }
        }
        value[len++] = (char)byte;
    }
    if (t->at == t->end) {
        differs("a text has no end");
    }
    t->at++;
    if (is_bytes) {
        st_put_bytes(out, (st_bytes){(const uint8_t *)value, len});
    } else {
        st_put_str(out, (st_str){value, len});
    }
}

/// Items up to the closing bracket; returns how many, pairs counted once.
static size_t put_items(struct text *t, const char *close, st_writer *out, bool *has_colon) {
    size_t count = 0;
    while (!eat(t, close)) {
        if (count > 0 && !eat(t, ",")) {
            differs("expected `%s` at `%s`", close, t->at);
        }
        if (count > 0 && eat(t, close)) {
            break;
        }
        put_literal(t, out);
        if (eat(t, ":")) {
            *has_colon = true;
            put_literal(t, out);
        }
        count++;
    }
    return count;
}

static void put_literal(struct text *t, st_writer *out) {
    skip_spaces(t);
    st_writer inner = {NULL, 0, 0};
    bool has_colon = false;
    char first = t->at < t->end ? *t->at : 0;
    if (first == 'b' && t->end - t->at > 1 && (t->at[1] == '\'' || t->at[1] == '"')) {
        t->at++;
        put_quoted(t, out, true);
    } else if (first == '\'' || first == '"') {
        put_quoted(t, out, false);
    } else if (eat(t, "[")) {
        size_t count = put_items(t, "]", &inner, &has_colon);
        st_put_list(out, count);
        st__put_raw(out, inner.ptr, inner.len);
    } else if (eat(t, "(")) {
        const char *start = t->at;
        size_t count = put_items(t, ")", &inner, &has_colon);
        if (count == 1 && t->at[-2] != ',' && start != t->at) {
            st__put_raw(out, inner.ptr, inner.len);
        } else {
            st_put_tuple(out, count);
            st__put_raw(out, inner.ptr, inner.len);
        }
    } else if (eat(t, "{")) {
        size_t count = put_items(t, "}", &inner, &has_colon);
        if (has_colon || count == 0) {
            st_put_dict(out, count);
        } else {
            st__put_head(out, 6, TAG_SET);
            st_put_list(out, count);
        }
        st__put_raw(out, inner.ptr, inner.len);
    } else if (eat(t, "#")) {
        uint64_t ident = strtoull(t->at, (char **)(uintptr_t)&t->at, 10);
        st__put_head(out, 6, TAG_TOKEN);
        st_put_list(out, 3);
        st_put_text(out, "Object");
        st_put_u64(out, ident);
        st_put_null(out);
    } else if (eat(t, "None")) {
        st_put_null(out);
    } else if (eat(t, "True")) {
        st_put_bool(out, true);
    } else if (eat(t, "False")) {
        st_put_bool(out, false);
    } else {
        char *end_int, *end_float;
        const char *start = t->at;
        double value = strtod(start, &end_float);
        bool is_negative = first == '-';
        uint64_t whole = strtoull(start + is_negative, &end_int, 10);
        if (end_float == start) {
            differs("expected a value at `%s`", start);
        }
        if (end_int == end_float) {
            if (is_negative && whole > 0) {
                st__put_head(out, 1, whole - 1);
            } else {
                st_put_u64(out, whole);
            }
        } else {
            st_put_f64(out, value);
        }
        t->at = end_float;
    }
}

/// `1, n=2)` as arguments.
static st_writer put_call(struct text *t) {
    st_writer places = {NULL, 0, 0}, keywords = {NULL, 0, 0}, out = {NULL, 0, 0};
    size_t places_count = 0, keywords_count = 0;
    while (!eat(t, ")")) {
        if (places_count + keywords_count > 0 && !eat(t, ",")) {
            differs("expected `,` or `)` at `%s`", t->at);
        }
        struct text ahead = *t;
        st_str name = word(&ahead);
        if (name.len > 0 && eat(&ahead, "=")) {
            *t = ahead;
            st_put_str(&keywords, name);
            put_literal(t, &keywords);
            keywords_count++;
        } else {
            put_literal(t, &places);
            places_count++;
        }
    }
    st_put_args(&out, places_count);
    st__put_raw(&out, places.ptr, places.len);
    st_put_dict(&out, keywords_count);
    st__put_raw(&out, keywords.ptr, keywords.len);
    return out;
}

static void put_repr(st_reader *reader, st_writer *out);

static void put_text(st_writer *out, const char *text) { st__put_raw(out, text, strlen(text)); }

static void repr_quoted(const char *ptr, size_t len, bool is_bytes, st_writer *out) {
    char quote = memchr(ptr, '\'', len) != NULL && memchr(ptr, '"', len) == NULL ? '"' : '\'';
    st__put_raw(out, &quote, 1);
    for (size_t at = 0; at < len; at++) {
        unsigned char byte = (unsigned char)ptr[at];
        char hex[5];
        if (byte == '\\' || byte == (unsigned char)quote) {
            put_text(out, "\\");
            st__put_raw(out, ptr + at, 1);
        } else if (byte == '\n' || byte == '\t' || byte == '\r') {
            put_text(out, byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : "\\r");
        } else if (byte < ' ' || byte == 127 || (is_bytes && byte > 127)) {
            (void)snprintf(hex, sizeof hex, "\\x%02x", byte);
            put_text(out, hex);
        } else {
            st__put_raw(out, ptr + at, 1);
        }
    }
    st__put_raw(out, &quote, 1);
}

static void repr_items(st_reader *reader, size_t count, const char *open, const char *close, bool are_pairs, st_writer *out) {
    put_text(out, open);
    for (size_t at = 0; at < count; at++) {
        put_text(out, at > 0 ? ", " : "");
        put_repr(reader, out);
        if (are_pairs) {
            put_text(out, ": ");
            put_repr(reader, out);
        }
    }
    put_text(out, close);
}

static void put_repr(st_reader *reader, st_writer *out) {
    st_item item;
    st_reader ahead = *reader;
    if (!st_read_item(&ahead, &item)) {
        differs("a result is no item");
    }
    st_str text;
    st_bytes bytes;
    st_token token;
    size_t count;
    double number;
    uint64_t natural;
    int64_t whole;
    bool value;
    char digits[ST_F64_TEXT];
    st_reader inner = *reader;
    st_kind kind = st_read_kind(reader);
    *reader = ahead;
    switch (kind) {
    case ST_KIND_NULL:
        put_text(out, "None");
        return;
    case ST_KIND_BOOL:
        put_text(out, st_read_bool(&inner, &value) && value ? "True" : "False");
        return;
    case ST_KIND_INT:
        ahead = inner;
        if (st_read_u64(&ahead, &natural)) {
            put_decimal(out, natural, false, 10);
        } else if (st_read_i64(&inner, &whole)) {
            put_decimal(out, ~(uint64_t)whole + 1, true, 10);
        }
        return;
    case ST_KIND_FLOAT:
        put_text(out, st_read_f64(&inner, &number) ? st_f64_text(digits, number) : "");
        return;
    case ST_KIND_STR:
        if (st_read_str(&inner, &text)) {
            repr_quoted(text.ptr, text.len, false, out);
        }
        return;
    case ST_KIND_BYTES:
    case ST_KIND_BYTE_ARRAY:
        if (st_read_bytes(&inner, &bytes)) {
            put_text(out, kind == ST_KIND_BYTES ? "b" : "bytearray(b");
            repr_quoted((const char *)bytes.ptr, bytes.len, true, out);
            put_text(out, kind == ST_KIND_BYTES ? "" : ")");
        }
        return;
    case ST_KIND_LIST:
    case ST_KIND_TUPLE:
    case ST_KIND_SET:
    case ST_KIND_FROZEN_SET:
        if (st_read_list(&inner, &count)) {
            bool is_tuple = kind == ST_KIND_TUPLE, is_list = kind == ST_KIND_LIST;
            repr_items(&inner, count, is_tuple ? "(" : is_list ? "[" : "{", is_tuple ? (count == 1 ? ",)" : ")") : is_list ? "]" : "}",
                       false, out);
        }
        return;
    case ST_KIND_DICT:
        if (st_read_dict(&inner, &count)) {
            repr_items(&inner, count, "{", "}", true, out);
        }
        return;
    case ST_KIND_TOKEN:
        if (st_token_of(item, &token)) {
            put_text(out, "#");
            put_decimal(out, token.ident, false, 10);
        }
        return;
    case ST_KIND_BIG_INT:
    case ST_KIND_OTHER:
    case ST_KIND_MALFORMED:
        put_text(out, "<another value>");
    }
}

static char *outcome_text(const steward_plugin_types_result_cbor_fault_t *outcome) {
    st_writer out = {NULL, 0, 0};
    if (outcome->is_err) {
        const steward_plugin_types_fault_t *fault = &outcome->val.err;
        put_text(&out, "! ");
        st__put_raw(&out, fault->kind.ptr, fault->kind.len);
        put_text(&out, fault->message.len > 0 ? ": " : ":");
        st__put_raw(&out, fault->message.ptr, fault->message.len);
    } else {
        st_reader reader = st_read((st_item){outcome->val.ok.ptr, outcome->val.ok.len});
        put_text(&out, "-> ");
        put_repr(&reader, &out);
        if (!st_read_end(&reader)) {
            differs("a result is more than one item");
        }
    }
    return copy_text((const char *)out.ptr, out.len);
}

// ------------------------------------------------------------------------------------------------------------------ Steps

static st_writer state_of(const object *o) {
    st_writer out = {NULL, 0, 0};
    if (saves(o->type)) {
        save(o, &out);
    }
    return out;
}

static void check_unchanged(const object *o, const st_part *part, st_item before, const char *what) {
    st_writer after = state_of(o);
    if (checks_methods && !st_item_equal(before, st_written(&after))) {
        differs("%.*s: `%s` %s", (int)o->name.len, o->name.ptr, part->signature, what);
    }
}

static void note_held(struct thing *thing, const plugin_list_u64_t *held) {
    for (size_t at = 0; at < held->len; at++) {
        thing->held = st_realloc(thing->held, (thing->held_count + 1) * sizeof *thing->held);
        thing->held[thing->held_count++] = held->ptr[at];
    }
}

static size_t waiting_in(const object *o) {
    size_t count = o->by_hand.count;
    for (uint32_t line = 0; line < o->lines_count; line++) {
        count += o->lines[line].count;
    }
    return count;
}

static void step(struct thing *thing, steward_plugin_types_input_t *input) {
    steward_plugin_types_outcome_t outcome;
    checks_methods = true;
    exports_steward_plugin_referent_method_object_step(thing->object, world.now_ms, ++world.seed, input, &outcome);
    checks_methods = false;
    note_held(thing, &outcome.held);
    for (size_t at = 0; at < outcome.let_go.len; at++) {
        size_t place = 0;
        while (place < thing->held_count && thing->held[place] != outcome.let_go.ptr[at]) {
            place++;
        }
        if (place == thing->held_count) {
            differs("%s let go of token %" PRIu64 ", which it does not hold", thing->name, outcome.let_go.ptr[at]);
        }
        thing->held[place] = thing->held[--thing->held_count];
    }
    // As a host does it: what a step grants is held after what it freed.
    thing->is_held &= !outcome.freed;
    for (size_t at = 0; at < outcome.completions.len; at++) {
        const completion *done = &outcome.completions.ptr[at];
        struct made_call *call = call_of(thing, done->call);
        if (call == NULL || call->is_answered) {
            differs("%s answered call %" PRIu64 ", which does not wait", thing->name, done->call);
        }
        call->is_answered = true;
        call->answer = outcome_text(&done->outcome);
        call->grant = done->grant;
        thing->is_held |= done->grant != STEWARD_PLUGIN_TYPES_GRANT_NONE;
        if (!done->outcome.is_err) {
            call->result = copy_bytes(done->outcome.val.ok.ptr, done->outcome.val.ok.len);
            call->result_len = done->outcome.val.ok.len;
        }
    }
    thing->version += outcome.changed;
    if (outcome.wake_at.is_some) {
        thing->wake_at = outcome.wake_at;
    }
    for (size_t at = 0; at < outcome.invokes.len; at++) {
        const invocation *asked = &outcome.invokes.ptr[at];
        st_writer out = {NULL, 0, 0};
        if (thing->asked != NULL) {
            put_text(&out, thing->asked);
        }
        put_decimal(&out, asked->tag, false, 10);
        put_text(&out, " #");
        put_decimal(&out, asked->ident, false, 10);
        put_text(&out, ".");
        st__put_raw(&out, asked->method.ptr, asked->method.len);
        st_reader reader = st_read((st_item){asked->args.ptr, asked->args.len});
        size_t parts, count;
        if (!st_read_list(&reader, &parts) || parts != 2 || !st_read_list(&reader, &count)) {
            differs("%s asks with malformed arguments", thing->name);
        }
        repr_items(&reader, count, "(", ")", false, &out);
        put_text(&out, "\n");
        free(thing->asked);
        thing->asked = copy_text((const char *)out.ptr, out.len);
    }
    size_t unanswered = 0;
    for (size_t at = 0; at < thing->calls_count; at++) {
        unanswered += thing->calls[at].is_issued && !thing->calls[at].is_answered;
    }
    turn_over();
    if (unanswered != waiting_in(thing->object)) {
        differs("%s lost a call: %zu wait, it knows of %zu", thing->name, unanswered, waiting_in(thing->object));
    }
}

static void step_call(struct thing *thing, struct made_call *call) {
    call->is_issued = true;
    steward_plugin_types_input_t input = {
        .tag = STEWARD_PLUGIN_TYPES_INPUT_CALL,
        .val.call = {.id = call->id, .method = call->method, .owner = {call->session, 1}, .args = {call->args, call->args_len}}};
    step(thing, &input);
}

static void step_cancel(struct thing *thing, struct made_call *call, uint8_t why) {
    steward_plugin_types_input_t input = {.tag = STEWARD_PLUGIN_TYPES_INPUT_CANCEL, .val.cancel = {call->id, why}};
    if (call->is_answered) {
        differs("the call does not wait");
    }
    step(thing, &input);
    if (!call->is_answered) {
        differs("the call still waits after it was given up");
    }
}

static void tick(struct thing *thing) {
    uint64_t at_ms = thing->wake_at.val;
    steward_plugin_types_input_t input = {.tag = STEWARD_PLUGIN_TYPES_INPUT_TICK};
    thing->wake_at.is_some = false;
    world.now_ms = world.now_ms > at_ms ? world.now_ms : at_ms;
    step(thing, &input);
    if (thing->wake_at.is_some && thing->wake_at.val <= at_ms) {
        differs("%s asks again for the wake-up at %" PRIu64 " ms that it just had", thing->name, at_ms);
    }
}

/// Lets time pass, until a call is answered if there is one.
static void pass(uint64_t end_ms, const struct made_call *until) {
    while (until == NULL || !until->is_answered) {
        struct thing *next = NULL;
        for (size_t at = 0; at < world.things_count; at++) {
            struct thing *thing = &world.things[at];
            if (thing->wake_at.is_some && thing->wake_at.val <= end_ms && (next == NULL || thing->wake_at.val < next->wake_at.val)) {
                next = thing;
            }
        }
        if (next == NULL) {
            world.now_ms = end_ms;
            return;
        }
        tick(next);
    }
}

/// Makes an object, or says what the constructor raised.
static char *create(struct thing *thing, st_str typeid, st_item args) {
    plugin_string_t name = host_string(typeid);
    static char tenant[] = "test";
    steward_plugin_types_context_t context = {world.now_ms, ++world.seed, {(uint8_t *)tenant, 4}};
    steward_plugin_types_cbor_t cbor = {(uint8_t *)(uintptr_t)args.ptr, args.len};
    exports_steward_plugin_referent_made_t made;
    steward_plugin_types_result_cbor_fault_t outcome = {.is_err = true};
    char *raised = NULL;
    // The arguments lie in the arena, as they would in a guest.
    if (exports_steward_plugin_referent_static_object_create(&name, &cbor, &context, &made, &outcome.val.err)) {
        thing->type = thing->object->type;
        note_held(thing, &made.held);
    } else {
        raised = outcome_text(&outcome);
    }
    turn_over();
    return raised;
}

static void move(struct thing *thing, st_str from) {
    plugin_list_u8_t saved;
    steward_plugin_types_result_cbor_fault_t outcome = {.is_err = true};
    if (!exports_steward_plugin_referent_method_object_save(thing->object, &saved, &outcome.val.err)) {
        differs("%s does not save: %s", thing->name, outcome_text(&outcome));
    }
    plugin_list_u8_t state = {copy_bytes(saved.ptr, saved.len), saved.len};
    turn_over();
    plugin_string_t typeid = host_string(plan_of(thing->type, 0)->typeid), version = host_string(from);
    steward_plugin_types_context_t context = {world.now_ms, ++world.seed, {NULL, 0}};
    exports_steward_plugin_referent_made_t made;
    object *old = thing->object;
    bool loaded = exports_steward_plugin_referent_static_object_load(&typeid, &state, &version, &context, &made, &outcome.val.err);
    char *raised = loaded ? NULL : outcome_text(&outcome);
    free(state.ptr);
    if (raised != NULL) {
        char why[512];
        (void)snprintf(why, sizeof why, "%s", raised);
        free(raised);
        differs("%s does not load %s", thing->name, why);
    }
    thing->object = world.things[world.things_count < THINGS_MAX ? world.things_count : THINGS_MAX - 1].object;
    thing->held_count = 0;
    note_held(thing, &made.held);
    turn_over();
    exports_steward_plugin_referent_object_destructor(old);
    for (size_t at = 0; at < thing->calls_count; at++) {
        thing->calls[at].is_issued &= thing->calls[at].is_answered;
    }
    for (size_t at = 0; at < thing->calls_count; at++) {
        if (!thing->calls[at].is_issued) {
            step_call(thing, &thing->calls[at]);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- Scripts

static bool rest_is(struct text *t, const char *expected) {
    skip_spaces(t);
    return (size_t)(t->end - t->at) == strlen(expected) && memcmp(t->at, expected, strlen(expected)) == 0;
}

static void expect(struct text *t, const char *found) {
    skip_spaces(t);
    size_t len = (size_t)(t->end - t->at);
    if (len != strlen(found) || memcmp(t->at, found, len) != 0) {
        differs("found %s", found);
    }
}

static void expect_answer(struct text *t, struct made_call *call) {
    static const char *const grants[] = {"", " granted", " abandoned"};
    char found[TEXT_BYTES];
    bool says = t->end - t->at > 8 && (memcmp(t->end - 8, " granted", 8) == 0 || (t->end - t->at > 10 && memcmp(t->end - 10, " abandoned", 10) == 0));
    call->is_taken = true;
    (void)snprintf(found, sizeof found, "%s%s", call->answer, says ? grants[call->grant % 3] : "");
    expect(t, found);
}

static uint64_t number(struct text *t) {
    skip_spaces(t);
    char *end;
    uint64_t value = strtoull(t->at, &end, 10);
    if (end == t->at) {
        differs("expected a number at `%s`", t->at);
    }
    t->at = end;
    return value;
}

static void run_label(struct thing *thing, struct made_call *call, struct text *t) {
    if (rest_is(t, "waits")) {
        if (call->is_answered) {
            differs("found %s", call->answer);
        }
    } else if (rest_is(t, "is given up")) {
        step_cancel(thing, call, STEWARD_PLUGIN_TYPES_WHY_CLIENT);
        call->is_taken = true;
    } else if (rest_is(t, "times out")) {
        step_cancel(thing, call, STEWARD_PLUGIN_TYPES_WHY_DEADLINE);
    } else if (rest_is(t, "is lost") || rest_is(t, "is lost unsent")) {
        if (call->result == NULL) {
            differs("the call has no result");
        }
        steward_plugin_types_input_t input = {
            .tag = STEWARD_PLUGIN_TYPES_INPUT_UNDELIVERED,
            .val.undelivered = {call->id, call->method, {call->result, call->result_len}, rest_is(t, "is lost")}};
        call->is_taken = true;
        step(thing, &input);
    } else if (!call->is_answered) {
        differs("it waits");
    } else {
        expect_answer(t, call);
    }
}

static void end_session(uint64_t session, bool orderly) {
    for (size_t at = 0; at < world.things_count; at++) {
        struct thing *thing = &world.things[at];
        for (size_t call = 0; call < thing->calls_count; call++) {
            if (thing->calls[call].session == session && !thing->calls[call].is_answered) {
                step_cancel(thing, &thing->calls[call], STEWARD_PLUGIN_TYPES_WHY_SESSION_ENDED);
                thing->calls[call].is_taken = true;
            }
        }
        steward_plugin_types_input_t input = {.tag = STEWARD_PLUGIN_TYPES_INPUT_OWNER_LOST, .val.owner_lost = {session, orderly}};
        step(thing, &input);
    }
}

static void hear(struct thing *thing, struct text *t) {
    steward_plugin_types_input_t input = {.tag = STEWARD_PLUGIN_TYPES_INPUT_RETURNED, .val.returned = {.tag = number(t)}};
    steward_plugin_types_result_cbor_fault_t *outcome = &input.val.returned.outcome;
    st_writer item = {NULL, 0, 0};
    if (eat(t, "->")) {
        put_literal(t, &item);
        outcome->val.ok = (steward_plugin_types_cbor_t){item.ptr, item.len};
    } else if (eat(t, "!")) {
        st_str kind = word(t);
        (void)eat(t, ":");
        skip_spaces(t);
        outcome->is_err = true;
        outcome->val.err.kind = host_string(kind);
        outcome->val.err.message = host_string((st_str){t->at, (size_t)(t->end - t->at)});
    }
    step(thing, &input);
}

/// What is said of an object; false if it is none of that.
static bool run_about(struct thing *thing, struct text *t) {
    if (rest_is(t, "moves")) {
        move(thing, text_of(thing->type->version));
    } else if (eat(t, "moves from ")) {
        skip_spaces(t);
        move(thing, (st_str){t->at, (size_t)(t->end - t->at)});
    } else if (eat(t, "changed ")) {
        char found[TEXT_BYTES];
        (void)snprintf(found, sizeof found, "%" PRIu64, thing->version);
        expect(t, found);
    } else if (eat(t, "holds ")) {
        char found[TEXT_BYTES] = "[";
        sort_idents(thing->held, thing->held_count);
        for (size_t at = 0; at < thing->held_count; at++) {
            size_t len = strlen(found);
            (void)snprintf(found + len, sizeof found - len, "%s%" PRIu64, at > 0 ? ", " : "", thing->held[at]);
        }
        size_t len = strlen(found);
        (void)snprintf(found + len, sizeof found - len, "]");
        expect(t, found);
    } else if (rest_is(t, "is held") || rest_is(t, "is free")) {
        expect(t, thing->is_held ? "is held" : "is free");
    } else if (eat(t, "asks ")) {
        const char *asked = thing->asked != NULL ? thing->asked : "nothing\n";
        size_t len = (size_t)(strchr(asked, '\n') - asked);
        char *first = copy_text(asked, len);
        char found[TEXT_BYTES];
        (void)snprintf(found, sizeof found, "%s", first);
        free(first);
        if (thing->asked != NULL) {
            memmove(thing->asked, thing->asked + len + 1, strlen(thing->asked + len));
            if (thing->asked[0] == 0) {
                free(thing->asked);
                thing->asked = NULL;
            }
        }
        expect(t, found);
    } else if (eat(t, "hears ")) {
        hear(thing, t);
    } else {
        return false;
    }
    return true;
}

static void run_create(st_str name, st_str typeid, struct text *t) {
    st_writer args = put_call(t);
    if (world.things_count == THINGS_MAX) {
        differs("there are too many objects");
    }
    struct thing *thing = &world.things[world.things_count];
    *thing = (struct thing){.version = 0};
    char *raised = create(thing, typeid, st_written(&args));
    if (raised == NULL) {
        (void)snprintf(thing->name, sizeof thing->name, "%.*s", (int)name.len, name.ptr);
        world.things_count++;
        skip_spaces(t);
        if (name.len == 0 || t->at != t->end) {
            differs("it raises nothing");
        }
        return;
    }
    char found[TEXT_BYTES];
    (void)snprintf(found, sizeof found, "%s", raised);
    free(raised);
    expect(t, found);
}

static void run_call(struct thing *thing, uint64_t session, st_str label, st_str method, struct text *t) {
    st_writer args = put_call(t);
    uint32_t place = 1, number_of = 0;
    for (; place < thing->type->parts_count; place++) {
        if (thing->type->parts[place]->kind == ST_PART_METHOD) {
            if (st_str_equal(plan_of(thing->type, place)->name, method)) {
                break;
            }
            number_of++;
        }
    }
    if (place == thing->type->parts_count) {
        differs("%s has no method `%.*s`", thing->name, (int)method.len, method.ptr);
    }
    thing->calls = st_realloc(thing->calls, (thing->calls_count + 1) * sizeof *thing->calls);
    struct made_call *call = &thing->calls[thing->calls_count++];
    *call = (struct made_call){.id = thing->calls_count, .session = session, .method = number_of, .args_len = args.len};
    call->args = copy_bytes(args.ptr, args.len);
    (void)snprintf(call->label, sizeof call->label, "%.*s", (int)label.len, label.ptr);
    step_call(thing, call);
    if (eat(t, "within ")) {
        uint64_t deadline_ms = number(t);
        pass(world.now_ms + deadline_ms, call);
        if (!call->is_answered) {
            step_cancel(thing, call, STEWARD_PLUGIN_TYPES_WHY_DEADLINE);
        }
    }
    if (rest_is(t, "waits")) {
        if (call->is_answered) {
            differs("found %s", call->answer);
        }
        return;
    }
    if (!call->is_answered) {
        differs("it waits");
    }
    expect_answer(t, call);
}

/// The call of this label that is not yet done with.
static struct made_call *labelled(st_str label, struct thing **thing) {
    for (size_t of = world.things_count; of > 0; of--) {
        *thing = &world.things[of - 1];
        for (size_t at = (*thing)->calls_count; at > 0; at--) {
            struct made_call *call = &(*thing)->calls[at - 1];
            if (st_str_equal(label, text_of(call->label))) {
                return call;
            }
        }
    }
    return NULL;
}

static void run_line(struct text *t) {
    uint64_t session = 1;
    skip_spaces(t);
    if (t->at == t->end || *t->at == '#') {
        return;
    }
    if (eat(t, "+")) {
        pass(world.now_ms + number(t), NULL);
        return;
    }
    if (eat(t, "session ")) {
        session = number(t);
        bool leaves = rest_is(t, "leaves");
        if (!leaves && !rest_is(t, "ends")) {
            differs("a session ends or leaves");
        }
        end_session(session, leaves);
        return;
    }
    if (eat(t, "@")) {
        session = number(t);
    }
    st_str label = ST_STR(""), name = ST_STR(""), first = word(t);
    if (first.len > 0 && eat(t, ":")) {
        label = first;
        first = word(t);
    }
    if (first.len > 0 && eat(t, "=")) {
        name = first;
        first = word(t);
    }
    if (eat(t, ".")) {
        const char *start = t->at;
        while (t->at < t->end && *t->at != '(') {
            t->at++;
        }
        st_str method = {start, (size_t)(t->at - start)};
        if (!eat(t, "(")) {
            differs("a call has parentheses");
        }
        run_call(thing_called(first), session, label, method, t);
    } else if (eat(t, "(")) {
        run_create(name, first, t);
    } else {
        struct thing *thing;
        struct made_call *call = labelled(first, &thing);
        if (call != NULL) {
            run_label(thing, call, t);
        } else if (!run_about(thing_called(first), t)) {
            differs("this says nothing");
        }
    }
}

static bool run_script(const char *script) {
    run.why[0] = 0;
    if (setjmp(run.out) == 0) {
        for (run.line = script; *run.line != 0;) {
            const char *end = strchr(run.line, '\n');
            end = end == NULL ? run.line + strlen(run.line) : end;
            // As a text of its own: values are read up to a NUL.
            char line[TEXT_BYTES];
            (void)snprintf(line, sizeof line, "%.*s", (int)(end - run.line), run.line);
            struct text t = {line, line + strlen(line), NULL};
            while (t.end > t.at && t.end[-1] == ' ') {
                t.end--;
            }
            line[t.end - line] = 0;
            run_line(&t);
            run.line = *end == 0 ? end : end + 1;
        }
        for (size_t of = 0; of < world.things_count; of++) {
            for (size_t at = 0; at < world.things[of].calls_count; at++) {
                const struct made_call *call = &world.things[of].calls[at];
                if (call->label[0] != 0 && !call->is_taken && call->is_answered) {
                    differs("nobody looks at `%s`: %s", call->label, call->answer);
                }
            }
        }
        world_end();
        return true;
    }
    checks_methods = false;
    world_end();
    return false;
}

void st_test(const char *name, const char *script) {
    run.ran++;
    if (!run_script(script)) {
        run.failed++;
        int number_of = 1;
        for (const char *at = script; at < run.line; at++) {
            number_of += *at == '\n';
        }
        (void)fprintf(stderr, "%s:%d: %.*s\n    %s\n", name, number_of, (int)strcspn(run.line, "\n"), run.line, run.why);
    }
}

void st_test_refuses(const char *name, const char *script, const char *why) {
    run.ran++;
    if (run_script(script)) {
        run.failed++;
        (void)fprintf(stderr, "%s: goes well, should say: %s\n", name, why);
    } else if (strstr(run.why, why) == NULL) {
        run.failed++;
        (void)fprintf(stderr, "%s: says: %s\n    should say: %s\n", name, run.why, why);
    }
}

// ---------------------------------------------------------------------------------------------------------------- Garbage

static uint64_t garbage_seed;

static uint32_t any_below(uint32_t bound) {
    garbage_seed = garbage_seed * 6364136223846793005 + 1442695040888963407;
    return (uint32_t)(garbage_seed >> 33) % bound;
}

static void put_any(st_writer *out, int depth) {
    static const int64_t ints[] = {0, 1, -1, 2, 5, 100, INT64_MAX, INT64_MIN, UINT32_MAX, 1000};
    static const double floats[] = {0, -0.0, 0.5, -1, 3, 1e300, -1e300, 5e-324, __builtin_inf(), __builtin_nan("")};
    static const char *const texts[] = {"", "a", "b", "dark", "n", "a longer text, of more than twenty-three bytes"};
    switch (any_below(depth > 4 ? 7 : 12)) {
    case 0:
        st_put_null(out);
        return;
    case 1:
        st_put_bool(out, any_below(2));
        return;
    case 2:
    case 3:
        st_put_i64(out, ints[any_below(sizeof ints / sizeof ints[0])]);
        return;
    case 4:
        st_put_f64(out, floats[any_below(sizeof floats / sizeof floats[0])]);
        return;
    case 5:
        st_put_text(out, texts[any_below(sizeof texts / sizeof texts[0])]);
        return;
    case 6:
        st_put_bytes(out, (st_bytes){(const uint8_t *)texts[5], any_below(46)});
        return;
    case 7:
        st__put_head(out, 6, TAG_TOKEN);
        st_put_list(out, 3);
        st_put_text(out, "Object");
        st_put_u64(out, 1 + any_below(5));
        st_put_null(out);
        return;
    case 8:
        st__put_head(out, 6, any_below(2) ? TAG_SET : any_below(2) ? TAG_BIG : TAG_BIG_NEGATIVE + any_below(3));
        put_any(out, depth + 1);
        return;
    default: {
        uint32_t count = any_below(4), is_dict = any_below(3) == 0;
        if (is_dict) {
            st_put_dict(out, count);
        } else if (any_below(2)) {
            st_put_tuple(out, count);
        } else {
            st_put_list(out, count);
        }
        for (uint32_t at = 0; at < (is_dict ? 2 * count : count); at++) {
            put_any(out, depth + 1);
        }
    }
    }
}

/// Arguments for a method: mostly as many as it takes, of any types.
static st_writer any_args(const st_plan *plan) {
    st_writer out = {NULL, 0, 0};
    uint32_t places = any_below(plan->params_count + 2u), keywords = any_below(4) == 0 ? any_below(3) : 0;
    st_put_args(&out, places);
    for (uint32_t at = 0; at < places; at++) {
        put_any(&out, 0);
    }
    st_put_dict(&out, keywords);
    for (uint32_t at = 0; at < keywords; at++) {
        st_put_str(&out, plan->params_count > 0 && any_below(2) ? plan->params[any_below(plan->params_count)].name : ST_STR("x"));
        put_any(&out, 0);
    }
    return out;
}

static void damage(uint8_t *bytes, size_t *len) {
    for (uint32_t changes = 1 + any_below(3); changes > 0 && *len > 0; changes--) {
        if (any_below(4) == 0) {
            *len = any_below((uint32_t)*len);
        } else {
            bytes[any_below((uint32_t)*len)] = (uint8_t)any_below(256);
        }
    }
}

static void garbage_call(struct thing *thing) {
    uint32_t methods = 0;
    while (place_of_method(thing->type, methods) < thing->type->parts_count) {
        methods++;
    }
    uint32_t number_of = any_below(methods + 1);
    uint32_t place = place_of_method(thing->type, number_of);
    st_writer args = any_args(plan_of(thing->type, place < thing->type->parts_count ? place : 0));
    thing->calls = st_realloc(thing->calls, (thing->calls_count + 1) * sizeof *thing->calls);
    struct made_call *call = &thing->calls[thing->calls_count++];
    *call = (struct made_call){.id = thing->calls_count, .session = 1 + any_below(3), .method = number_of, .args_len = args.len};
    call->args = copy_bytes(args.ptr, args.len);
    if (any_below(8) == 0) {
        damage(call->args, &call->args_len);
    }
    step_call(thing, call);
}

/// Loads a state that was changed: it may be refused, and if not, the object must do.
static void garbage_load(const struct thing *thing) {
    plugin_list_u8_t saved;
    steward_plugin_types_fault_t fault;
    if (!exports_steward_plugin_referent_method_object_save(thing->object, &saved, &fault)) {
        turn_over();
        return;
    }
    plugin_list_u8_t state = {copy_bytes(saved.ptr, saved.len), saved.len};
    turn_over();
    damage(state.ptr, &state.len);
    plugin_string_t typeid = host_string(plan_of(thing->type, 0)->typeid), version = host_string(text_of(thing->type->version));
    steward_plugin_types_context_t context = {world.now_ms, ++world.seed, {NULL, 0}};
    exports_steward_plugin_referent_made_t made;
    object *kept = thing->object;
    bool loaded = exports_steward_plugin_referent_static_object_load(&typeid, &state, &version, &context, &made, &fault);
    free(state.ptr);
    turn_over();
    if (loaded) {
        object *changed = world.things[world.things_count].object;
        (void)exports_steward_plugin_referent_method_object_save(changed, &saved, &fault);
        turn_over();
        exports_steward_plugin_referent_object_destructor(changed);
    }
    world.things[0].object = kept;
}

static void garbage_round(struct thing *thing) {
    struct made_call *call = thing->calls_count > 0 ? &thing->calls[any_below((uint32_t)thing->calls_count)] : NULL;
    uint32_t what = any_below(64);
    if (what == 0) {
        end_session(1 + any_below(3), any_below(2));
    } else if (what == 1) {
        move(thing, text_of(thing->type->version));
    } else if (what < 5) {
        pass(world.now_ms + any_below(5000), NULL);
    } else if (what < 10) {
        garbage_load(thing);
    } else if (what < 18 && call != NULL && !call->is_answered) {
        step_cancel(thing, call, any_below(2) ? STEWARD_PLUGIN_TYPES_WHY_DEADLINE : STEWARD_PLUGIN_TYPES_WHY_CLIENT);
    } else if (what < 20 && call != NULL && call->result != NULL && !call->is_taken) {
        steward_plugin_types_input_t input = {
            .tag = STEWARD_PLUGIN_TYPES_INPUT_UNDELIVERED,
            .val.undelivered = {call->id, call->method, {call->result, call->result_len}, any_below(2)}};
        call->is_taken = true;
        step(thing, &input);
    } else {
        garbage_call(thing);
    }
}

void st_test_garbage(const char *create_as, uint64_t seed, int rounds) {
    static volatile int round;
    char line[TEXT_BYTES];
    run.ran++;
    garbage_seed = seed;
    round = 0;
    (void)snprintf(line, sizeof line, "x = %s", create_as);
    if (setjmp(run.out) == 0) {
        struct text t = {line, line + strlen(line), NULL};
        run_line(&t);
        for (; round < rounds; round++) {
            garbage_round(&world.things[0]);
        }
    } else {
        run.failed++;
        (void)fprintf(stderr, "%s: round %d of seed %" PRIu64 "\n    %s\n", create_as, round, seed, run.why);
    }
    checks_methods = false;
    world_end();
}

const char *st_test_signature(const char *signature) {
    struct text t = {signature, signature + strlen(signature), NULL};
    st_plan *plan = read_signature(&t);
    (void)snprintf(run.why, sizeof run.why, "%s%s%.*s", plan == NULL ? t.error : "", plan == NULL ? ", at " : "",
                   plan == NULL ? (int)(t.end - t.at) : 0, t.at);
    free(plan);
    turn_over();
    return run.why;
}

int st_test_end(void) {
    (void)printf("%d scripts, %d failed\n", run.ran, run.failed);
    return run.failed > 0;
}

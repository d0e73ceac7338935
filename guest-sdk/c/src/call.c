// One turn as a method sees it: its arguments, its answer, what it asks the host for.

/// What was given for one parameter: an item, or the items of `*rest`.
struct slot {
    const uint8_t *ptr;
    size_t len;
};

typedef steward_plugin_types_completion_t completion;
typedef steward_plugin_types_invocation_t invocation;
typedef exports_steward_plugin_referent_object_t object;

struct st_call {
    object *object;
    uint64_t now_ms;
    uint64_t id;
    st_owner owner;
    const st_plan *plan;
    struct slot slots[PARAMS_MAX];
    size_t rest_count;
    /// All pairs of keywords, those that have parameters of their own as well.
    st_item keywords;
    size_t keywords_count;
    st_writer out;
    bool raised;
    steward_plugin_types_fault_t fault;
    uint64_t until_ms;
    bool has_until;
    uint8_t grant;
};

/// What one step collects; it ends with the step.
static struct {
    uint64_t seed;
    bool freed;
    completion *completions;
    size_t completions_count, completions_capacity;
    invocation *invocations;
    size_t invocations_count, invocations_capacity;
} turn;

// What shell.c knows of an object.
static st_str object_tenant(const object *o);
static void object_wake_at(object *o, uint64_t at_ms);
static bool object_take_by_hand(object *o, uint64_t id);
static st_str object_type_name(const object *o);

uint64_t st_now_ms(const st_call *call) { return call->now_ms; }
uint64_t st_call_id(const st_call *call) { return call->id; }
st_owner st_caller(const st_call *call) { return call->owner; }
st_str st_tenant(const st_call *call) { return object_tenant(call->object); }

// All arithmetic on 64 bits is meant to wrap: SplitMix64.
uint64_t st_random(ST_UNUSED st_call *call) {
    turn.seed += 0x9e3779b97f4a7c15;
    uint64_t mixed = turn.seed;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

double st_random_f64(st_call *call) { return (double)(st_random(call) >> 11) / (double)((uint64_t)1 << 53); }

static plugin_string_t host_string(st_str text) { return (plugin_string_t){(uint8_t *)(uintptr_t)text.ptr, text.len}; }

static st_answer raise_formatted(st_call *call, const char *kind, const char *format, va_list args) {
    st_writer message = {NULL, 0, 0};
    put_formatted(&message, format, args);
    call->raised = true;
    call->fault = (steward_plugin_types_fault_t){
        .kind = host_string(text_of(kind)), .message = {message.ptr, message.len}, .data = {false, {NULL, 0}}};
    return ST_RAISED;
}

st_answer st_raise(st_call *call, const char *kind, const char *format, ...) {
    va_list args;
    va_start(args, format);
    st_answer answer = raise_formatted(call, kind, format, args);
    va_end(args);
    return answer;
}

st_answer st_raised_with(st_call *call, st_item data) {
    st_writer copy = {NULL, 0, 0};
    st_put_item(&copy, data);
    call->fault.data.is_some = true;
    call->fault.data.val = (steward_plugin_types_cbor_t){copy.ptr, copy.len};
    return ST_RAISED;
}

/// Raises what Python raises when a function is called wrongly: `Queue.put() takes 1 positional argument but 2 were given`.
ST_FORMAT(3) static bool refuse(st_call *call, const char *kind, const char *format, ...) {
    // A constructor's signature is named as its type.
    st_str type = object_type_name(call->object), method = call->plan->name;
    if (st_str_equal(type, method)) {
        method = ST_STR("__init__");
    }
    va_list args;
    va_start(args, format);
    st_writer message = {NULL, 0, 0};
    st__put_raw(&message, type.ptr, type.len);
    st__put_raw(&message, ".", 1);
    st__put_raw(&message, method.ptr, method.len);
    st__put_raw(&message, "() ", 3);
    put_formatted(&message, format, args);
    va_end(args);
    (void)st_raise(call, kind, "%.*s", (int)message.len, (const char *)message.ptr);
    return false;
}

/// `missing 3 required positional arguments: 'a', 'b', and 'c'`, if there are any.
static bool none_missing(st_call *call, int kind, const char *what) {
    const st_plan *plan = call->plan;
    st_writer names = {NULL, 0, 0};
    int count = 0, at = 0;
    for (uint8_t place = 0; place < plan->params_count; place++) {
        count += plan->params[place].kind == kind && call->slots[place].ptr == NULL;
    }
    if (count == 0) {
        return true;
    }
    for (uint8_t place = 0; place < plan->params_count; place++) {
        const struct param *p = &plan->params[place];
        if (p->kind == kind && call->slots[place].ptr == NULL) {
            const char *before = at == 0 ? "'" : count == 2 ? "' and '" : at + 1 == count ? "', and '" : "', '";
            st__put_raw(&names, before, strlen(before));
            st__put_raw(&names, p->name.ptr, p->name.len);
            at++;
        }
    }
    return refuse(call, "TypeError", "missing %d required %s argument%s: %.*s'", count, what, count == 1 ? "" : "s",
                  (int)names.len, (const char *)names.ptr);
}

static bool too_many(st_call *call, size_t given) {
    const st_plan *plan = call->plan;
    int optional = 0, most = plan->positional + 1;
    for (uint8_t place = 0; place < plan->positional; place++) {
        optional += plan->params[place].default_text.ptr != NULL;
    }
    // Python counts `self`.
    if (optional == 0) {
        return refuse(call, "TypeError", "takes %d positional argument%s but %zu were given", most, most == 1 ? "" : "s", given + 1);
    }
    return refuse(call, "TypeError", "takes from %d to %d positional arguments but %zu were given", most - optional, most, given + 1);
}

static bool fits_param(st_call *call, const struct param *p, st_item item) {
    enum fit found = fits(p, item);
    if (found == FIT) {
        return true;
    }
    if (found == OUT_OF_RANGE) {
        return refuse(call, "OverflowError", "argument '%.*s' is out of range", (int)p->name.len, p->name.ptr);
    }
    st_str wanted = shown_type(p->type);
    const char *is = python_type(item);
    if (wanted.len >= strlen(is) && memcmp(wanted.ptr, is, strlen(is)) == 0) {
        // It is what it contains that does not fit.
        return refuse(call, "TypeError", "argument '%.*s' must be %.*s", (int)p->name.len, p->name.ptr, (int)wanted.len, wanted.ptr);
    }
    return refuse(call, "TypeError", "argument '%.*s' must be %.*s, not %s", (int)p->name.len, p->name.ptr, (int)wanted.len,
                  wanted.ptr, is);
}

/// The place of the parameter that a keyword names, or `params_count`.
static uint8_t named(const st_plan *plan, st_str name) {
    uint8_t at = 0;
    while (at < plan->params_count &&
           !(plan->params[at].kind <= KIND_KEYWORD_ONLY && st_str_equal(plan->params[at].name, name))) {
        at++;
    }
    return at;
}

/// Length of the item that comes first, if it is a number, or a text or bytes of fewer than 256; else 0.
static size_t plain_length(const uint8_t *at, const uint8_t *end) {
    size_t room = (size_t)(end - at), small = room > 0 ? *at & 31u : 31, length = 0;
    uint8_t major = room > 0 ? *at >> 5 : 0;
    if (major == 2 || major == 3) {
        length = small < 24 ? 1 + small : small == 24 && room > 1 ? 2 + (size_t)at[1] : 0;
    } else if (major < 2 || major == 7) {
        length = small < 24 ? 1 : small < 28 ? 1 + ((size_t)1 << (small - 24)) : 0;
    }
    return length <= room ? length : 0;
}

/// Binds arguments that are given by place alone and are plain, as most are; false leaves it to `bind`, and what is wrong with them.
static bool bind_plainly(st_call *call, st_item args) {
    const st_plan *plan = call->plan;
    // Two, of which the first is an array of fewer than 24 and the second a map of none.
    if (args.len < 3 || args.ptr[0] != 0x82 || (args.ptr[1] & 0xe0) != 0x80 || args.ptr[args.len - 1] != 0xa0) {
        return false;
    }
    uint8_t given = args.ptr[1] & 31;
    const uint8_t *at = args.ptr + 2, *end = args.ptr + args.len - 1;
    if (given > plan->positional) {
        return false;
    }
    for (uint8_t place = 0; place < given; place++) {
        const struct param *p = &plan->params[place];
        size_t length = plain_length(at, end);
        if (length == 0 || (p->base != BASE_ANY && fits(p, (st_item){at, length}) != FIT)) {
            return false;
        }
        call->slots[place] = (struct slot){at, length};
        at += length;
    }
    for (uint8_t place = given; place < plan->params_count; place++) {
        const struct param *p = &plan->params[place];
        if (p->default_text.ptr == NULL && p->kind != KIND_REST && p->kind != KIND_KEYWORDS) {
            return false;
        }
        call->slots[place] = p->kind == KIND_REST ? (struct slot){at, 0} : (struct slot){p->default_item.ptr, p->default_item.len};
    }
    call->rest_count = call->keywords_count = 0;
    call->keywords = (st_item){end, 0};
    return at == end;
}

/// Binds `[[positional…], {keyword: …}]` to the parameters; false if that raised, in the order and with the words of CPython.
static bool bind(st_call *call, st_item args) {
    if (bind_plainly(call, args)) {
        return true;
    }
    const st_plan *plan = call->plan;
    st_reader reader = st_read(args);
    size_t parts = 0, given = 0;
    if (!st_read_list(&reader, &parts) || parts != 2 || !st_read_list(&reader, &given)) {
        return refuse(call, "TypeError", "got malformed arguments");
    }
    for (uint8_t place = 0; place < plan->params_count; place++) {
        call->slots[place] = (struct slot){NULL, 0};
    }
    const uint8_t *surplus = reader.at;
    for (size_t place = 0; place < given; place++) {
        st_item item;
        if (!st_read_item(&reader, &item)) {
            return refuse(call, "TypeError", "got malformed arguments");
        }
        if (place < plan->positional) {
            call->slots[place] = (struct slot){item.ptr, item.len};
            surplus = reader.at;
        }
    }
    const uint8_t *surplus_end = reader.at;

    if (!st_read_dict(&reader, &call->keywords_count)) {
        return refuse(call, "TypeError", "got malformed arguments");
    }
    call->keywords.ptr = reader.at;
    for (size_t pair = 0; pair < call->keywords_count; pair++) {
        st_str name;
        st_item value;
        if (!st_read_str(&reader, &name) || !st_read_item(&reader, &value)) {
            return refuse(call, "TypeError", "got malformed arguments");
        }
        uint8_t at = named(plan, name);
        if (at < plan->params_count) {
            if (call->slots[at].ptr != NULL) {
                return refuse(call, "TypeError", "got multiple values for argument '%.*s'", (int)name.len, name.ptr);
            }
            call->slots[at] = (struct slot){value.ptr, value.len};
        } else if (plan->keywords == plan->params_count) {
            return refuse(call, "TypeError", "got an unexpected keyword argument '%.*s'", (int)name.len, name.ptr);
        }
    }
    call->keywords.len = (size_t)(reader.at - call->keywords.ptr);

    call->rest_count = given > plan->positional ? given - plan->positional : 0;
    if (plan->rest < plan->params_count) {
        call->slots[plan->rest] = (struct slot){surplus, (size_t)(surplus_end - surplus)};
    } else if (call->rest_count > 0) {
        return too_many(call, given);
    }
    for (uint8_t place = 0; place < plan->params_count; place++) {
        const struct param *p = &plan->params[place];
        if (call->slots[place].ptr == NULL && p->default_text.ptr != NULL) {
            call->slots[place] = (struct slot){p->default_item.ptr, p->default_item.len};
        }
    }
    if (!none_missing(call, KIND_NORMAL, "positional") || !none_missing(call, KIND_KEYWORD_ONLY, "keyword-only")) {
        return false;
    }
    for (uint8_t place = 0; place < plan->params_count; place++) {
        const struct param *p = &plan->params[place];
        if (p->base == BASE_ANY) {
            continue;
        }
        if (p->kind == KIND_REST) {
            st_reader items = {surplus, surplus_end};
            st_item item;
            while (items.at != items.end && st_read_item(&items, &item)) {
                if (!fits_param(call, p, item)) {
                    return false;
                }
            }
        } else if (p->kind == KIND_KEYWORDS) {
            for (st_keyword pair = {.next = 0}; st_keywords(call, NULL, &pair);) {
                if (!fits_param(call, p, pair.value)) {
                    return false;
                }
            }
        } else if (!fits_param(call, p, (st_item){call->slots[place].ptr, call->slots[place].len})) {
            return false;
        }
    }
    return true;
}

/// The signature says otherwise: a mistake of the plugin, which the caller must hear of whatever the method makes of it.
static void misuse(st_call *call, const char *name, const char *asked) {
    if (call->plan == NULL) {
        st__die("a hook has no arguments");
    }
    if (!call->raised) {
        (void)refuse(call, "SystemError", "argument '%s' is not declared as %s", name, asked);
    }
}

static bool is_called(st_str own, const char *name) {
    size_t at = 0;
    // No parameter's name has a NUL: that ends `name`.
    while (at < own.len && own.ptr[at] == name[at]) {
        at++;
    }
    return at == own.len && name[at] == 0;
}

static const struct slot *slot_of(const st_call *call, const char *name) {
    const st_plan *plan = call->plan;
    for (uint8_t at = 0; plan != NULL && at < plan->params_count; at++) {
        if (is_called(plan->params[at].name, name)) {
            return &call->slots[at];
        }
    }
    return NULL;
}

static st_reader reader_of(const st_call *call, const char *name) {
    const struct slot *slot = slot_of(call, name);
    return slot == NULL ? (st_reader){NULL, NULL} : st_read((st_item){slot->ptr, slot->len});
}

bool st_bool(st_call *call, const char *name) {
    st_reader reader = reader_of(call, name);
    bool value = false;
    if (!st_read_bool(&reader, &value)) {
        misuse(call, name, "bool");
    }
    return value;
}

int64_t st_i64(st_call *call, const char *name) {
    st_reader reader = reader_of(call, name);
    int64_t value = 0;
    if (!st_read_i64(&reader, &value)) {
        misuse(call, name, "int");
    }
    return value;
}

uint64_t st_u64(st_call *call, const char *name) {
    st_reader reader = reader_of(call, name);
    uint64_t value = 0;
    if (!st_read_u64(&reader, &value)) {
        misuse(call, name, "u64");
    }
    return value;
}

uint32_t st_u32(st_call *call, const char *name) {
    st_reader reader = reader_of(call, name);
    uint32_t value = 0;
    if (!st_read_u32(&reader, &value)) {
        misuse(call, name, "u32");
    }
    return value;
}

double st_f64(st_call *call, const char *name) {
    st_reader reader = reader_of(call, name);
    double value = 0;
    if (!st_read_f64(&reader, &value)) {
        misuse(call, name, "float");
    }
    return value;
}

st_str st_text(st_call *call, const char *name) {
    st_reader reader = reader_of(call, name);
    st_str value = ST_STR("");
    if (!st_read_str(&reader, &value)) {
        misuse(call, name, "str");
    }
    return value;
}

st_bytes st_data(st_call *call, const char *name) {
    st_reader reader = reader_of(call, name);
    st_bytes value = {(const uint8_t *)"", 0};
    if (!st_read_bytes(&reader, &value)) {
        misuse(call, name, "bytes");
    }
    return value;
}

st_item st_arg(st_call *call, const char *name) {
    const struct slot *slot = slot_of(call, name);
    if (slot == NULL || slot->len == 0 || slot == &call->slots[call->plan->rest]) {
        misuse(call, name, "a parameter of one item");
        return st_item_of(&(st_any){NULL, 0, false});
    }
    return (st_item){slot->ptr, slot->len};
}

bool st_given(st_call *call, const char *name) {
    const st_plan *plan = call->plan;
    const struct slot *slot = slot_of(call, name);
    if (slot == NULL) {
        misuse(call, name, "a parameter");
        return false;
    }
    return slot->ptr != plan->params[slot - call->slots].default_item.ptr;
}

st_reader st_rest(st_call *call, const char *name, size_t *count) {
    const struct slot *slot = slot_of(call, name);
    if (slot == NULL || slot != &call->slots[call->plan->rest]) {
        misuse(call, name, "`*`");
        *count = 0;
        return st_read((st_item){NULL, 0});
    }
    *count = call->rest_count;
    return (st_reader){slot->ptr, slot->ptr + slot->len};
}

bool st_keywords(st_call *call, const char *name, st_keyword *at) {
    const st_plan *plan = call->plan;
    if (name != NULL && slot_of(call, name) != &call->slots[plan->keywords]) {
        misuse(call, name, "`**`");
        return false;
    }
    while (at->next < call->keywords.len) {
        st_reader reader = {call->keywords.ptr + at->next, call->keywords.ptr + call->keywords.len};
        if (!st_read_str(&reader, &at->name) || !st_read_item(&reader, &at->value)) {
            return false;
        }
        at->next = (size_t)(reader.at - call->keywords.ptr);
        if (named(plan, at->name) == plan->params_count) {
            return true;
        }
    }
    return false;
}

st_writer *st_result(st_call *call) {
    call->out.len = 0;
    return &call->out;
}

st_answer st_done(st_call *call) { return call->raised ? ST_RAISED : ST_DONE; }

st_answer st_none(st_call *call) {
    st_put_null(st_result(call));
    return st_done(call);
}

st_answer st_return_bool(st_call *call, bool value) {
    st_put_bool(st_result(call), value);
    return st_done(call);
}

st_answer st_return_i64(st_call *call, int64_t value) {
    st_put_i64(st_result(call), value);
    return st_done(call);
}

st_answer st_return_u64(st_call *call, uint64_t value) {
    st_put_u64(st_result(call), value);
    return st_done(call);
}

st_answer st_return_f64(st_call *call, double value) {
    st_put_f64(st_result(call), value);
    return st_done(call);
}

st_answer st_return_str(st_call *call, st_str value) {
    st_put_str(st_result(call), value);
    return st_done(call);
}

st_answer st_return_text(st_call *call, const char *value) { return st_return_str(call, text_of(value)); }

st_answer st_return_bytes(st_call *call, st_bytes value) {
    st_put_bytes(st_result(call), value);
    return st_done(call);
}

st_answer st_return_item(st_call *call, st_item value) {
    st_put_item(st_result(call), value);
    return st_done(call);
}

st_answer st_pending(st_call *call) {
    call->has_until = false;
    return ST_PENDING;
}

st_answer st_pending_until(st_call *call, uint64_t until_ms) {
    call->has_until = true;
    call->until_ms = until_ms;
    return ST_PENDING;
}

st_answer st_by_hand(ST_UNUSED st_call *call) { return ST_BY_HAND; }

static void complete(completion answer) {
    if (turn.completions == NULL) {
        // Most steps give one answer.
        static completion first;
        turn.completions = &first;
        turn.completions_capacity = 1;
    }
    turn.completions = st__room(turn.completions, turn.completions_count, &turn.completions_capacity, sizeof answer);
    turn.completions[turn.completions_count++] = answer;
}

static bool complete_by_hand(st_call *call, uint64_t id, st_item value, uint8_t grant) {
    if (!object_take_by_hand(call->object, id)) {
        return false;
    }
    st_writer copy = {NULL, 0, 0};
    st_put_item(&copy, value);
    complete((completion){.call = id, .outcome = {.is_err = false, .val.ok = {copy.ptr, copy.len}}, .grant = grant});
    return true;
}

bool st_complete(st_call *call, uint64_t id, st_item value) {
    return complete_by_hand(call, id, value, STEWARD_PLUGIN_TYPES_GRANT_NONE);
}

bool st_complete_with_grant(st_call *call, uint64_t id, st_item value) {
    return complete_by_hand(call, id, value, STEWARD_PLUGIN_TYPES_GRANT_CLEAN);
}

static completion faulty(uint64_t id, const char *kind, const char *message) {
    return (completion){.call = id,
                        .outcome = {.is_err = true,
                                    .val.err = {.kind = host_string(text_of(kind)), .message = host_string(text_of(message))}},
                        .grant = STEWARD_PLUGIN_TYPES_GRANT_NONE};
}

bool st_complete_with_fault(st_call *call, uint64_t id, const char *kind, const char *message) {
    if (!object_take_by_hand(call->object, id)) {
        return false;
    }
    st_writer copies = {NULL, 0, 0};
    st__put_raw(&copies, kind, strlen(kind) + 1);
    size_t at = copies.len;
    st__put_raw(&copies, message, strlen(message) + 1);
    complete(faulty(id, (const char *)copies.ptr, (const char *)copies.ptr + at));
    return true;
}

void st_grant(st_call *call) { call->grant = STEWARD_PLUGIN_TYPES_GRANT_CLEAN; }

void st_grant_abandoned(st_call *call) { call->grant = STEWARD_PLUGIN_TYPES_GRANT_ABANDONED; }

void st_freed(ST_UNUSED st_call *call) { turn.freed = true; }

void st_wake_at(st_call *call, uint64_t at_ms) { object_wake_at(call->object, at_ms); }

bool st_invoke(ST_UNUSED st_call *call, uint64_t tag, const st_any *on, const char *method, st_item args) {
    st_token token;
    if (!st_token_of(st_item_of(on), &token) || token.address.ptr != NULL) {
        return false;
    }
    st_writer name = {NULL, 0, 0}, copy = {NULL, 0, 0};
    st__put_raw(&name, method, strlen(method));
    st_put_item(&copy, args);
    turn.invocations = st__room(turn.invocations, turn.invocations_count, &turn.invocations_capacity, sizeof(invocation));
    turn.invocations[turn.invocations_count++] =
        (invocation){.tag = tag, .ident = token.ident, .method = {name.ptr, name.len}, .args = {copy.ptr, copy.len}};
    return true;
}

void st_text_format(char *text, size_t bytes, const char *format, ...) {
    va_list args;
    va_start(args, format);
    st_writer out = {NULL, 0, 0};
    put_formatted(&out, format, args);
    va_end(args);
    if (bytes > 0) {
        size_t len = out.len < bytes ? out.len : bytes - 1;
        memcpy(text, out.ptr == NULL ? (const uint8_t *)"" : out.ptr, len);
        text[len] = 0;
    }
}

void st_log(st_level level, const char *format, ...) {
    va_list args;
    va_start(args, format);
    st_writer message = {NULL, 0, 0};
    put_formatted(&message, format, args);
    va_end(args);
    steward_plugin_host_log((steward_plugin_host_level_t)level, &(plugin_string_t){message.ptr, message.len});
}

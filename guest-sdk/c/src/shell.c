// What stands between the host and an object: it turns inputs into calls of methods and hooks, and keeps the lines of parked calls. Its
// rules are those of guest-sdk/rust/src/shell.rs, so that a type answers alike in every language.

/// A call that has no answer yet. Its arguments are copied, and their tokens held while it waits.
struct waiting {
    uint64_t id;
    st_owner owner;
    /// Tried again at this time, if it has one.
    uint64_t until_ms;
    bool has_until;
    uint32_t method;
    st_any args;
};

/// Parked calls, oldest first; of one method, or of several that share it.
struct line {
    struct waiting **calls;
    /// The first is calls[start].
    size_t start, count, capacity;
};

struct exports_steward_plugin_referent_object_t {
    const st_type *type;
    st_str tenant;
    struct line *lines;
    uint32_t lines_count;
    /// Those that the object completes itself.
    struct line by_hand;
    /// The wish for a tick.
    plugin_option_u64_t wake_at;
    /// What the host was last asked to wake the object at, unless it has.
    plugin_option_u64_t told_wake;
    /// What was read of the constructor's signature.
    st_str name;
    _Alignas(16) uint8_t self[];
};

struct asked {
    uint64_t id;
    st_owner owner;
    uint32_t method;
    st_item args;
};

#ifndef __wasm__
/// Tests only: every call that parks, and every read-only one, is checked to have changed nothing.
static bool checks_methods;
static st_writer state_of(const object *o);
static void check_unchanged(const object *o, const st_part *part, st_item before, const char *what);
#endif

static st_str object_tenant(const object *o) { return o->tenant; }
static st_str object_type_name(const object *o) { return o->name; }

static void object_wake_at(object *o, uint64_t at_ms) {
    if (!o->wake_at.is_some || at_ms < o->wake_at.val) {
        o->wake_at = (plugin_option_u64_t){true, at_ms};
    }
}

/// The part of a kind; NULL if the type has none.
static const st_part *part_of(const st_type *type, uint32_t kind) {
    for (uint32_t at = 0; at < type->parts_count; at++) {
        if (type->parts[at]->kind == kind) {
            return type->parts[at];
        }
    }
    return NULL;
}

/// Where among the parts a method stands; `parts_count` if there is none of this number. The constructor has none.
static uint32_t place_of_method(const st_type *type, uint32_t number) {
    // Mostly nothing but methods stands before it; that is known once its plan is.
    uint32_t likely = number < type->parts_count ? number + 1 : 0;
    if (likely < type->parts_count && type->plans[likely] != NULL && type->plans[likely]->number == number) {
        return likely;
    }
    uint32_t methods = 0;
    for (uint32_t at = 1; at < type->parts_count; at++) {
        if (type->parts[at]->kind == ST_PART_METHOD && methods++ == number) {
            return at;
        }
    }
    return type->parts_count;
}

/// The number of the method at this place; that of no method, if it is none.
static uint32_t number_of_method(const st_type *type, uint32_t place) {
    uint32_t methods = 0;
    for (uint32_t at = 1; at < place; at++) {
        methods += type->parts[at]->kind == ST_PART_METHOD;
    }
    return place > 0 && type->parts[place]->kind == ST_PART_METHOD ? methods : UINT32_MAX;
}

/// The number of the line in which calls of the method at this place wait; with `parts_count`, how many lines there are.
static uint32_t line_of(const st_type *type, uint32_t place) {
    uint32_t lines = 0;
    uint32_t own = place < type->parts_count ? type->parts[place]->flags >> 8 : 0;
    for (uint32_t at = 1; at < type->parts_count; at++) {
        const st_part *part = type->parts[at];
        if (part->kind != ST_PART_METHOD || (part->flags & (ST_FIFO | ST_ALL)) == 0) {
            continue;
        }
        uint32_t shared = part->flags >> 8;
        if (at == place || (shared != 0 && shared == own)) {
            return lines;
        }
        bool is_first = true;
        for (uint32_t earlier = 1; shared != 0 && earlier < at; earlier++) {
            is_first &= type->parts[earlier]->kind != ST_PART_METHOD || type->parts[earlier]->flags >> 8 != shared;
        }
        lines += is_first;
    }
    return lines;
}

NOINLINE static const st_plan *make_plan(const st_type *type, uint32_t place) {
    const char *signature = type->parts[place]->signature;
    struct text t = {signature, signature + strlen(signature), NULL};
    st_plan *plan = read_signature(&t);
    if (plan == NULL) {
        st_log(ST_ERROR, "signature `%s`: %s, at `%.*s`", signature, t.error, (int)(t.end - t.at), t.at);
        abort();
    }
    plan->line = (uint8_t)line_of(type, place);
    plan->number = number_of_method(type, place);
    return type->plans[place] = plan;
}

/// The plan of a method, read the first time it is needed.
static inline const st_plan *plan_of(const st_type *type, uint32_t place) {
    const st_plan *known = type->plans[place];
    return known != NULL ? known : make_plan(type, place);
}

static struct waiting *line_at(const struct line *line, size_t at) { return line->calls[line->start + at]; }

static void line_push(struct line *line, struct waiting *call) {
    if (line->start + line->count == line->capacity) {
        if (line->start > line->count) {
            memmove(line->calls, line->calls + line->start, line->count * sizeof call);
            line->start = 0;
        } else {
            line->capacity = line->capacity == 0 ? 4 : 2 * line->capacity;
            line->calls = st_realloc(line->calls, line->capacity * sizeof call);
        }
    }
    line->calls[line->start + line->count++] = call;
}

static struct waiting *line_remove(struct line *line, size_t at) {
    struct waiting **place = line->calls + line->start + at;
    struct waiting *call = *place;
    if (at == 0) {
        line->start++;
    } else {
        memmove(place, place + 1, (line->count - at - 1) * sizeof call);
    }
    line->count--;
    if (line->count == 0) {
        line->start = 0;
    }
    return call;
}

/// Where a call waits in the line, or `count`. Calls arrive in the order of their numbers; should a host bring them in another order after a
/// move, they are found all the same.
static size_t line_find(const struct line *line, uint64_t id) {
    size_t low = 0, high = line->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (line_at(line, middle)->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < line->count && line_at(line, low)->id == id) {
        return low;
    }
    for (size_t at = 0; at < line->count; at++) {
        if (line_at(line, at)->id == id) {
            return at;
        }
    }
    return line->count;
}

static void waiting_free(struct waiting *call) {
    st_forget(&call->args);
    free(call);
}

static bool object_take_by_hand(object *o, uint64_t id) {
    size_t at = line_find(&o->by_hand, id);
    if (at == o->by_hand.count) {
        return false;
    }
    waiting_free(line_remove(&o->by_hand, at));
    return true;
}

/// Only what a hook needs: what belongs to a method's arguments is filled in where they are bound.
static void call_init(st_call *call, object *o, uint64_t now_ms) {
    call->object = o;
    call->now_ms = now_ms;
    call->id = 0;
    call->owner = (st_owner){0, 0};
    call->plan = NULL;
    call->out = (st_writer){NULL, 0, 0};
    call->raised = false;
    call->has_until = false;
    call->grant = STEWARD_PLUGIN_TYPES_GRANT_NONE;
}

/// What became of a try.
struct tried {
    enum { ANSWERED, PARKS, BY_HAND } what;
    bool changed;
    plugin_option_u64_t until;
};

static void complete_call(st_call *call, st_answer answer) {
    completion done = {.call = call->id, .grant = STEWARD_PLUGIN_TYPES_GRANT_NONE};
    if (answer == ST_RAISED || call->raised) {
        done.outcome.is_err = true;
        done.outcome.val.err = call->fault;
    } else {
        if (call->out.len == 0) {
            st_put_null(&call->out);
        }
        done.outcome.is_err = false;
        done.outcome.val.ok = (steward_plugin_types_cbor_t){call->out.ptr, call->out.len};
        done.grant = call->grant;
    }
    complete(done);
}

/// Calls a method and notes its answer, if it has one.
static struct tried attempt(object *o, uint64_t now_ms, uint32_t place, struct asked asked) {
    const st_part *part = o->type->parts[place];
    st_call call;
    call_init(&call, o, now_ms);
    call.id = asked.id;
    call.owner = asked.owner;
    call.plan = plan_of(o->type, place);
#ifndef __wasm__
    st_writer before = {NULL, 0, 0};
    if (checks_methods) {
        before = state_of(o);
    }
#endif
    st_answer answer = bind(&call, asked.args) ? part->run.method(o->self, &call) : ST_RAISED;
    if (answer == ST_RAISED && !call.raised) {
        answer = st_raise(&call, "SystemError", "the method raised nothing");
    }
    if ((answer == ST_PENDING || answer == ST_BY_HAND) && !call.raised) {
        if ((part->flags & (ST_FIFO | ST_ALL)) != 0) {
#ifndef __wasm__
            check_unchanged(o, part, st_written(&before), "changed the object and then parked: a call that parks must be safe to call again");
#endif
            return (struct tried){answer == ST_PENDING ? PARKS : BY_HAND, false, {call.has_until, call.until_ms}};
        }
        answer = st_raise(&call, "RuntimeError", "%.*s.%.*s waits, but is not declared ST_FIFO or ST_ALL", (int)o->name.len,
                          o->name.ptr, (int)call.plan->name.len, call.plan->name.ptr);
    }
#ifndef __wasm__
    if (part->flags & ST_READ) {
        check_unchanged(o, part, st_written(&before), "changed the object, but is declared ST_READ");
    }
#endif
    complete_call(&call, answer);
    // One that raised may have changed something first.
    return (struct tried){ANSWERED, (part->flags & ST_READ) == 0, {false, 0}};
}

static struct waiting *park(struct asked asked, plugin_option_u64_t until) {
    struct waiting *call = st_alloc(sizeof *call);
    *call = (struct waiting){.id = asked.id,
                      .owner = asked.owner,
                      .has_until = until.is_some,
                      .until_ms = until.val,
                      .method = asked.method,
                      .args = st_keep(asked.args)};
    return call;
}

/// A new call: behind those of its line that wait, or tried at once. Returns whether the object changed.
static bool take_call(object *o, uint64_t now_ms, struct asked asked) {
    uint32_t place = place_of_method(o->type, asked.method);
    if (place == o->type->parts_count) {
        st_writer message = {NULL, 0, 0};
        st__put_raw(&message, "there is no method number ", 26);
        put_decimal(&message, asked.method, false, 10);
        st__put_raw(&message, "", 1);
        complete(faulty(asked.id, "AttributeError", (const char *)message.ptr));
        return false;
    }
    uint32_t flags = o->type->parts[place]->flags;
    if (flags & ST_FIFO) {
        struct line *line = &o->lines[plan_of(o->type, place)->line];
        if (line->count > 0) {
            line_push(line, park(asked, (plugin_option_u64_t){false, 0}));
            return false;
        }
    }
    struct tried tried = attempt(o, now_ms, place, asked);
    if (tried.what == PARKS) {
        line_push(&o->lines[plan_of(o->type, place)->line], park(asked, tried.until));
    } else if (tried.what == BY_HAND) {
        line_push(&o->by_hand, park(asked, tried.until));
    }
    return tried.changed;
}

/// Gives a parked call up; false if there is no such call.
static bool cancel(object *o, uint64_t now_ms, uint64_t id, st_why why, bool *changed) {
    struct waiting *call = NULL;
    size_t at = line_find(&o->by_hand, id);
    if (at < o->by_hand.count) {
        call = line_remove(&o->by_hand, at);
    }
    for (uint32_t line = 0; call == NULL && line < o->lines_count; line++) {
        at = line_find(&o->lines[line], id);
        if (at < o->lines[line].count) {
            call = line_remove(&o->lines[line], at);
        }
    }
    if (call == NULL) {
        return false;
    }
    st_call turn_call;
    call_init(&turn_call, o, now_ms);
    turn_call.id = call->id;
    turn_call.owner = call->owner;
    const st_part *hook = part_of(o->type, ST_PART_CANCELLED);
    *changed = hook != NULL && hook->run.cancelled(o->self, &turn_call, why);
    if (why == ST_WHY_DEADLINE) {
        const st_part *method = o->type->parts[place_of_method(o->type, call->method)], *timeout = NULL;
        for (uint32_t part = 0; part < o->type->parts_count; part++) {
            const st_part *candidate = o->type->parts[part];
            timeout = candidate->kind == ST_PART_TIMEOUT && candidate->of == method ? candidate : timeout;
        }
        st_answer answer = timeout == NULL ? st_raise(&turn_call, "TimeoutError", "the call waited until its deadline")
                                           : timeout->run.timeout(o->self, &turn_call);
        if (answer == ST_PENDING || answer == ST_BY_HAND) {
            answer = st_raise(&turn_call, "RuntimeError", "the answer at the deadline cannot wait");
        }
        // Nothing is granted to one whose time is over.
        turn_call.grant = STEWARD_PLUGIN_TYPES_GRANT_NONE;
        complete_call(&turn_call, answer);
    } else {
        // Nobody reads it, but the host counts the call as waiting until it has an answer.
        complete(faulty(id, "Cancelled", "the call was given up"));
    }
    waiting_free(call);
    return true;
}

/// Which parked calls to try again.
typedef enum retry_which { RETRY_NOTHING, RETRY_DUE, RETRY_ALL } retry_which;

/// Tries parked calls again, until no more of them is answered. Returns whether the object changed.
static bool retry(object *o, uint64_t now_ms, retry_which which) {
    bool changed = false;
    // After a change everything is worth a try; it ends because each change took a call out of its line.
    for (;;) {
        bool changed_now = false;
        for (uint32_t number = 0; number < o->lines_count; number++) {
            struct line *line = &o->lines[number];
            size_t at = 0;
            while (at < line->count) {
                struct waiting *call = line_at(line, at);
                uint32_t place = place_of_method(o->type, call->method);
                bool is_fifo = (o->type->parts[place]->flags & ST_FIFO) != 0;
                bool is_due = call->has_until && call->until_ms <= now_ms;
                struct tried tried = {PARKS, false, {call->has_until, call->until_ms}};
                if (which == RETRY_ALL || changed_now || is_due) {
                    struct asked asked = {call->id, call->owner, call->method, st_item_of(&call->args)};
                    tried = attempt(o, now_ms, place, asked);
                }
                if (tried.what == PARKS) {
                    call->has_until = tried.until.is_some;
                    call->until_ms = tried.until.val;
                    if (is_fifo) {
                        break;
                    }
                    at++;
                    continue;
                }
                (void)line_remove(line, at);
                changed_now |= tried.changed;
                if (tried.what == ANSWERED) {
                    waiting_free(call);
                } else {
                    line_push(&o->by_hand, call);
                }
            }
        }
        changed |= changed_now;
        if (!changed_now) {
            return changed;
        }
        which = RETRY_ALL;
    }
}

/// When to be woken, if that is not what the host was last told.
static plugin_option_u64_t wake_at(object *o) {
    plugin_option_u64_t earliest = o->wake_at;
    for (uint32_t number = 0; number < o->lines_count; number++) {
        for (size_t at = 0; at < o->lines[number].count; at++) {
            const struct waiting *call = line_at(&o->lines[number], at);
            if (call->has_until && (!earliest.is_some || call->until_ms < earliest.val)) {
                earliest = (plugin_option_u64_t){true, call->until_ms};
            }
            // Behind the head of a fifo line nobody has been tried, so nobody has a wish.
            if (o->type->parts[place_of_method(o->type, call->method)]->flags & ST_FIFO) {
                break;
            }
        }
    }
    if (!earliest.is_some || (o->told_wake.is_some && o->told_wake.val == earliest.val)) {
        return (plugin_option_u64_t){false, 0};
    }
    o->told_wake = earliest;
    return earliest;
}

/// Begins a turn: what the one before collected is gone.
static void turn_begin(uint64_t seed) {
    // What the host has passed lies there, if it has passed anything.
    st__arena_renew();
    arena.is_old = true;
    memset(&turn, 0, sizeof turn);
    memset(&tokens_held, 0, sizeof tokens_held);
    memset(&tokens_let_go, 0, sizeof tokens_let_go);
    turn.seed = seed;
}

static bool hook_owner_lost(object *o, st_call *call, const steward_plugin_types_owner_lost_t *lost) {
    const st_part *hook = part_of(o->type, ST_PART_OWNER_LOST);
    return hook != NULL && hook->run.owner_lost(o->self, call, (st_owner_lost){lost->session, lost->orderly});
}

static bool hook_undelivered(object *o, st_call *call, const steward_plugin_types_undelivered_t *lost) {
    const st_part *hook = part_of(o->type, ST_PART_UNDELIVERED);
    if (hook == NULL) {
        return false;
    }
    uint32_t place = place_of_method(o->type, lost->method);
    st_str method = place < o->type->parts_count ? plan_of(o->type, place)->name : ST_STR("");
    call->id = lost->call;
    return hook->run.undelivered(
        o->self, call, (st_undelivered){method, {lost->payload.ptr, lost->payload.len}, lost->sent});
}

static bool hook_returned(object *o, st_call *call, const steward_plugin_types_returned_t *came) {
    const st_part *hook = part_of(o->type, ST_PART_RETURNED);
    if (hook == NULL) {
        return false;
    }
    st_returned returned = {.tag = came->tag, .raised = came->outcome.is_err};
    if (returned.raised) {
        returned.kind = (st_str){(const char *)came->outcome.val.err.kind.ptr, came->outcome.val.err.kind.len};
        returned.message = (st_str){(const char *)came->outcome.val.err.message.ptr, came->outcome.val.err.message.len};
    } else {
        returned.result = (st_item){came->outcome.val.ok.ptr, came->outcome.val.ok.len};
    }
    return hook->run.returned(o->self, call, returned);
}

static bool hook_tick(object *o, st_call *call) {
    const st_part *hook = part_of(o->type, ST_PART_TICK);
    return hook != NULL && hook->run.tick(o->self, call);
}

void exports_steward_plugin_referent_method_object_step(object *o, uint64_t now_ms, uint64_t seed,
                                                        steward_plugin_types_input_t *input,
                                                        steward_plugin_types_outcome_t *outcome) {
    turn_begin(seed);
    bool changed = false;
    retry_which which = RETRY_ALL;
    if (input->tag == STEWARD_PLUGIN_TYPES_INPUT_CALL) {
        const steward_plugin_types_call_t *call = &input->val.call;
        changed = take_call(
            o, now_ms,
            (struct asked){call->id, {call->owner.session, call->owner.thread}, call->method, {call->args.ptr, call->args.len}});
        which = changed ? RETRY_ALL : RETRY_NOTHING;
    } else {
        st_call call;
        call_init(&call, o, now_ms);
        switch (input->tag) {
        case STEWARD_PLUGIN_TYPES_INPUT_CANCEL: {
            st_why why = input->val.cancel.why == STEWARD_PLUGIN_TYPES_WHY_DEADLINE ? ST_WHY_DEADLINE
                         : input->val.cancel.why == STEWARD_PLUGIN_TYPES_WHY_CLIENT ? ST_WHY_CLIENT
                                                                                    : ST_WHY_SESSION_ENDED;
            which = cancel(o, now_ms, input->val.cancel.call, why, &changed) ? RETRY_ALL : RETRY_NOTHING;
            break;
        }
        case STEWARD_PLUGIN_TYPES_INPUT_OWNER_LOST:
            changed = hook_owner_lost(o, &call, &input->val.owner_lost);
            break;
        case STEWARD_PLUGIN_TYPES_INPUT_UNDELIVERED:
            changed = hook_undelivered(o, &call, &input->val.undelivered);
            break;
        case STEWARD_PLUGIN_TYPES_INPUT_RETURNED:
            changed = hook_returned(o, &call, &input->val.returned);
            break;
        default:
            o->told_wake.is_some = false;
            which = RETRY_DUE;
            if (o->wake_at.is_some && o->wake_at.val <= now_ms) {
                o->wake_at.is_some = false;
                changed = hook_tick(o, &call);
                which = RETRY_ALL;
            }
        }
    }
    if (which != RETRY_NOTHING) {
        changed |= retry(o, now_ms, which);
    }
    settle_tokens();
    *outcome = (steward_plugin_types_outcome_t){
        .completions = {turn.completions, turn.completions_count},
        .freed = turn.freed,
        .changed = changed,
        .wake_at = wake_at(o),
        .held = {tokens_held.at, tokens_held.count},
        .let_go = {tokens_let_go.at, tokens_let_go.count},
        .invokes = {turn.invocations, turn.invocations_count},
    };
}

// The plugin world's other functions (wit/): types are described, objects made, saved, loaded, dropped.

static size_t field_bytes(uint32_t kind) {
    switch (kind) {
    case ST_FIELD_BOOL:
        return sizeof(bool);
    case ST_FIELD_I8:
    case ST_FIELD_U8:
        return 1;
    case ST_FIELD_I16:
    case ST_FIELD_U16:
        return 2;
    case ST_FIELD_I32:
    case ST_FIELD_U32:
    case ST_FIELD_F32:
        return 4;
    case ST_FIELD_ANY:
        return sizeof(st_any);
    default:
        return 8;
    }
}

static bool is_signed(uint32_t kind) {
    return kind == ST_FIELD_I8 || kind == ST_FIELD_I16 || kind == ST_FIELD_I32 || kind == ST_FIELD_I64;
}

static void save_field(const st_field *field, const void *self, st_writer *out) {
    const uint8_t *at = (const uint8_t *)self + field->offset;
    size_t bytes = field_bytes(field->kind);
    if (field->kind == ST_FIELD_BOOL) {
        bool value;
        memcpy(&value, at, sizeof value);
        st_put_bool(out, value);
    } else if (field->kind == ST_FIELD_F64) {
        double value;
        memcpy(&value, at, sizeof value);
        st_put_f64(out, value);
    } else if (field->kind == ST_FIELD_F32) {
        float value;
        memcpy(&value, at, sizeof value);
        st_put_f64(out, (double)value);
    } else if (field->kind == ST_FIELD_ANY) {
        st_any value;
        memcpy(&value, at, sizeof value);
        st_put_item(out, st_item_of(&value));
    } else {
        // Both ends are little-endian: WebAssembly is, and so is every machine that the tests know.
        uint64_t bits = 0;
        memcpy(&bits, at, bytes);
        unsigned unused = 64 - 8 * (unsigned)bytes;
        if (is_signed(field->kind)) {
            st_put_i64(out, (int64_t)(bits << unused) >> unused);
        } else {
            st_put_u64(out, bits);
        }
    }
}

/// Reads one field; false if it is of another type or out of its range.
static bool load_field(const st_field *field, void *self, st_reader *reader) {
    uint8_t *at = (uint8_t *)self + field->offset;
    size_t bytes = field_bytes(field->kind);
    if (field->kind == ST_FIELD_BOOL) {
        bool value;
        bool fits = st_read_bool(reader, &value);
        if (fits) {
            memcpy(at, &value, sizeof value);
        }
        return fits;
    }
    if (field->kind == ST_FIELD_F64 || field->kind == ST_FIELD_F32) {
        double value;
        if (!st_read_f64(reader, &value)) {
            return false;
        }
        float single = (float)value;
        memcpy(at, field->kind == ST_FIELD_F64 ? (void *)&value : (void *)&single, bytes);
        return true;
    }
    if (field->kind == ST_FIELD_ANY) {
        st_item item;
        if (!st_read_item(reader, &item)) {
            return false;
        }
        st_any value = st_keep(item);
        memcpy(at, &value, sizeof value);
        return true;
    }
    unsigned unused = 64 - 8 * (unsigned)bytes;
    uint64_t bits;
    if (is_signed(field->kind)) {
        int64_t value;
        if (!st_read_i64(reader, &value) || (int64_t)((uint64_t)value << unused) >> unused != value) {
            return false;
        }
        bits = (uint64_t)value;
    } else if (!st_read_u64(reader, &bits) || bits << unused >> unused != bits) {
        return false;
    }
    memcpy(at, &bits, bytes);
    return true;
}

/// Whether there is nothing to save: a kept item that is none, which is not a kept null.
static bool is_none(const st_field *field, const void *self) {
    st_any value = {(uint8_t *)"", 0, false};
    if (field->kind == ST_FIELD_ANY) {
        memcpy(&value, (const uint8_t *)self + field->offset, sizeof value);
    }
    return value.ptr == NULL;
}

/// The state: `[wake-at or null, {field: value} or null, what ST_SAVE wrote or null]`.
static void save(const object *o, st_writer *out) {
    const st_part *fields = part_of(o->type, ST_PART_FIELDS), *own = part_of(o->type, ST_PART_SAVE);
    st_put_list(out, 3);
    if (o->wake_at.is_some) {
        st_put_u64(out, o->wake_at.val);
    } else {
        st_put_null(out);
    }
    if (fields != NULL) {
        uint32_t count = fields->fields_count;
        for (uint32_t at = 0; at < fields->fields_count; at++) {
            count -= is_none(&fields->fields[at], o->self);
        }
        st_put_dict(out, count);
        for (uint32_t at = 0; at < fields->fields_count; at++) {
            if (!is_none(&fields->fields[at], o->self)) {
                st_put_text(out, fields->fields[at].name);
                save_field(&fields->fields[at], o->self, out);
            }
        }
    } else {
        st_put_null(out);
    }
    if (own != NULL) {
        own->run.save(o->self, out);
    } else {
        st_put_null(out);
    }
}

static bool saves(const st_type *type) {
    return part_of(type, ST_PART_FIELDS) != NULL || part_of(type, ST_PART_SAVE) != NULL;
}

static bool load_fields(const st_part *part, void *self, st_reader *reader) {
    size_t count;
    if (!st_read_dict(reader, &count)) {
        return false;
    }
    for (size_t pair = 0; pair < count; pair++) {
        st_str name;
        st_item skipped;
        if (!st_read_str(reader, &name)) {
            return false;
        }
        uint32_t at = 0;
        while (at < part->fields_count && !st_str_equal(name, text_of(part->fields[at].name))) {
            at++;
        }
        bool loaded = at < part->fields_count ? load_field(&part->fields[at], self, reader) : st_read_item(reader, &skipped);
        if (!loaded) {
            return false;
        }
    }
    return true;
}

/// Fills a zeroed object from a state.
static st_answer load(object *o, st_call *call, st_item state, st_str from) {
    const st_part *fields = part_of(o->type, ST_PART_FIELDS), *own = part_of(o->type, ST_PART_LOAD),
                  *migrate = part_of(o->type, ST_PART_MIGRATE);
    st_reader reader = st_read(state);
    size_t count;
    bool read = st_read_list(&reader, &count) && count == 3;
    if (read && !st_read_null(&reader)) {
        o->wake_at.is_some = read = st_read_u64(&reader, &o->wake_at.val);
    }
    st_item part = {NULL, 0};
    if (read && !st_read_null(&reader)) {
        read = fields != NULL ? load_fields(fields, o->self, &reader) : st_read_item(&reader, &part);
    }
    if (!read || !st_read_item(&reader, &part) || !st_read_end(&reader)) {
        return st_raise(call, "ValueError", "state is malformed");
    }
    st_answer answer = own == NULL ? ST_DONE : own->run.load(o->self, call, part, from);
    if (answer == ST_DONE && migrate != NULL && !st_str_equal(from, text_of(o->type->version))) {
        answer = migrate->run.migrate(o->self, call, from);
    }
    return answer;
}

static void object_free(object *o) {
    const st_part *fields = part_of(o->type, ST_PART_FIELDS), *drop = part_of(o->type, ST_PART_DROP);
    if (drop != NULL) {
        drop->run.drop(o->self);
    }
    for (uint32_t at = 0; fields != NULL && at < fields->fields_count; at++) {
        if (fields->fields[at].kind == ST_FIELD_ANY) {
            st_any value;
            memcpy(&value, o->self + fields->fields[at].offset, sizeof value);
            st_forget(&value);
        }
    }
    for (uint32_t number = 0; number <= o->lines_count; number++) {
        struct line *line = number < o->lines_count ? &o->lines[number] : &o->by_hand;
        while (line->count > 0) {
            waiting_free(line_remove(line, line->count - 1));
        }
        free(line->calls);
    }
    free(o->lines);
    free((void *)(uintptr_t)o->tenant.ptr);
    free(o);
}

void exports_steward_plugin_referent_object_destructor(object *o) {
    turn_begin(0);
    object_free(o);
    // Nobody asks what was let go by this: the host knows what the object held.
    st__arena_reset();
}

static const st_type *type_of(plugin_string_t typeid) {
    for (size_t at = 0; at < st_plugin_types_count; at++) {
        if (st_str_equal((st_str){(const char *)typeid.ptr, typeid.len}, plan_of(st_plugin_types[at], 0)->typeid)) {
            return st_plugin_types[at];
        }
    }
    return NULL;
}

/// An object of which nothing is made yet but the shell.
static object *shell(const st_type *type, const plugin_string_t *tenant) {
    object *o = st_alloc(sizeof *o + type->bytes);
    o->type = type;
    o->name = plan_of(type, 0)->name;
    o->lines_count = line_of(type, type->parts_count);
    if (o->lines_count > 0) {
        o->lines = st_alloc(o->lines_count * sizeof *o->lines);
    }
    if (tenant->len > 0) {
        char *copy = st_alloc(tenant->len);
        memcpy(copy, tenant->ptr, tenant->len);
        o->tenant = (st_str){copy, tenant->len};
    }
    return o;
}

/// Hands an object over, or what its constructor raised.
static bool hand_over(object *o, st_call *call, st_answer answer, exports_steward_plugin_referent_made_t *made,
                 steward_plugin_types_fault_t *fault) {
    if (answer == ST_PENDING || answer == ST_BY_HAND) {
        answer = st_raise(call, "RuntimeError", "a constructor cannot wait");
    }
    if (answer == ST_RAISED && !call->raised) {
        answer = st_raise(call, "SystemError", "the constructor raised nothing");
    }
    if (call->raised) {
        *fault = call->fault;
        object_free(o);
        return false;
    }
    settle_tokens();
    made->object = exports_steward_plugin_referent_object_new(o);
    made->held = (plugin_list_u64_t){tokens_held.at, tokens_held.count};
    return true;
}

static bool no_type(plugin_string_t typeid, steward_plugin_types_fault_t *fault) {
    st_call call;
    call_init(&call, NULL, 0);
    (void)st_raise(&call, "KeyError", "no type `%.*s` in this plugin", (int)typeid.len, (const char *)typeid.ptr);
    *fault = call.fault;
    return false;
}

bool exports_steward_plugin_referent_static_object_create(plugin_string_t *typeid_, steward_plugin_types_cbor_t *args,
                                                          steward_plugin_types_context_t *context,
                                                          exports_steward_plugin_referent_made_t *ret,
                                                          steward_plugin_types_fault_t *err) {
    turn_begin(context->seed);
    const st_type *type = type_of(*typeid_);
    if (type == NULL) {
        return no_type(*typeid_, err);
    }
    object *o = shell(type, &context->tenant);
    st_call call;
    call_init(&call, o, context->now_ms);
    call.plan = plan_of(type, 0);
    st_answer answer =
        bind(&call, (st_item){args->ptr, args->len}) ? type->parts[0]->run.method(o->self, &call) : ST_RAISED;
    return hand_over(o, &call, answer, ret, err);
}

bool exports_steward_plugin_referent_static_object_load(plugin_string_t *typeid_, plugin_list_u8_t *state,
                                                        plugin_string_t *from_version,
                                                        steward_plugin_types_context_t *context,
                                                        exports_steward_plugin_referent_made_t *ret,
                                                        steward_plugin_types_fault_t *err) {
    turn_begin(context->seed);
    const st_type *type = type_of(*typeid_);
    if (type == NULL) {
        return no_type(*typeid_, err);
    }
    object *o = shell(type, &context->tenant);
    st_call call;
    call_init(&call, o, context->now_ms);
    st_str from = {(const char *)from_version->ptr, from_version->len};
    return hand_over(o, &call, load(o, &call, (st_item){state->ptr, state->len}, from), ret, err);
}

bool exports_steward_plugin_referent_method_object_save(object *o, plugin_list_u8_t *ret, steward_plugin_types_fault_t *err) {
    turn_begin(0);
    if (!saves(o->type)) {
        *err = faulty(0, "TypeError", "the type does not save").outcome.val.err;
        return false;
    }
    st_writer out = {NULL, 0, 0};
    save(o, &out);
    *ret = (plugin_list_u8_t){out.ptr, out.len};
    return true;
}

static steward_plugin_types_list_param_t describe_params(const st_plan *plan) {
    steward_plugin_types_list_param_t list = {st__arena(plan->params_count * sizeof *list.ptr), plan->params_count};
    for (uint8_t at = 0; at < plan->params_count; at++) {
        const struct param *p = &plan->params[at];
        list.ptr[at] = (steward_plugin_types_param_t){
            .name = host_string(p->name),
            .kind = p->kind,
            .type_name = host_string(shown_type(p->type)),
            .default_ = {p->default_text.ptr != NULL, host_string(p->default_text)},
        };
    }
    return list;
}

static void describe_type(const st_type *type, steward_plugin_types_type_info_t *info) {
    uint32_t count = 0;
    for (uint32_t at = 1; at < type->parts_count; at++) {
        count += type->parts[at]->kind == ST_PART_METHOD;
    }
    if (type->parts[0]->kind != ST_PART_METHOD || type->parts[0]->flags != 0) {
        st__die("the first part of ST_TYPE is the constructor, and has no flags");
    }
    if (part_of(type, ST_PART_SAVE) != NULL && part_of(type, ST_PART_LOAD) == NULL) {
        st__die("ST_SAVE wants ST_LOAD");
    }
    const st_plan *constructor = plan_of(type, 0);
    steward_plugin_types_method_info_t *methods = st__arena(count * sizeof *methods);
    *info = (steward_plugin_types_type_info_t){
        .typeid_ = host_string(constructor->typeid),
        .version = host_string(text_of(type->version)),
        .doc = host_string(text_of(type->parts[0]->doc)),
        .constructor_params = describe_params(constructor),
        .methods = {methods, count},
        .saves = saves(type),
    };
    for (uint32_t number = 0; number < count; number++) {
        uint32_t place = place_of_method(type, number);
        const st_part *part = type->parts[place];
        const st_plan *plan = plan_of(type, place);
        if ((part->flags & ST_FIFO) && (part->flags & ST_ALL)) {
            st__die("a method's calls wait by ST_FIFO or by ST_ALL");
        }
        methods[number] = (steward_plugin_types_method_info_t){
            .name = host_string(plan->name),
            .params = describe_params(plan),
            .doc = host_string(text_of(part->doc)),
            .read_only = (part->flags & ST_READ) != 0,
            .may_park = (part->flags & (ST_FIFO | ST_ALL)) != 0,
            .result_type = host_string(shown_type(plan->result)),
            .returns = {plan->returns.len > 0, host_string(plan->returns)},
        };
    }
}

void exports_steward_plugin_referent_describe(exports_steward_plugin_referent_list_type_info_t *ret) {
    turn_begin(0);
    *ret = (exports_steward_plugin_referent_list_type_info_t){st__arena(st_plugin_types_count * sizeof *ret->ptr),
                                                               st_plugin_types_count};
    for (size_t at = 0; at < st_plugin_types_count; at++) {
        describe_type(st_plugin_types[at], &ret->ptr[at]);
    }
}

#ifdef __wasm__

/// Where the host puts what it passes.
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *memory, size_t bytes_old, size_t align, size_t bytes);
void *cabi_realloc(void *memory, size_t bytes_old, size_t align, size_t bytes) {
    st__arena_renew();
    // An empty list's pointer is never read, but must be aligned.
    return bytes == 0 ? (void *)align : st__arena_grow(memory, bytes_old, bytes);
}

/// By which hosts tell what made the plugin.
__asm__(".section .custom_section.steward,\"\",@\n"
        ".ascii \"sdk c 0.1.0\\nworld 0.1.0\\n\"\n"
        ".text\n");

#endif

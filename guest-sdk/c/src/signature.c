// Signatures: `acquire(n: float = 1, *, block: bool = True, *rest, **kw) -> bool`, read once for the description and once more by each
// instance that calls the method, into a table by which arguments are bound as Python binds them.

enum { PARAMS_MAX = 32, TYPE_DEPTH_MAX = 8 };
enum { KIND_NORMAL, KIND_KEYWORD_ONLY, KIND_REST, KIND_KEYWORDS };

/// What a type's name means. Those that a bare name says all about come first.
enum base {
    BASE_ANY,
    BASE_BOOL,
    BASE_INT,
    BASE_U64,
    BASE_U32,
    BASE_FLOAT,
    BASE_STR,
    BASE_BYTES,
    BASE_LIST,
    BASE_TUPLE,
    BASE_SET,
    BASE_DICT,
    BASE_NONE,
    BASE_PROXY,
    /// See the text: `list[int]`, `int | None`.
    BASE_COMPOUND,
    BASE_UNKNOWN,
};

struct param {
    st_str name;
    st_str type;
    /// As it is written; NULL if the argument is required.
    st_str default_text;
    st_item default_item;
    uint8_t kind;
    uint8_t base;
};

typedef struct st_plan {
    st_str name;
    /// Of a constructor: what it is registered as.
    st_str typeid;
    st_str result;
    /// The type that the result becomes an object of; else empty.
    st_str returns;
    uint8_t params_count;
    uint8_t positional;
    /// Places of `*rest` and `**kw`, or `params_count`.
    uint8_t rest, keywords;
    /// Of the lines of its type, if its calls may wait.
    uint8_t line;
    /// Of its type's methods.
    uint32_t number;
    struct param params[];
} st_plan;

/// A place in a signature.
struct text {
    const char *at, *end;
    /// What is wrong; then `at` is where.
    const char *error;
};

static void skip_spaces(struct text *t) {
    while (t->at < t->end && *t->at == ' ') {
        t->at++;
    }
}

static bool eat(struct text *t, const char *word) {
    skip_spaces(t);
    size_t len = strlen(word);
    if ((size_t)(t->end - t->at) < len || memcmp(t->at, word, len) != 0) {
        return false;
    }
    t->at += len;
    return true;
}

static bool wrong(struct text *t, const char *error) {
    if (t->error == NULL) {
        t->error = error;
    }
    return false;
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static st_str word(struct text *t) {
    skip_spaces(t);
    const char *start = t->at;
    while (t->at < t->end && (is_letter(*t->at) || (t->at > start && is_digit(*t->at)))) {
        t->at++;
    }
    return (st_str){start, (size_t)(t->at - start)};
}

static enum base base_of(st_str name) {
    static const struct {
        char name[7];
        uint8_t base;
    } bases[] = {{"any", BASE_ANY},   {"bool", BASE_BOOL},   {"int", BASE_INT},     {"u64", BASE_U64}, {"u32", BASE_U32},
                 {"float", BASE_FLOAT}, {"str", BASE_STR},   {"bytes", BASE_BYTES}, {"list", BASE_LIST}, {"tuple", BASE_TUPLE},
                 {"set", BASE_SET},   {"dict", BASE_DICT},   {"None", BASE_NONE},   {"proxy", BASE_PROXY}};
    for (size_t at = 0; at < sizeof bases / sizeof bases[0]; at++) {
        if (st_str_equal(name, text_of(bases[at].name))) {
            return (enum base)bases[at].base;
        }
    }
    return BASE_UNKNOWN;
}

/// Reads `list[int] | None`. Returns what a bare name means, or that it is compound.
static enum base read_type(struct text *t, int depth) {
    enum base first = BASE_UNKNOWN;
    bool is_compound = false;
    do {
        enum base found = base_of(word(t));
        if (found == BASE_UNKNOWN || depth == TYPE_DEPTH_MAX) {
            (void)wrong(t, "expected a type: any, bool, int, u64, u32, float, str, bytes, list, tuple, set, dict, None, proxy");
            return BASE_UNKNOWN;
        }
        first = first == BASE_UNKNOWN ? found : first;
        if (eat(t, "[")) {
            is_compound = true;
            int inner = 0;
            do {
                if (read_type(t, depth + 1) == BASE_UNKNOWN) {
                    return BASE_UNKNOWN;
                }
                inner++;
            } while (eat(t, ","));
            bool fits = found == BASE_TUPLE || ((found == BASE_LIST || found == BASE_SET) && inner == 1) ||
                        (found == BASE_DICT && inner == 2);
            if (!fits || !eat(t, "]")) {
                (void)wrong(t, fits ? "expected `]`" : "only list[T], set[T], dict[K, V] and tuple[A, B] say what they contain");
                return BASE_UNKNOWN;
            }
        }
        skip_spaces(t);
        if (t->at < t->end && *t->at == '|') {
            is_compound = true;
        }
    } while (eat(t, "|"));
    return is_compound ? BASE_COMPOUND : first;
}

enum fit { FIT, MISFIT, OUT_OF_RANGE } fit;

/// Whether an item is what a bare name says, as serde takes it in the Rust SDK: a float takes integers, an integer truth values, a list
/// whatever has items.
static enum fit fits_base(enum base base, st_item item) {
    st_kind kind = st_kind_of(item);
    st_reader reader = st_read(item);
    bool fits = false;
    switch (base) {
    case BASE_ANY:
        return FIT;
    case BASE_BOOL:
        fits = kind == ST_KIND_BOOL;
        break;
    case BASE_INT:
    case BASE_U64:
    case BASE_U32:
        if (kind == ST_KIND_BIG_INT) {
            return OUT_OF_RANGE;
        }
        if (kind == ST_KIND_INT || kind == ST_KIND_BOOL) {
            int64_t whole;
            uint64_t natural;
            uint32_t small;
            bool in_range = base == BASE_INT   ? st_read_i64(&reader, &whole)
                            : base == BASE_U64 ? st_read_u64(&reader, &natural)
                                               : st_read_u32(&reader, &small);
            return in_range ? FIT : OUT_OF_RANGE;
        }
        break;
    case BASE_FLOAT:
        if (kind == ST_KIND_BIG_INT) {
            return OUT_OF_RANGE;
        }
        fits = kind == ST_KIND_FLOAT || kind == ST_KIND_INT;
        break;
    case BASE_STR:
        fits = kind == ST_KIND_STR;
        break;
    case BASE_BYTES:
        fits = kind == ST_KIND_BYTES || kind == ST_KIND_BYTE_ARRAY;
        break;
    case BASE_LIST:
    case BASE_TUPLE:
    case BASE_SET:
        fits = kind == ST_KIND_LIST || kind == ST_KIND_TUPLE || kind == ST_KIND_SET || kind == ST_KIND_FROZEN_SET;
        break;
    case BASE_DICT:
        fits = kind == ST_KIND_DICT;
        break;
    case BASE_NONE:
        fits = kind == ST_KIND_NULL;
        break;
    case BASE_PROXY:
        fits = kind == ST_KIND_TOKEN;
        break;
    case BASE_COMPOUND:
    case BASE_UNKNOWN:
        break;
    }
    return fits ? FIT : MISFIT;
}

/// Whether an item is of a type, which `t` is moved behind.
static enum fit fits_type(struct text *t, st_item item) {
    enum fit best = MISFIT;
    do {
        enum base base = base_of(word(t));
        enum fit found = fits_base(base, item);
        if (eat(t, "[")) {
            st_reader reader = st_read(item);
            size_t count = 0;
            bool is_dict = base == BASE_DICT;
            if (found == FIT) {
                (void)(is_dict ? st_read_dict(&reader, &count) : st_read_list(&reader, &count));
            }
            struct text first = *t, after = *t;
            size_t types = 0;
            // Once for the place behind it.
            do {
                (void)read_type(&after, 0);
                types++;
            } while (eat(&after, ","));
            if (found == FIT && base == BASE_TUPLE && count != types) {
                found = MISFIT;
            }
            for (size_t at = 0; found == FIT && at < count; at++) {
                // A list has one type for all, a dict one for keys and one for values, a tuple one for each.
                struct text inner = base == BASE_TUPLE && at > 0 ? *t : first;
                st_item part;
                for (int of_pair = 0; found == FIT && of_pair < (is_dict ? 2 : 1); of_pair++) {
                    found = st_read_item(&reader, &part) ? fits_type(&inner, part) : MISFIT;
                    (void)eat(&inner, ",");
                }
                *t = inner;
            }
            *t = after;
            (void)eat(t, "]");
        }
        if (found == FIT || best == MISFIT) {
            best = found;
        }
    } while (eat(t, "|"));
    return best;
}

static enum fit fits(const struct param *param, st_item item) {
    if (param->base != BASE_COMPOUND) {
        return fits_base((enum base)param->base, item);
    }
    struct text t = {param->type.ptr, param->type.ptr + param->type.len, NULL};
    return fits_type(&t, item);
}

/// Reads a number and appends it. Only what is exact in double arithmetic: 15 digits, and powers of ten that are.
static bool read_number(struct text *t, st_writer *out) {
    bool negative = eat(t, "-"), is_float = false;
    uint64_t digits = 0;
    int count = 0, scale = 0;
    for (; t->at < t->end && (is_digit(*t->at) || (*t->at == '.' && !is_float)); t->at++) {
        if (*t->at == '.') {
            is_float = true;
            continue;
        }
        digits = 10 * digits + (uint64_t)(*t->at - '0');
        count++;
        scale -= is_float ? 1 : 0;
        if (count > 18) {
            return wrong(t, "a number of so many digits cannot be a default");
        }
    }
    if (count == 0) {
        return wrong(t, "expected a default: None, True, False, a number, a text in quotes, [], () or {}");
    }
    if (t->at < t->end && (*t->at == 'e' || *t->at == 'E')) {
        t->at++;
        is_float = true;
        bool down = eat(t, "-");
        int power = 0;
        for (; t->at < t->end && is_digit(*t->at) && power < 100; t->at++) {
            power = 10 * power + (*t->at - '0');
        }
        scale += down ? -power : power;
    }
    if (!is_float) {
        st_put_i64(out, negative ? -(int64_t)digits : (int64_t)digits);
        return true;
    }
    if (digits > (uint64_t)1 << 53 || scale > 22 || scale < -22) {
        return wrong(t, "a float like this cannot be a default");
    }
    double value = (double)digits, power = 1;
    for (int left = scale < 0 ? -scale : scale; left > 0; left--) {
        power *= 10;
    }
    value = scale < 0 ? value / power : value * power;
    st_put_f64(out, negative ? -value : value);
    return true;
}

static bool read_default(struct text *t, st_writer *out) {
    skip_spaces(t);
    if (t->at < t->end && (*t->at == '\'' || *t->at == '"')) {
        char quote = *t->at++;
        const char *start = t->at;
        while (t->at < t->end && *t->at != quote && *t->at != '\\') {
            t->at++;
        }
        if (t->at == t->end || *t->at != quote) {
            return wrong(t, "a default text ends with its quote and has no backslash");
        }
        st_put_str(out, (st_str){start, (size_t)(t->at++ - start)});
        return true;
    }
    struct text before = *t;
    st_str name = word(t);
    if (ST_IS(name, "None")) {
        st_put_null(out);
    } else if (ST_IS(name, "True") || ST_IS(name, "False")) {
        st_put_bool(out, ST_IS(name, "True"));
    } else if (eat(t, "[]")) {
        st_put_list(out, 0);
    } else if (eat(t, "()")) {
        st_put_tuple(out, 0);
    } else if (eat(t, "{}")) {
        st_put_dict(out, 0);
    } else {
        *t = before;
        return read_number(t, out);
    }
    return true;
}

static st_str trimmed(const char *start, const char *end) {
    while (end > start && end[-1] == ' ') {
        end--;
    }
    return (st_str){start, (size_t)(end - start)};
}

static bool read_param(struct text *t, struct param *p, bool *only_by_name, st_writer *defaults) {
    p->kind = *only_by_name ? KIND_KEYWORD_ONLY : KIND_NORMAL;
    if (eat(t, "**")) {
        p->kind = KIND_KEYWORDS;
    } else if (eat(t, "*")) {
        p->kind = KIND_REST;
        *only_by_name = true;
    }
    p->name = word(t);
    if (p->name.len == 0) {
        return wrong(t, "expected a parameter's name");
    }
    p->type = ST_STR("any");
    p->base = BASE_ANY;
    if (eat(t, ":")) {
        skip_spaces(t);
        const char *start = t->at;
        enum base base = read_type(t, 0);
        if (base == BASE_UNKNOWN) {
            return false;
        }
        p->base = (uint8_t)base;
        p->type = trimmed(start, t->at);
    }
    p->default_text = (st_str){NULL, 0};
    p->default_item = (st_item){NULL, 0};
    if (eat(t, "=")) {
        if (p->kind > KIND_KEYWORD_ONLY) {
            return wrong(t, "`*` and `**` have no default");
        }
        skip_spaces(t);
        const char *start = t->at;
        size_t from = defaults->len;
        if (!read_default(t, defaults)) {
            return false;
        }
        p->default_text = trimmed(start, t->at);
        // Where it will be is not known yet, as what is written may move.
        p->default_item.len = defaults->len - from;
        if (fits(p, (st_item){defaults->ptr + from, p->default_item.len}) != FIT) {
            return wrong(t, "the default is not of the parameter's type");
        }
    }
    return true;
}

/// Reads a signature; NULL if it has a mistake, which `t` then tells.
static st_plan *read_signature(struct text *t) {
    st_plan plan = {.result = ST_STR("None")};
    struct param params[PARAMS_MAX];
    st_writer defaults = {NULL, 0, 0};

    skip_spaces(t);
    const char *start = t->at;
    while (t->at < t->end && *t->at != '(' && *t->at != ' ') {
        t->at++;
    }
    plan.name = plan.typeid = (st_str){start, (size_t)(t->at - start)};
    if (eat(t, "as ")) {
        plan.typeid = word(t);
    }
    if (plan.name.len == 0 || plan.typeid.len == 0 || !eat(t, "(")) {
        (void)wrong(t, "expected `name(parameter: type = default, …) -> type`");
        return NULL;
    }
    bool only_by_name = false;
    while (!eat(t, ")")) {
        if (plan.params_count > 0 || only_by_name) {
            if (!eat(t, ",")) {
                (void)wrong(t, "expected `,` or `)`");
                return NULL;
            }
        }
        struct text star = *t;
        if (eat(&star, "*") && !eat(&star, "*") && word(&star).len == 0) {
            if (only_by_name) {
                (void)wrong(t, "there is a second `*`");
                return NULL;
            }
            only_by_name = true;
            *t = star;
            continue;
        }
        if (plan.params_count == PARAMS_MAX) {
            (void)wrong(t, "there are more than 32 parameters");
            return NULL;
        }
        struct param *p = &params[plan.params_count];
        bool was_only_by_name = only_by_name;
        if (!read_param(t, p, &only_by_name, &defaults)) {
            return NULL;
        }
        if (p->kind == KIND_REST && was_only_by_name) {
            (void)wrong(t, "there is a second `*`");
        }
        for (uint8_t at = 0; at < plan.params_count; at++) {
            if (params[at].kind == KIND_KEYWORDS) {
                (void)wrong(t, "nothing follows `**`");
            } else if (st_str_equal(params[at].name, p->name)) {
                (void)wrong(t, "there are two parameters of this name");
            } else if (p->kind == KIND_NORMAL && p->default_text.ptr == NULL && params[at].default_text.ptr != NULL) {
                (void)wrong(t, "a parameter without default follows one with a default");
            }
        }
        if (t->error != NULL) {
            return NULL;
        }
        plan.params_count++;
        plan.positional = (uint8_t)(plan.positional + (p->kind == KIND_NORMAL));
    }
    if (eat(t, "->")) {
        skip_spaces(t);
        start = t->at;
        if (read_type(t, 0) == BASE_UNKNOWN) {
            return NULL;
        }
        plan.result = trimmed(start, t->at);
    } else if (eat(t, "=>")) {
        plan.returns = word(t);
        plan.result = ST_STR("proxy");
        if (plan.returns.len == 0) {
            (void)wrong(t, "expected the name of a type");
            return NULL;
        }
    }
    skip_spaces(t);
    if (t->at != t->end) {
        (void)wrong(t, "expected the end");
        return NULL;
    }
    size_t params_bytes = plan.params_count * sizeof(struct param);
    st_plan *made = st_alloc(sizeof plan + params_bytes + defaults.len);
    memcpy(made, &plan, sizeof plan);
    made->rest = made->keywords = plan.params_count;
    memcpy(made->params, params, params_bytes);
    uint8_t *items = (uint8_t *)made->params + params_bytes;
    if (defaults.len > 0) {
        memcpy(items, defaults.ptr, defaults.len);
    }
    for (uint8_t at = 0; at < plan.params_count; at++) {
        struct param *p = &made->params[at];
        if (p->default_text.ptr != NULL) {
            p->default_item.ptr = items;
            items += p->default_item.len;
        }
        made->rest = p->kind == KIND_REST ? at : made->rest;
        made->keywords = p->kind == KIND_KEYWORDS ? at : made->keywords;
    }
    return made;
}

/// A type as people read it: the widths are C's.
static st_str shown_type(st_str type) {
    st_writer out = {NULL, 0, 0};
    struct text t = {type.ptr, type.ptr + type.len, NULL};
    while (t.at < t.end) {
        const char *before = t.at;
        st_str name = *t.at == ' ' ? (st_str){t.at, 0} : word(&t);
        enum base base = base_of(name);
        if (name.len == 0) {
            t.at = before + 1;
            st__put_raw(&out, before, 1);
        } else if (base == BASE_U64 || base == BASE_U32) {
            st__put_raw(&out, "int", 3);
        } else {
            st__put_raw(&out, name.ptr, name.len);
        }
    }
    return (st_str){(const char *)out.ptr, out.len};
}

/// The name of an item's type in Python.
static const char *python_type(st_item item) {
    switch (st_kind_of(item)) {
    case ST_KIND_MALFORMED:
        return "malformed";
    case ST_KIND_NULL:
        return "NoneType";
    case ST_KIND_BOOL:
        return "bool";
    case ST_KIND_INT:
    case ST_KIND_BIG_INT:
        return "int";
    case ST_KIND_FLOAT:
        return "float";
    case ST_KIND_STR:
        return "str";
    case ST_KIND_BYTES:
        return "bytes";
    case ST_KIND_BYTE_ARRAY:
        return "bytearray";
    case ST_KIND_LIST:
        return "list";
    case ST_KIND_TUPLE:
        return "tuple";
    case ST_KIND_SET:
        return "set";
    case ST_KIND_FROZEN_SET:
        return "frozenset";
    case ST_KIND_DICT:
        return "dict";
    case ST_KIND_TOKEN:
        return "a proxy";
    case ST_KIND_OTHER:
        break;
    }
    return "another type";
}

// Items (RFC 8949) in the dialect of docs/protocol.md, read and written by hand.
//
// A reader believes nothing: a length is compared with what is left before it is used, and no depth is recursed into.

static st_str text_of(const char *text) { return (st_str){text, strlen(text)}; }

bool st_str_equal(st_str a, st_str b) { return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0); }

bool st_item_equal(st_item a, st_item b) { return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0); }

st_reader st_read(st_item item) {
    static const uint8_t nothing;
    return item.ptr == NULL ? (st_reader){&nothing, &nothing} : (st_reader){item.ptr, item.ptr + item.len};
}

static size_t left(const st_reader *reader) { return (size_t)(reader->end - reader->at); }

static bool fail(st_reader *reader) {
    reader->at = NULL;
    return false;
}

static bool st__head(st_reader *reader, struct head *head) {
    if (reader->at == NULL || reader->at == reader->end) {
        return fail(reader);
    }
    uint8_t first = *reader->at++;
    uint8_t low = first & 0x1f;
    head->major = (uint8_t)(first >> 5);
    head->width = 0;
    head->argument = low;
    if (low < 24) {
        return true;
    }
    // 28 to 30 are reserved; 31 is an indefinite length, which the dialect does not have.
    if (low > 27 || left(reader) < (size_t)1 << (low - 24)) {
        return fail(reader);
    }
    head->width = (uint8_t)(1u << (low - 24));
    head->argument = 0;
    for (uint8_t at = 0; at < head->width; at++) {
        head->argument = head->argument << 8 | *reader->at++;
    }
    return true;
}

bool st_read_end(const st_reader *reader) { return reader->at != NULL && reader->at == reader->end; }

/// Takes bytes, as many as a head has said.
static bool take(st_reader *reader, uint64_t count, const uint8_t **bytes) {
    if (reader->at == NULL || count > left(reader)) {
        return fail(reader);
    }
    *bytes = reader->at;
    reader->at += (size_t)count;
    return true;
}

static st_kind kind_of(struct head head) {
    switch (head.major) {
    case 0:
        return ST_KIND_INT;
    case 1:
        return head.argument > INT64_MAX ? ST_KIND_BIG_INT : ST_KIND_INT;
    case 2:
        return ST_KIND_BYTES;
    case 3:
        return ST_KIND_STR;
    case 4:
        return ST_KIND_LIST;
    case 5:
        return ST_KIND_DICT;
    case 6:
        switch (head.argument) {
        case TAG_BIG:
        case TAG_BIG_NEGATIVE:
            return ST_KIND_BIG_INT;
        case TAG_SET:
            return ST_KIND_SET;
        case TAG_TUPLE:
            return ST_KIND_TUPLE;
        case TAG_FROZEN_SET:
            return ST_KIND_FROZEN_SET;
        case TAG_BYTE_ARRAY:
            return ST_KIND_BYTE_ARRAY;
        case TAG_TOKEN:
            return ST_KIND_TOKEN;
        default:
            return ST_KIND_OTHER;
        }
    default:
        if (head.width >= 2) {
            return ST_KIND_FLOAT;
        }
        if (head.width == 0 && (head.argument == 20 || head.argument == 21)) {
            return ST_KIND_BOOL;
        }
        return head.width == 0 && head.argument == 22 ? ST_KIND_NULL : ST_KIND_MALFORMED;
    }
}

st_kind st_read_kind(const st_reader *reader) {
    st_reader ahead = *reader;
    struct head head;
    return st__head(&ahead, &head) ? kind_of(head) : ST_KIND_MALFORMED;
}

st_kind st_kind_of(st_item item) {
    st_reader reader = st_read(item);
    return st_read_kind(&reader);
}

bool st_read_null(st_reader *reader) {
    if (reader->at == NULL || reader->at == reader->end || *reader->at != 0xf6) {
        return false;
    }
    reader->at++;
    return true;
}

bool st_read_bool(st_reader *reader, bool *value) {
    struct head head;
    if (!st__head(reader, &head) || kind_of(head) != ST_KIND_BOOL) {
        return fail(reader);
    }
    *value = head.argument == 21;
    return true;
}

/// Reads an integer as `-1 - argument` or `argument`.
static bool read_int(st_reader *reader, bool *negative, uint64_t *argument) {
    struct head head;
    if (!st__head(reader, &head)) {
        return false;
    }
    st_kind kind = kind_of(head);
    if (kind != ST_KIND_BOOL && head.major > 1) {
        return fail(reader);
    }
    *negative = head.major == 1;
    *argument = kind == ST_KIND_BOOL ? head.argument - 20 : head.argument;
    return true;
}

bool st_read_i64(st_reader *reader, int64_t *value) {
    bool negative;
    uint64_t argument;
    if (!read_int(reader, &negative, &argument) || argument > INT64_MAX) {
        return fail(reader);
    }
    *value = negative ? -1 - (int64_t)argument : (int64_t)argument;
    return true;
}

bool st_read_u64(st_reader *reader, uint64_t *value) {
    bool negative;
    uint64_t argument;
    if (!read_int(reader, &negative, &argument) || negative) {
        return fail(reader);
    }
    *value = argument;
    return true;
}

bool st_read_u32(st_reader *reader, uint32_t *value) {
    uint64_t wide;
    if (!st_read_u64(reader, &wide) || wide > UINT32_MAX) {
        return fail(reader);
    }
    *value = (uint32_t)wide;
    return true;
}

static double f64_of_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool f64_of(struct head head, double *value) {
    if (head.major < 2) {
        *value = head.major == 0 ? (double)head.argument : -1.0 - (double)head.argument;
        return true;
    }
    if (head.major != 7 || head.width < 2) {
        return false;
    }
    if (head.width == 8) {
        *value = f64_of_bits(head.argument);
    } else if (head.width == 4) {
        uint32_t bits = (uint32_t)head.argument;
        float single;
        memcpy(&single, &bits, sizeof single);
        *value = (double)single;
    } else {
        // A half: sign, 5 bits of exponent, 10 of mantissa, put where a double has them.
        uint64_t sign = head.argument >> 15 << 63, exponent = head.argument >> 10 & 31, mantissa = head.argument & 1023;
        if (exponent == 0) {
            *value = (double)mantissa * 0x1p-24 * (sign != 0 ? -1.0 : 1.0);
        } else {
            exponent = exponent == 31 ? 2047 : exponent + 1023 - 15;
            *value = f64_of_bits(sign | exponent << 52 | mantissa << 42);
        }
    }
    return true;
}

bool st_read_f64(st_reader *reader, double *value) {
    struct head head;
    return st__head(reader, &head) && (f64_of(head, value) || fail(reader));
}

bool st_read_str(st_reader *reader, st_str *value) {
    struct head head;
    const uint8_t *bytes;
    if (!st__head(reader, &head) || head.major != 3 || !take(reader, head.argument, &bytes)) {
        return fail(reader);
    }
    *value = (st_str){(const char *)bytes, (size_t)head.argument};
    return true;
}

bool st_read_bytes(st_reader *reader, st_bytes *value) {
    struct head head;
    const uint8_t *bytes;
    if (!st__head(reader, &head)) {
        return false;
    }
    if (kind_of(head) == ST_KIND_BYTE_ARRAY && !st__head(reader, &head)) {
        return false;
    }
    if (head.major != 2 || !take(reader, head.argument, &bytes)) {
        return fail(reader);
    }
    *value = (st_bytes){bytes, (size_t)head.argument};
    return true;
}

bool st_read_list(st_reader *reader, size_t *count) {
    struct head head;
    if (!st__head(reader, &head)) {
        return false;
    }
    st_kind kind = kind_of(head);
    if ((kind == ST_KIND_TUPLE || kind == ST_KIND_SET || kind == ST_KIND_FROZEN_SET) && !st__head(reader, &head)) {
        return false;
    }
    // Each item takes a byte at least, so that nobody counts to a number that cannot be true.
    if (head.major != 4 || head.argument > left(reader)) {
        return fail(reader);
    }
    *count = (size_t)head.argument;
    return true;
}

bool st_read_dict(st_reader *reader, size_t *count) {
    struct head head;
    if (!st__head(reader, &head) || head.major != 5 || head.argument > left(reader) / 2) {
        return fail(reader);
    }
    *count = (size_t)head.argument;
    return true;
}

bool st_read_item(st_reader *reader, st_item *item) {
    const uint8_t *start = reader->at;
    const uint8_t *skipped;
    // How many items are left at each depth.
    uint64_t open[DEPTH_MAX + 1];
    size_t depth = 0;
    bool in_tag = false;
    open[0] = 1;
    for (;;) {
        struct head head;
        if (!st__head(reader, &head)) {
            return false;
        }
        if (!in_tag) {
            open[depth]--;
        }
        uint64_t inside = 0;
        in_tag = false;
        switch (head.major) {
        case 2:
        case 3:
            if (!take(reader, head.argument, &skipped)) {
                return false;
            }
            break;
        case 4:
            inside = head.argument;
            break;
        case 5:
            inside = head.argument > left(reader) ? UINT64_MAX : 2 * head.argument;
            break;
        case 6:
            // As deep as what it carries.
            in_tag = true;
            continue;
        default:
            if (kind_of(head) == ST_KIND_MALFORMED) {
                return fail(reader);
            }
        }
        if (inside > left(reader)) {
            return fail(reader);
        }
        if (head.major == 4 || head.major == 5) {
            if (depth == DEPTH_MAX) {
                return fail(reader);
            }
            open[++depth] = inside;
        }
        while (open[depth] == 0) {
            if (depth == 0) {
                *item = (st_item){start, (size_t)(reader->at - start)};
                return true;
            }
            depth--;
        }
    }
}

static void st__put_raw(st_writer *out, const void *bytes, size_t count) {
    if (count > out->capacity - out->len) {
        size_t capacity = out->capacity == 0 ? 16 : 2 * out->capacity;
        capacity = capacity < out->len + count ? out->len + count : capacity;
        out->ptr = st__arena_grow(out->ptr, out->capacity, capacity);
        out->capacity = capacity;
    }
    uint8_t *to = out->ptr + out->len;
    const uint8_t *from = bytes;
    out->len += count;
    if (count > 64) {
        memcpy(to, from, count);
        return;
    }
    // In a guest a copy of unknown length is a call of the host's: for a few bytes, more than they are worth.
    for (; count >= 8; count -= 8, to += 8, from += 8) {
        memcpy(to, from, 8);
    }
    for (; count > 0; count--) {
        *to++ = *from++;
        // Or the compiler makes one of this loop.
        __asm__ volatile("" ::: "memory");
    }
}

static void st__put_head(st_writer *out, uint8_t major, uint64_t argument) {
    uint8_t bytes[9];
    uint8_t width = argument < 24 ? 0 : argument <= UINT8_MAX ? 1 : argument <= UINT16_MAX ? 2 : argument <= UINT32_MAX ? 4 : 8;
    uint8_t low = width == 0 ? (uint8_t)argument : width == 1 ? 24 : width == 2 ? 25 : width == 4 ? 26 : 27;
    bytes[0] = (uint8_t)(major << 5 | low);
    for (uint8_t at = width; at > 0; at--) {
        bytes[at] = (uint8_t)argument;
        argument >>= 8;
    }
    st__put_raw(out, bytes, (size_t)width + 1);
}

static void put_byte(st_writer *out, uint8_t byte) { st__put_raw(out, &byte, 1); }

void st_put_null(st_writer *out) { put_byte(out, 0xf6); }

void st_put_bool(st_writer *out, bool value) { put_byte(out, value ? 0xf5 : 0xf4); }

void st_put_i64(st_writer *out, int64_t value) {
    if (value >= 0) {
        st__put_head(out, 0, (uint64_t)value);
    } else {
        st__put_head(out, 1, ~(uint64_t)value);
    }
}

void st_put_u64(st_writer *out, uint64_t value) { st__put_head(out, 0, value); }

void st_put_f64(st_writer *out, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint8_t bytes[9] = {0xfb};
    for (int at = 8; at > 0; at--) {
        bytes[at] = (uint8_t)bits;
        bits >>= 8;
    }
    st__put_raw(out, bytes, sizeof bytes);
}

void st_put_str(st_writer *out, st_str value) {
    st__put_head(out, 3, value.len);
    st__put_raw(out, value.ptr, value.len);
}

void st_put_text(st_writer *out, const char *value) { st_put_str(out, text_of(value)); }

void st_put_bytes(st_writer *out, st_bytes value) {
    st__put_head(out, 2, value.len);
    st__put_raw(out, value.ptr, value.len);
}

void st_put_list(st_writer *out, size_t count) { st__put_head(out, 4, count); }

void st_put_tuple(st_writer *out, size_t count) {
    st__put_head(out, 6, TAG_TUPLE);
    st__put_head(out, 4, count);
}

void st_put_dict(st_writer *out, size_t count) { st__put_head(out, 5, count); }

void st_put_args(st_writer *out, size_t count) {
    st__put_head(out, 4, 2);
    st__put_head(out, 4, count);
}

void st_put_item(st_writer *out, st_item item) {
    if (item.len == 0) {
        st_put_null(out);
    } else {
        st__put_raw(out, item.ptr, item.len);
    }
}

st_item st_written(const st_writer *out) { return (st_item){out->ptr, out->len}; }

/// Reads what stands behind a token's tag: `[typeid, ident, address or null]`.
static bool read_token_body(st_reader *reader, st_token *token) {
    struct head head;
    if (!st__head(reader, &head) || head.major != 4 || head.argument != 3) {
        return fail(reader);
    }
    token->address = (st_str){NULL, 0};
    if (!st_read_str(reader, &token->typeid) || !st__head(reader, &head) || head.major != 0) {
        return fail(reader);
    }
    token->ident = head.argument;
    return st_read_null(reader) || st_read_str(reader, &token->address);
}

bool st_token_of(st_item item, st_token *token) {
    st_reader reader = st_read(item);
    struct head head;
    st_token found;
    if (!st__head(&reader, &head) || kind_of(head) != ST_KIND_TOKEN || !read_token_body(&reader, &found)) {
        return false;
    }
    *token = found;
    return true;
}

/// What came to be held and was let go in this step. Of the step, so in the arena: both end with it.
static struct idents {
    uint64_t *at;
    size_t count, capacity;
} tokens_held, tokens_let_go;

static void note_token(struct idents *idents, uint64_t ident) {
    idents->at = st__room(idents->at, idents->count, &idents->capacity, sizeof ident);
    idents->at[idents->count++] = ident;
}

/// Notes the tokens in an item that name objects of this host; whether there are any.
static bool note_tokens(st_any any, struct idents *idents) {
    const uint8_t *ptr = any.ptr;
    size_t len = any.len;
    // However wide the tag's argument is, it ends like this: most items are through here.
    const uint8_t *found = ptr, *end = ptr + len;
    do {
        found = len == 0 ? NULL : memchr(found, TAG_TOKEN >> 8, (size_t)(end - found));
        if (found == NULL || ++found == end) {
            return false;
        }
    } while (*found != (TAG_TOKEN & 0xff));

    st_reader reader = {ptr, end};
    bool found_any = false;
    while (reader.at != NULL && reader.at != reader.end) {
        struct head head;
        const uint8_t *skipped;
        if (!st__head(&reader, &head)) {
            break;
        }
        if (head.major == 2 || head.major == 3) {
            (void)take(&reader, head.argument, &skipped);
        } else if (kind_of(head) == ST_KIND_TOKEN) {
            st_token token;
            if (read_token_body(&reader, &token) && token.address.ptr == NULL) {
                found_any = true;
                note_token(idents, token.ident);
            }
        }
    }
    return found_any;
}

st_any st_keep(st_item item) {
    if (item.len == 0) {
        return (st_any){NULL, 0, false};
    }
    if (item.len > UINT32_MAX) {
        st__die("an item of more than 4 GiB cannot be kept");
    }
    st_any any = {st_alloc(item.len), (uint32_t)item.len, false};
    memcpy(any.ptr, item.ptr, item.len);
    any.tokens = note_tokens(any, &tokens_held);
    return any;
}

void st_forget(st_any *any) {
    if (any->tokens) {
        (void)note_tokens(*any, &tokens_let_go);
    }
    free(any->ptr);
    *any = (st_any){NULL, 0, false};
}

st_item st_item_of(const st_any *any) {
    static const uint8_t null = 0xf6;
    return any->ptr == NULL ? (st_item){&null, 1} : (st_item){any->ptr, any->len};
}

/// Orders idents: heap sort, since there may be 65,536 in one step, chosen by a peer.
static void sort_idents(uint64_t *idents, size_t count) {
    for (size_t end = count, start = count / 2; end > 1;) {
        if (start > 0) {
            start--;
        } else {
            end--;
            uint64_t first = idents[0];
            idents[0] = idents[end];
            idents[end] = first;
        }
        size_t at = start;
        for (;;) {
            size_t child = 2 * at + 1;
            if (child >= end) {
                break;
            }
            if (child + 1 < end && idents[child] < idents[child + 1]) {
                child++;
            }
            if (idents[at] >= idents[child]) {
                break;
            }
            uint64_t parent = idents[at];
            idents[at] = idents[child];
            idents[child] = parent;
            at = child;
        }
    }
}

/// Takes out of both lists what only passed through.
NOINLINE static void settle_both(void) {
    sort_idents(tokens_held.at, tokens_held.count);
    sort_idents(tokens_let_go.at, tokens_let_go.count);
    size_t held = 0, let_go = 0, held_kept = 0, let_go_kept = 0;
    while (held < tokens_held.count && let_go < tokens_let_go.count) {
        uint64_t a = tokens_held.at[held], b = tokens_let_go.at[let_go];
        if (a == b) {
            held++, let_go++;
        } else if (a < b) {
            tokens_held.at[held_kept++] = tokens_held.at[held++];
        } else {
            tokens_let_go.at[let_go_kept++] = tokens_let_go.at[let_go++];
        }
    }
    while (held < tokens_held.count) {
        tokens_held.at[held_kept++] = tokens_held.at[held++];
    }
    while (let_go < tokens_let_go.count) {
        tokens_let_go.at[let_go_kept++] = tokens_let_go.at[let_go++];
    }
    tokens_held.count = held_kept;
    tokens_let_go.count = let_go_kept;
}

static inline void settle_tokens(void) {
    if (tokens_held.count > 0 && tokens_let_go.count > 0) {
        settle_both();
    }
}

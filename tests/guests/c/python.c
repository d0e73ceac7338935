// What Python takes for one key, and how it shows values.
//
// Of decimals, complex numbers, dates, frozen sets and what is opaque, only those of one encoding are one key here: the native dict compares them
// as Python does.

#include "guests.h"

static st_answer unhashable(st_call *call, const char *type) {
    return st_raise(call, "TypeError", "unhashable type: '%s'", type);
}

static void put_byte(st_writer *out, uint8_t byte) { st_put_item(out, (st_item){&byte, 1}); }

/// An integer of any size by its big-endian digits: as short as it goes, so that each has one form.
static void put_magnitude(st_writer *out, bool negative, const uint8_t *digits, size_t count) {
    while (count > 0 && *digits == 0) {
        digits++, count--;
    }
    uint64_t small = 0;
    for (size_t at = 0; at < count && count <= 8; at++) {
        small = small << 8 | digits[at];
    }
    if (count <= 8 && (!negative || small <= (uint64_t)INT64_MAX)) {
        if (negative) {
            st_put_i64(out, -(int64_t)small);
        } else {
            st_put_u64(out, small);
        }
        return;
    }
    put_byte(out, 0xff);
    put_byte(out, negative ? 'm' : 'p');
    st_put_bytes(out, (st_bytes){digits, count});
}

/// The digits of a large integer and its sign: of tags 2 and 3, or below -2^63.
static bool read_big(st_item item, bool *negative, uint8_t **digits, size_t *count) {
    uint8_t first = item.ptr[0];
    *negative = first == 0xc3 || first >> 5 == 1;
    uint64_t argument = 0;
    st_bytes bytes;
    if (first >> 5 == 1) {
        for (size_t at = 1; at < item.len; at++) {
            argument = argument << 8 | item.ptr[at];
        }
        *count = 9;
        *digits = st_alloc(*count);
        for (size_t at = 0; at < 8; at++) {
            (*digits)[8 - at] = (uint8_t)(argument >> 8 * at);
        }
    } else {
        // A tag in one byte, as everybody writes it; behind it stands a byte string.
        st_reader reader = st_read((st_item){item.ptr + 1, item.len - 1});
        if (!st_read_bytes(&reader, &bytes)) {
            return false;
        }
        *count = bytes.len + 1;
        *digits = st_alloc(*count);
        memcpy(*digits + 1, bytes.ptr, bytes.len);
    }
    // -1 - n is minus one more than n.
    for (size_t at = *count; *negative && at > 0 && ++(*digits)[at - 1] == 0; at--) {
    }
    return true;
}

static st_answer float_key(double value, st_writer *out, bool *findable) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 52 & 2047) - 1075;
    uint64_t mantissa = (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1 << 52;
    if (value != value) {
        *findable = false;
        return ST_DONE;
    }
    bool is_whole = value == 0 || (exponent < 972 && exponent >= 0) ||
                    (exponent < 0 && exponent > -53 && (mantissa & (((uint64_t)1 << -exponent) - 1)) == 0);
    if (!is_whole) {
        put_byte(out, 0xff);
        put_byte(out, 'f');
        st_put_f64(out, value);
        return ST_DONE;
    }
    // At most 1024 bits.
    uint8_t digits[136] = {0};
    mantissa = value == 0 ? 0 : exponent < 0 ? mantissa >> -exponent : mantissa;
    int shift = exponent < 0 ? 0 : exponent;
    for (int bit = 0; bit < 53; bit++) {
        if (mantissa >> bit & 1) {
            int at = bit + shift;
            digits[135 - at / 8] |= (uint8_t)(1 << at % 8);
        }
    }
    put_magnitude(out, value < 0, digits, sizeof digits);
    return ST_DONE;
}

st_answer key_of(st_call *call, st_item item, st_writer *out, bool *findable) {
    st_reader reader = st_read(item);
    uint64_t natural;
    int64_t whole;
    double number;
    st_str text;
    st_bytes bytes;
    size_t count;
    switch (st_kind_of(item)) {
    case ST_KIND_BOOL:
    case ST_KIND_INT:
        if (item.ptr[0] >> 5 == 1) {
            if (st_read_i64(&reader, &whole)) {
                st_put_i64(out, whole);
            }
        } else if (st_read_u64(&reader, &natural)) {
            st_put_u64(out, natural);
        }
        return ST_DONE;
    case ST_KIND_BIG_INT: {
        bool negative;
        uint8_t *digits;
        if (read_big(item, &negative, &digits, &count)) {
            put_magnitude(out, negative, digits, count);
            free(digits);
        }
        return ST_DONE;
    }
    case ST_KIND_FLOAT:
        return st_read_f64(&reader, &number) ? float_key(number, out, findable) : ST_DONE;
    case ST_KIND_STR:
        if (st_read_str(&reader, &text)) {
            st_put_str(out, text);
        }
        return ST_DONE;
    case ST_KIND_BYTES:
        if (st_read_bytes(&reader, &bytes)) {
            st_put_bytes(out, bytes);
        }
        return ST_DONE;
    case ST_KIND_NULL:
        st_put_null(out);
        return ST_DONE;
    case ST_KIND_TUPLE:
        if (st_read_list(&reader, &count)) {
            put_byte(out, 0xff);
            put_byte(out, 't');
            st_put_u64(out, count);
            st_item part;
            // An item nests at most 32 deep, so this does.
            while (st_read_item(&reader, &part)) {
                if (key_of(call, part, out, findable) == ST_RAISED) {
                    return ST_RAISED;
                }
            }
        }
        return ST_DONE;
    case ST_KIND_LIST:
        return unhashable(call, "list");
    case ST_KIND_DICT:
        return unhashable(call, "dict");
    case ST_KIND_SET:
        return unhashable(call, "set");
    case ST_KIND_BYTE_ARRAY:
        return unhashable(call, "bytearray");
    case ST_KIND_FROZEN_SET:
    case ST_KIND_TOKEN:
    case ST_KIND_OTHER:
    case ST_KIND_MALFORMED:
        break;
    }
    put_byte(out, 0xff);
    put_byte(out, 'o');
    st_put_bytes(out, (st_bytes){item.ptr, item.len});
    return ST_DONE;
}

static void put_text(st_writer *out, const char *text) {
    if (*text != 0) {
        st_put_item(out, (st_item){(const uint8_t *)text, strlen(text)});
    }
}

static void put_quoted(st_writer *out, const char *ptr, size_t len, bool is_bytes) {
    bool has_single = len > 0 && memchr(ptr, '\'', len) != NULL, has_double = len > 0 && memchr(ptr, '"', len) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    put_byte(out, (uint8_t)quote);
    for (size_t at = 0; at < len; at++) {
        uint8_t byte = (uint8_t)ptr[at];
        char escape[8];
        if (byte == '\n' || byte == '\r' || byte == '\t') {
            put_text(out, byte == '\n' ? "\\n" : byte == '\r' ? "\\r" : "\\t");
        } else if (byte == '\\' || byte == (uint8_t)quote) {
            put_byte(out, '\\');
            put_byte(out, byte);
        } else if (byte < ' ' || byte == 127 || (is_bytes && byte > 127)) {
            st_text_format(escape, sizeof escape, byte < 16 ? "\\x0%x" : "\\x%x", (unsigned)byte);
            put_text(out, escape);
        } else {
            put_byte(out, byte);
        }
    }
    put_byte(out, (uint8_t)quote);
}

/// Large integers in decimal, by dividing by ten as often as it has digits.
static void put_big(st_writer *out, st_item item) {
    bool negative;
    uint8_t *digits;
    size_t count;
    if (!read_big(item, &negative, &digits, &count)) {
        return;
    }
    // 4 bytes have less than 10 digits.
    size_t size = count * 3 + 2, at = size;
    char *text = st_alloc(size);
    for (size_t start = 0; start < count;) {
        unsigned rest = 0;
        for (size_t digit = start; digit < count; digit++) {
            rest = rest << 8 | digits[digit];
            digits[digit] = (uint8_t)(rest / 10);
            rest %= 10;
        }
        text[--at] = (char)('0' + rest);
        while (start < count && digits[start] == 0) {
            start++;
        }
    }
    if (negative) {
        text[--at] = '-';
    }
    st_put_item(out, (st_item){(const uint8_t *)text + at, size - at});
    free(text);
    free(digits);
}

static void put_parts(st_writer *out, st_reader *reader, size_t count, const char *open, const char *close, bool are_pairs) {
    put_text(out, open);
    st_item item;
    for (size_t at = 0; at < count; at++) {
        put_text(out, at > 0 ? ", " : "");
        if (st_read_item(reader, &item)) {
            put_repr(out, item);
        }
        if (are_pairs && st_read_item(reader, &item)) {
            put_text(out, ": ");
            put_repr(out, item);
        }
    }
    put_text(out, close);
}

void put_repr(st_writer *out, st_item item) {
    st_reader reader = st_read(item);
    char digits[ST_F64_TEXT];
    int64_t whole;
    uint64_t natural;
    double number;
    bool truth;
    st_str text;
    st_bytes bytes;
    size_t count;
    switch (st_kind_of(item)) {
    case ST_KIND_NULL:
        put_text(out, "None");
        return;
    case ST_KIND_BOOL:
        put_text(out, st_read_bool(&reader, &truth) && truth ? "True" : "False");
        return;
    case ST_KIND_INT:
        if (item.ptr[0] >> 5 == 1 && st_read_i64(&reader, &whole)) {
            st_text_format(digits, sizeof digits, "%lld", (long long)whole);
        } else if (st_read_u64(&reader, &natural)) {
            st_text_format(digits, sizeof digits, "%llu", (unsigned long long)natural);
        }
        put_text(out, digits);
        return;
    case ST_KIND_BIG_INT:
        put_big(out, item);
        return;
    case ST_KIND_FLOAT:
        if (st_read_f64(&reader, &number)) {
            put_text(out, st_f64_text(digits, number));
        }
        return;
    case ST_KIND_STR:
        if (st_read_str(&reader, &text)) {
            put_quoted(out, text.ptr, text.len, false);
        }
        return;
    case ST_KIND_BYTES:
    case ST_KIND_BYTE_ARRAY:
        if (st_read_bytes(&reader, &bytes)) {
            bool is_bytes = st_kind_of(item) == ST_KIND_BYTES;
            put_text(out, is_bytes ? "b" : "bytearray(b");
            put_quoted(out, (const char *)bytes.ptr, bytes.len, true);
            put_text(out, is_bytes ? "" : ")");
        }
        return;
    case ST_KIND_LIST:
        if (st_read_list(&reader, &count)) {
            put_parts(out, &reader, count, "[", "]", false);
        }
        return;
    case ST_KIND_TUPLE:
        if (st_read_list(&reader, &count)) {
            put_parts(out, &reader, count, "(", count == 1 ? ",)" : ")", false);
        }
        return;
    case ST_KIND_SET:
        if (st_read_list(&reader, &count)) {
            put_parts(out, &reader, count, count == 0 ? "set(" : "{", count == 0 ? ")" : "}", false);
        }
        return;
    case ST_KIND_FROZEN_SET:
        if (st_read_list(&reader, &count)) {
            put_parts(out, &reader, count, count == 0 ? "frozenset(" : "frozenset({", count == 0 ? ")" : "})", false);
        }
        return;
    case ST_KIND_DICT:
        if (st_read_dict(&reader, &count)) {
            put_parts(out, &reader, count, "{", "}", true);
        }
        return;
    case ST_KIND_TOKEN:
    case ST_KIND_OTHER:
    case ST_KIND_MALFORMED:
        break;
    }
    put_text(out, "<value>");
}

// Text for people: what st_raise() and st_log() write, without libc's printf, which would be larger than all the rest.

static void put_decimal(st_writer *out, uint64_t value, bool negative, unsigned radix) {
    char digits[21];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[value % radix];
        value /= radix;
    } while (value > 0);
    if (negative) {
        digits[--at] = '-';
    }
    st__put_raw(out, digits + at, sizeof digits - at);
}

static void put_formatted(st_writer *out, const char *format, va_list args) {
    for (; *format != 0; format++) {
        if (*format != '%') {
            st__put_raw(out, format, 1);
            continue;
        }
        format++;
        int precision = -1;
        if (format[0] == '.' && format[1] == '*') {
            precision = va_arg(args, int);
            format += 2;
        }
        // 0: int, 1: long, 2: long long, 3: size_t.
        int size = 0;
        for (; *format == 'l'; format++) {
            size++;
        }
        if (*format == 'z') {
            size = 3;
            format++;
        }
        switch (*format) {
        case 'd':
        case 'i': {
            long long value = size == 0   ? va_arg(args, int)
                              : size == 1 ? va_arg(args, long)
                              : size == 2 ? va_arg(args, long long)
                                          : (long long)va_arg(args, size_t);
            put_decimal(out, value < 0 ? ~(uint64_t)value + 1 : (uint64_t)value, value < 0, 10);
            break;
        }
        case 'u':
        case 'x': {
            unsigned long long value = size == 0   ? va_arg(args, unsigned)
                                       : size == 1 ? va_arg(args, unsigned long)
                                       : size == 2 ? va_arg(args, unsigned long long)
                                                   : va_arg(args, size_t);
            put_decimal(out, value, false, *format == 'x' ? 16 : 10);
            break;
        }
        case 'c': {
            char one = (char)va_arg(args, int);
            st__put_raw(out, &one, 1);
            break;
        }
        case 's': {
            const char *text = va_arg(args, const char *);
            size_t len = 0;
            while (precision < 0 ? text[len] != 0 : len < (size_t)precision) {
                len++;
            }
            st__put_raw(out, text, len);
            break;
        }
        case '%':
            st__put_raw(out, "%", 1);
            break;
        default:
            st__die("a format knows %s, %.*s, %c, %d, %u, %x with l, ll, z, and %%");
        }
    }
}

// The shortest digits of a float, by exact arithmetic on large integers (Steele and White, 1990; Burger and Dybvig, 1996): slow, small,
// and right for every double.

enum { BIG_WORDS = 36 };
struct big {
    uint32_t words[BIG_WORDS];
    int count;
};

static void big_multiply(struct big *n, uint32_t by) {
    uint64_t carry = 0;
    for (int at = 0; at < n->count; at++) {
        carry += (uint64_t)n->words[at] * by;
        n->words[at] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry > 0) {
        n->words[n->count++] = (uint32_t)carry;
    }
}

static void big_shift(struct big *n, int bits) {
    for (; bits >= 31; bits -= 31) {
        big_multiply(n, 1u << 31);
    }
    big_multiply(n, 1u << bits);
}

static int big_compare(const struct big *a, const struct big *b) {
    if (a->count != b->count) {
        return a->count < b->count ? -1 : 1;
    }
    for (int at = a->count - 1; at >= 0; at--) {
        if (a->words[at] != b->words[at]) {
            return a->words[at] < b->words[at] ? -1 : 1;
        }
    }
    return 0;
}

static void big_add(struct big *a, const struct big *b) {
    uint64_t carry = 0;
    for (int at = 0; at < b->count || carry > 0; at++) {
        if (at == a->count) {
            a->words[a->count++] = 0;
        }
        carry += (uint64_t)a->words[at] + (at < b->count ? b->words[at] : 0);
        a->words[at] = (uint32_t)carry;
        carry >>= 32;
    }
}

/// `a` is not less than `b`.
static void big_subtract(struct big *a, const struct big *b) {
    uint64_t borrow = 0;
    for (int at = 0; at < a->count; at++) {
        uint64_t taken = (at < b->count ? b->words[at] : 0) + borrow;
        borrow = a->words[at] < taken;
        a->words[at] = (uint32_t)(a->words[at] - taken);
    }
    while (a->count > 0 && a->words[a->count - 1] == 0) {
        a->count--;
    }
}

static struct big big_of(uint64_t value) {
    struct big n = {.words = {(uint32_t)value, (uint32_t)(value >> 32)}};
    n.count = value == 0 ? 0 : value >> 32 == 0 ? 1 : 2;
    return n;
}

/// The digits of a positive finite double, and where its point is: 0.d1d2d3… × 10^point. Returns how many.
static int shortest(double value, char digits[18], int *point) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 52 & 2047);
    uint64_t mantissa = bits & (((uint64_t)1 << 52) - 1);
    bool is_power = mantissa == 0 && exponent > 1;
    mantissa |= exponent > 0 ? (uint64_t)1 << 52 : 0;
    exponent = (exponent > 0 ? exponent : 1) - 1075;
    // Halfway to its neighbours belongs to an even mantissa.
    bool inclusive = mantissa % 2 == 0;

    // value = r / s; the gaps to its neighbours are m_up / s and m_down / s, halved.
    struct big r = big_of(mantissa), s = big_of(1), m_up = big_of(1), m_down = big_of(1);
    int shift = is_power ? 2 : 1;
    big_shift(&r, shift + (exponent > 0 ? exponent : 0));
    big_shift(&s, shift + (exponent < 0 ? -exponent : 0));
    big_shift(&m_up, (is_power ? 1 : 0) + (exponent > 0 ? exponent : 0));
    big_shift(&m_down, exponent > 0 ? exponent : 0);

    int scale = 0;
    for (;; scale++) {
        // Until value + m_up does not reach s.
        struct big high = r;
        big_add(&high, &m_up);
        int order = big_compare(&high, &s);
        if (inclusive ? order < 0 : order <= 0) {
            break;
        }
        big_multiply(&s, 10);
    }
    for (;; scale--) {
        struct big high = r;
        big_add(&high, &m_up);
        big_multiply(&high, 10);
        int order = big_compare(&high, &s);
        if (inclusive ? order >= 0 : order > 0) {
            break;
        }
        big_multiply(&r, 10);
        big_multiply(&m_up, 10);
        big_multiply(&m_down, 10);
    }
    *point = scale;
    for (int count = 0;;) {
        big_multiply(&r, 10);
        big_multiply(&m_up, 10);
        big_multiply(&m_down, 10);
        int digit = 0;
        while (big_compare(&r, &s) >= 0) {
            big_subtract(&r, &s);
            digit++;
        }
        struct big high = r;
        big_add(&high, &m_up);
        int low_order = big_compare(&r, &m_down), high_order = big_compare(&high, &s);
        bool low = inclusive ? low_order <= 0 : low_order < 0, up = inclusive ? high_order >= 0 : high_order > 0;
        if (!low && !up) {
            digits[count++] = (char)('0' + digit);
            continue;
        }
        if (low && up) {
            // Either would do: the nearer one.
            big_multiply(&r, 2);
            up = big_compare(&r, &s) >= 0;
        }
        digits[count++] = (char)('0' + digit + (up ? 1 : 0));
        return count;
    }
}

const char *st_f64_text(char text[ST_F64_TEXT], double value) {
    char *out = text;
    if (value != value) {
        memcpy(text, "nan", 4);
        return text;
    }
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (bits >> 63) {
        *out++ = '-';
        value = -value;
    }
    if (value > 1.7976931348623157e308) {
        memcpy(out, "inf", 4);
        return text;
    }
    char digits[18] = "0";
    int point = 1, count = value > 0 ? shortest(value, digits, &point) : 1;
    // As CPython's repr: plain from 1e-4 up to 1e16.
    if (point > -4 && point <= 16) {
        if (point <= 0) {
            *out++ = '0';
            *out++ = '.';
            for (int at = point; at < 0; at++) {
                *out++ = '0';
            }
        }
        for (int at = 0; at < count || at <= point; at++) {
            if (at == point && at > 0) {
                *out++ = '.';
            }
            *out++ = at < count ? digits[at] : '0';
        }
        *out = 0;
        return text;
    }
    *out++ = digits[0];
    if (count > 1) {
        *out++ = '.';
        memcpy(out, digits + 1, (size_t)count - 1);
        out += count - 1;
    }
    int exponent = point - 1;
    *out++ = 'e';
    *out++ = exponent < 0 ? '-' : '+';
    exponent = exponent < 0 ? -exponent : exponent;
    if (exponent >= 100) {
        *out++ = (char)('0' + exponent / 100);
    }
    *out++ = (char)('0' + exponent / 10 % 10);
    *out++ = (char)('0' + exponent % 10);
    *out = 0;
    return text;
}

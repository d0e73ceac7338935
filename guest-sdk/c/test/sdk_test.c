// The SDK's own tests: how calls park, are tried again, and leave; how arguments are bound; values in every form, and cut anywhere.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steward_test.h"

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

static void calls_wait_in_line(void) {
    st_test("head of the line is not overtaken",
            "x = Permits(1)\n"
            "first: x.take(2) waits\n"
            "# One would be free for it.\n"
            "second: x.take(1) waits\n"
            "x.give() -> None\n"
            "first -> 0\n"
            "second waits\n"
            "x.give(5) -> None\n"
            "second -> 4\n");
    st_test("one step answers as many as it can",
            "x = Permits()\n"
            "a: x.take() waits\nb: x.take() waits\nc: x.take() waits\nd: x.take() waits\n"
            "x.give(3) -> None\n"
            "a -> 2\nb -> 1\nc -> 0\nd waits\n");
    st_test("all are tried in the order they came",
            "x = Permits(1)\n"
            "two: x.take_any(2) waits\n"
            "three: x.take_any(3) waits\n"
            "x.take_any(1) -> 0\n"
            "one: x.take_any(1) waits\n"
            "x.give(2) -> None\n"
            "two -> 0\nthree waits\none waits\n"
            "x.give(2) -> None\n"
            "one -> 1\n");
    st_test("deadline raises TimeoutError, or what the method says",
            "x = Permits()\n"
            "take: x.take() waits\nany: x.take_any(1) waits\n"
            "take times out\nany times out\n"
            "take ! TimeoutError: the call waited until its deadline\n"
            "any -> 0\n"
            "x.seen() -> (0, 0, 2, 0, 0)\n");
    st_test("cancelled head lets the next through",
            "x = Permits(1)\n"
            "head: x.take(2) waits\nnext: x.take(1) waits\n"
            "head is given up\n"
            "next -> 0\n");
    st_test("lost session waits no more and its holdings serve others",
            "x = Permits()\n"
            "@2 gone: x.take() waits\nstays: x.take() waits\n"
            "session 2 ends\n"
            "stays -> 0\n"
            "x.seen() -> (0, 2, 1, 0, 0)\n");
    st_test("call that only parks changes no version",
            "x = Permits()\n"
            "take: x.take() waits\n"
            "x.seen() -> (0, 0, 0, 0, 0)\n"
            "x changed 0\n"
            "x.give() -> None\n"
            "take -> 0\n"
            "x changed 1\n");
    st_test("reader that waited changes nothing",
            "x = Permits()\n"
            "a: x.wait() waits\nb: x.wait() waits\n"
            "x.give() -> None\n"
            "a -> None\nb -> None\n"
            "x changed 1\n");
    st_test("time wakes the head alone",
            "x = Permits()\n"
            "late: x.take_until(500) waits\nearly: x.take_until(100) waits\n"
            "+499\nlate waits\nearly waits\n"
            "+1\nlate -> False\n"
            "# The next is tried as soon as it is the head.\n"
            "early -> False\n");
    st_test("own alarm and waiting calls share the clock",
            "x = Permits()\n"
            "x.alarm(300) -> None\n"
            "gives_up: x.take_until(200) waits\n"
            "x moves\n"
            "+250\ngives_up -> False\n"
            "gets_it: x.take_until(10000) waits\n"
            "+250\ngets_it -> True\n"
            "x.seen() -> (0, 0, 0, 1, 300)\n");
    st_test("calls left to the object are answered by it and survive a move",
            "x = Permits()\n"
            "a: x.join() waits\nb: x.join() waits\n"
            "a times out\n"
            "a ! TimeoutError: the call waited until its deadline\n"
            "x moves\n"
            "x.answer_joined() -> 1\n"
            "b -> 2 granted\n"
            "x is held\n");
    st_test("method that waits undeclared raises",
            "x = Permits()\n"
            "x.undeclared() ! RuntimeError: Permits.undeclared waits, but is not declared ST_FIFO or ST_ALL\n");
    st_test("older states are migrated",
            "x = Permits(3)\n"
            "x moves\nx.seen() -> (3, 0, 0, 0, 0)\n"
            "x moves from 1.1.0\nx.seen() -> (7, 0, 0, 0, 0)\n");
    st_test("randomness is the seed's", "x = Permits()\nx.random() -> True\n");
}

static void harness_finds_what_breaks_the_rules(void) {
    st_test_refuses("change and park", "x = Permits()\nx.rash() waits\n", "changed the object and then parked");
    st_test_refuses("change and read", "x = Permits()\nx.false_reader() -> None\n", "is declared ST_READ");
    st_test_refuses("same wake-up again", "x = Permits()\nx.stuck() -> None\n+1\n", "asks again for the wake-up at 0 ms");
    st_test_refuses("state that does not load", "x = Permits()\nx moves from 0.9\n", "does not load ! ValueError: state of 0.9");
    st_test_refuses("another result", "x = Permits()\nx.seen() -> None\n", "found -> (0, 0, 0, 0, 0)");
    st_test_refuses("unlooked for", "x = Permits()\na: x.take() waits\nx.give() -> None\n", "nobody looks at `a`");
}

static void arguments_bind_as_in_python(void) {
    st_test("places, then keywords",
            "x = Permits()\n"
            "x.bind(1) -> (1, 2, [], None, False, {})\n"
            "x.bind(1, 3, 4, 5, k=[6], z=7, y=8) -> (1, 3, [4, 5], [6], True, {'z': 7, 'y': 8})\n"
            "x.bind(b=True, a=None) -> (None, 1, [], None, False, {})\n"
            "x.numbers() -> (-0.0015, 7)\n"
            "x.numbers(1, 18446744073709551615) -> (1.0, 18446744073709551615)\n");
    st_test("refusals are worded as CPython's",
            "x = Permits(free=5)\n"
            "x.take(n=2) -> 3\n"
            "x.take(n='2') ! TypeError: Permits.take() argument 'n' must be int, not str\n"
            "x.take(None) ! TypeError: Permits.take() argument 'n' must be int, not NoneType\n"
            "x.take(-1) ! OverflowError: Permits.take() argument 'n' is out of range\n"
            "x.take(4294967296) ! OverflowError: Permits.take() argument 'n' is out of range\n"
            "x.numbers(u=-1) ! OverflowError: Permits.numbers() argument 'u' is out of range\n"
            "x.bind(1, 9223372036854775808) ! OverflowError: Permits.bind() argument 'b' is out of range\n"
            "x.bind(1, 2, 'c') ! TypeError: Permits.bind() argument 'rest' must be int, not str\n"
            "x.bind(1, k=['a']) ! TypeError: Permits.bind() argument 'k' must be list[int] | None\n"
            "x.bind(1, k=5) ! TypeError: Permits.bind() argument 'k' must be list[int] | None, not int\n"
            "x.both() ! TypeError: Permits.both() missing 2 required positional arguments: 'a' and 'b'\n"
            "x.both(1, 'b') ! TypeError: Permits.both() missing 1 required keyword-only argument: 'k'\n"
            "x.both(1, 'b', True) ! TypeError: Permits.both() takes 3 positional arguments but 4 were given\n"
            "x.both(1, 'b', a=2, k=True) ! TypeError: Permits.both() got multiple values for argument 'a'\n"
            "x.both(1, 'b', j=True) ! TypeError: Permits.both() got an unexpected keyword argument 'j'\n"
            "x.seen(1) ! TypeError: Permits.seen() takes 1 positional argument but 2 were given\n"
            "Permits(1, 2) ! TypeError: Permits.__init__() takes from 1 to 2 positional arguments but 3 were given\n"
            "x.wrong_getter('a') ! SystemError: Permits.wrong_getter() argument 'n' is not declared as int\n"
            "x.one_of_many() ! SystemError: Permits.one_of_many() argument 'rest' is not declared as a parameter of one item\n"
            "x.one_of_many(1) ! SystemError: Permits.one_of_many() argument 'rest' is not declared as a parameter of one item\n"
            "x.one_of_many([1], 2) ! SystemError: Permits.one_of_many() argument 'rest' is not declared as a parameter of one item\n");
}

static void mistakes_in_signatures_are_told(void) {
    static const char *const right[] = {"f()", "#GETVALUE() -> any", "Lock as GuestLock()", "f(a, b = 1, *, c, d: int = -2, **kw)",
                                        "f(*rest: dict[str, list[int | None]]) -> tuple[int, str] | None", "open(name: str) => Counter",
                                        "f(t: str = 'a b', l: list = [], d: dict = {}, u: tuple = (), n: int | None = None)"};
    for (size_t at = 0; at < sizeof right / sizeof right[0]; at++) {
        CHECK(strcmp(st_test_signature(right[at]), "") == 0);
    }
    static const struct {
        const char *signature, *mistake;
    } wrong[] = {
        {"", "expected `name("},
        {"f", "expected `name("},
        {"f(", "expected a parameter's name, at "},
        {"f(a b)", "expected `,` or `)`, at b)"},
        {"f(n: flot)", "expected a type: any, bool"},
        {"f(n: )", "expected a type: any, bool"},
        {"f(n: list[int)", "expected `]`, at )"},
        {"f(n: list[int, str])", "only list[T]"},
        {"f(n: int[str])", "only list[T]"},
        {"f(n: int = 'a')", "the default is not of the parameter's type"},
        {"f(n: u32 = -1)", "the default is not of the parameter's type"},
        {"f(n: int = x)", "expected a default"},
        {"f(n: str = 'a)", "a default text ends with its quote"},
        {"f(n: float = 0.12345678901234567890)", "so many digits"},
        {"f(n: float = 1e99)", "a float like this cannot be a default"},
        {"f(a, a)", "there are two parameters of this name"},
        {"f(a = 1, b)", "a parameter without default follows one with a default"},
        {"f(*, *rest)", "there is a second `*`"},
        {"f(*rest, *)", "there is a second `*`"},
        {"f(*rest = 1)", "`*` and `**` have no default"},
        {"f(**kw, a)", "nothing follows `**`"},
        {"f() ->", "expected a type"},
        {"f() =>", "expected the name of a type"},
        {"f() and more", "expected the end, at and more"},
        {"f(n: list[list[list[list[list[list[list[list[list[int]]]]]]]]])", "expected a type"},
        {"f(a,b,c,d,e,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,aa,bb,cc,dd,ee,ff,gg,hh)", "more than 32 parameters"},
    };
    for (size_t at = 0; at < sizeof wrong / sizeof wrong[0]; at++) {
        const char *mistake = st_test_signature(wrong[at].signature);
        if (strstr(mistake, wrong[at].mistake) == NULL) {
            (void)fprintf(stderr, "%s: %s\n    should say: %s\n", wrong[at].signature, mistake, wrong[at].mistake);
            exit(1);
        }
    }
}

static void tokens_are_counted(void) {
    st_test("stored tokens are held and removed ones let go",
            "x = Cupboard(#1, [#1])\n"
            "x holds [1, 1]\n"
            "x.intact() -> True\n"
            "x moves\n"
            "x.intact() -> True\n"
            "x holds [1, 1]\n"
            "x.pop() -> [#1]\n"
            "x.pop() -> #1\n"
            "x holds []\n"
            "x.keep(#3) -> None\n"
            "x.keep(#4) -> None\n"
            "x holds [4]\n"
            "x.put([#5]) -> None\n"
            "waits: x.put(#6) waits\n"
            "x holds [4, 5, 6]\n"
            "x moves\n"
            "x holds [4, 5, 6]\n"
            "x.pop() -> [#5]\n"
            "waits -> None\n"
            "x holds [4, 6]\n"
            "x.keep(1) ! TypeError: Cupboard.keep() argument 'handle' must be proxy, not int\n");
    st_test("calls on other objects come back",
            "x = Cupboard()\n"
            "x.ask(1) ! ValueError: there is no proxy\n"
            "x.keep(#3) -> None\n"
            "x.ask(1) -> None\n"
            "x asks 9 #3.put(1)\n"
            "x hears 9 -> 'done'\n"
            "x.pop() -> 'done'\n"
            "x hears 9 ! Full: no room\n"
            "x.pop() -> 'Full'\n");
    st_test("lost result comes back to the object",
            "x = Cupboard(1)\n"
            "a: x.pop() -> 1\n"
            "a is lost\n"
            "x.pop() -> 1\n");
}

static st_item cut_at(const char *ptr, size_t len) { return (st_item){(const uint8_t *)ptr, len}; }
#define BYTES(literal) cut_at(literal, sizeof(literal) - 1)

static void heads_of_every_width_are_read(void) {
    static const struct {
        const char *bytes;
        size_t len;
        int64_t value;
    } ints[] = {{"\x00", 1, 0}, {"\x17", 1, 23}, {"\x18\x18", 2, 24}, {"\x18\x01", 2, 1}, {"\x19\x01\x00", 3, 256},
                {"\x1a\x00\x01\x00\x00", 5, 65536}, {"\x1b\x7f\xff\xff\xff\xff\xff\xff\xff", 9, INT64_MAX}, {"\x20", 1, -1},
                {"\x38\xff", 2, -256}, {"\x39\xff\xff", 3, -65536}, {"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", 9, INT64_MIN},
                {"\xf4", 1, 0}, {"\xf5", 1, 1}};
    for (size_t at = 0; at < sizeof ints / sizeof ints[0]; at++) {
        st_reader reader = st_read(cut_at(ints[at].bytes, ints[at].len));
        int64_t value;
        CHECK(st_read_i64(&reader, &value) && value == ints[at].value && st_read_end(&reader));
        for (size_t cut = 0; cut < ints[at].len; cut++) {
            st_item item;
            reader = st_read(cut_at(ints[at].bytes, cut));
            CHECK(!st_read_i64(&reader, &value) && reader.at == NULL);
            reader = st_read(cut_at(ints[at].bytes, cut));
            CHECK(!st_read_item(&reader, &item));
        }
    }
    static const struct {
        const char *bytes;
        size_t len;
        double value;
    } floats[] = {{"\xf9\x3c\x00", 3, 1.0}, {"\xf9\xc0\x00", 3, -2.0}, {"\xf9\x00\x01", 3, 0x1p-24}, {"\xf9\x7b\xff", 3, 65504.0},
                  {"\xf9\x7c\x00", 3, __builtin_inf()}, {"\xfa\x3f\xc0\x00\x00", 5, 1.5},
                  {"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", 9, 1.1}, {"\x05", 1, 5.0}, {"\x24", 1, -5.0}};
    for (size_t at = 0; at < sizeof floats / sizeof floats[0]; at++) {
        st_reader reader = st_read(cut_at(floats[at].bytes, floats[at].len));
        double value;
        CHECK(st_read_f64(&reader, &value) && !(value < floats[at].value) && !(value > floats[at].value));
        for (size_t cut = 0; cut < floats[at].len; cut++) {
            reader = st_read(cut_at(floats[at].bytes, cut));
            CHECK(!st_read_f64(&reader, &value));
        }
    }
    st_reader nan = st_read(BYTES("\xf9\x7e\x00"));
    double value;
    CHECK(st_read_f64(&nan, &value) && value != value);
}

static void what_does_not_fit_is_refused(void) {
    uint64_t natural;
    int64_t whole;
    uint32_t small;
    size_t count;
    st_str text;
    st_bytes data;
    st_item item;
    st_token token;
    st_reader reader;
#define REFUSED(read, literal) (reader = st_read(BYTES(literal)), !(read) && reader.at == NULL)
    CHECK(REFUSED(st_read_i64(&reader, &whole), "\x1b\x80\x00\x00\x00\x00\x00\x00\x00"));
    CHECK(REFUSED(st_read_i64(&reader, &whole), "\x3b\x80\x00\x00\x00\x00\x00\x00\x00"));
    CHECK(REFUSED(st_read_u64(&reader, &natural), "\x20"));
    CHECK(REFUSED(st_read_u32(&reader, &small), "\x1b\x00\x00\x00\x01\x00\x00\x00\x00"));
    CHECK(REFUSED(st_read_str(&reader, &text), "\x7b\xff\xff\xff\xff\xff\xff\xff\xff" "a"));
    CHECK(REFUSED(st_read_bytes(&reader, &data), "\x42" "a"));
    CHECK(REFUSED(st_read_list(&reader, &count), "\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x00"));
    CHECK(REFUSED(st_read_dict(&reader, &count), "\xbb\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00"));
    CHECK(REFUSED(st_read_dict(&reader, &count), "\xa2\x00\x00\x00"));
    CHECK(REFUSED(st_read_item(&reader, &item), "\x9f\xff"));
    CHECK(REFUSED(st_read_item(&reader, &item), "\x1c"));
    CHECK(REFUSED(st_read_item(&reader, &item), "\xf7"));
    CHECK(REFUSED(st_read_item(&reader, &item), "\xd9\xd3\xb8"));
    CHECK(!st_token_of(BYTES("\xd9\xd3\xc2\x80"), &token) && !st_token_of(BYTES("\x01"), &token) && !st_token_of(BYTES(""), &token));
    CHECK(st_token_of(BYTES("\xd9\xd3\xc2\x83\x65Queue\x07\xf6"), &token) && token.ident == 7 && ST_IS(token.typeid, "Queue"));

    // Arrays in arrays: 32 are read, 33 are not.
    char deep[40];
    memset(deep, 0x81, sizeof deep);
    deep[32] = 0;
    reader = st_read(cut_at(deep, 33));
    CHECK(st_read_item(&reader, &item) && item.len == 33);
    deep[32] = (char)0x81;
    deep[33] = 0;
    reader = st_read(cut_at(deep, 34));
    CHECK(!st_read_item(&reader, &item));
}

static void what_is_written_is_read(void) {
    st_writer out = {NULL, 0, 0};
    static const int64_t ints[] = {0, 23, 24, 255, 256, 65535, 65536, UINT32_MAX, (int64_t)UINT32_MAX + 1, INT64_MAX, -1, -24, -25, INT64_MIN};
    size_t count = sizeof ints / sizeof ints[0];
    st_put_list(&out, count + 5);
    for (size_t at = 0; at < count; at++) {
        st_put_i64(&out, ints[at]);
    }
    st_put_f64(&out, -0.25);
    st_put_text(&out, "text");
    st_put_bytes(&out, (st_bytes){(const uint8_t *)"\0\1", 2});
    st_put_tuple(&out, 1);
    st_put_null(&out);
    st_put_dict(&out, 1);
    st_put_u64(&out, UINT64_MAX);
    st_put_bool(&out, true);

    st_reader reader = st_read(st_written(&out));
    size_t items, one;
    int64_t whole;
    uint64_t natural;
    double number;
    st_str text;
    st_bytes data;
    bool truth;
    CHECK(st_read_list(&reader, &items) && items == count + 5);
    for (size_t at = 0; at < count; at++) {
        CHECK(st_read_i64(&reader, &whole) && whole == ints[at]);
    }
    CHECK(st_read_f64(&reader, &number) && number < -0.2 && st_read_str(&reader, &text) && ST_IS(text, "text"));
    CHECK(st_read_bytes(&reader, &data) && data.len == 2 && st_read_kind(&reader) == ST_KIND_TUPLE);
    CHECK(st_read_list(&reader, &one) && one == 1 && st_read_null(&reader) && st_read_dict(&reader, &one) && one == 1);
    CHECK(st_read_u64(&reader, &natural) && natural == UINT64_MAX && st_read_bool(&reader, &truth) && truth);
    CHECK(st_read_end(&reader) && st_kind_of(st_written(&out)) == ST_KIND_LIST);

    // Cut anywhere, it is no item; and whatever stands in it, nothing is read beyond its end.
    uint8_t *copy = malloc(out.len);
    CHECK(copy != NULL);
    for (size_t cut = 0; cut < out.len; cut++) {
        uint8_t *part = malloc(cut > 0 ? cut : 1);
        CHECK(part != NULL);
        memcpy(part, out.ptr, cut);
        st_item item;
        st_reader short_reader = st_read((st_item){part, cut});
        CHECK(!st_read_item(&short_reader, &item));
        free(part);
    }
    uint64_t seed = 20261123;
    for (int round = 0; round < 200000; round++) {
        memcpy(copy, out.ptr, out.len);
        for (int change = 0; change < 4; change++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            copy[(seed >> 33) % out.len] = (uint8_t)(seed >> 56);
        }
        st_item item;
        st_token token;
        st_reader changed = st_read((st_item){copy, out.len});
        if (st_read_item(&changed, &item)) {
            CHECK(item.len <= out.len);
            (void)st_token_of(item, &token);
            st_any kept = st_keep(item);
            st_forget(&kept);
        }
    }
    free(copy);
}

static void floats_are_written_as_python_writes_them(void) {
    static const struct {
        double value;
        const char *text;
    } floats[] = {{0, "0.0"}, {-0.0, "-0.0"}, {1, "1.0"}, {0.1, "0.1"}, {100, "100.0"}, {12.5, "12.5"}, {1e15, "1000000000000000.0"},
                  {1e16, "1e+16"}, {1.5e300, "1.5e+300"}, {0.0001, "0.0001"}, {0.00001, "1e-05"}, {5e-324, "5e-324"},
                  {1.7976931348623157e308, "1.7976931348623157e+308"}, {2.2250738585072014e-308, "2.2250738585072014e-308"},
                  {1.0 / 3.0, "0.3333333333333333"}, {9007199254740993.0, "9007199254740992.0"}, {-__builtin_inf(), "-inf"},
                  {4503599627370495.5, "4503599627370495.5"}};
    char text[ST_F64_TEXT];
    for (size_t at = 0; at < sizeof floats / sizeof floats[0]; at++) {
        if (strcmp(st_f64_text(text, floats[at].value), floats[at].text) != 0) {
            (void)fprintf(stderr, "%s is written %s\n", floats[at].text, text);
            exit(1);
        }
    }
    // Whatever is written reads back as the same.
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        seed = seed * 6364136223846793005 + 1442695040888963407;
        double value, back;
        memcpy(&value, &seed, sizeof value);
        back = strtod(st_f64_text(text, value), NULL);
        CHECK(value != value || memcmp(&value, &back, sizeof value) == 0);
    }
}

#include "heap.c"

int main(void) {
    calls_wait_in_line();
    harness_finds_what_breaks_the_rules();
    arguments_bind_as_in_python();
    mistakes_in_signatures_are_told();
    tokens_are_counted();
    heads_of_every_width_are_read();
    what_does_not_fit_is_refused();
    what_is_written_is_read();
    floats_are_written_as_python_writes_them();
    heap_keeps_what_it_gives();
    // Of Permits, some methods break the rules as they should.
    st_test_garbage("Cupboard()", 1, 2000);
    return st_test_end();
}

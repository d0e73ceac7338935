#!/usr/bin/env python3
"""Writes values.txt and calls.txt: what CPython (3.13) answers, for the tests of the data types to compare with.

    python3.13 -W ignore generate.py

Items stand beside their expressions as hexadecimal CBOR, so the tests need no parser of Python.
"""

import array
import datetime
import struct
import uuid
from datetime import date, time, timedelta, timezone
from decimal import Decimal

TAGS = dict(tuple=54200, frozenset=54201, bytearray=54202, complex=54203, special=54204, datetime=54205,
            date=54206, time=54207, timedelta=54208, array=54209, set=258, uuid=37, decimal=4)


def head(major, n):
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 24:
            return bytes([major << 5 | n])
        if n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")
    raise OverflowError(n)


def items(values):
    values = list(values)
    return head(4, len(values)) + b"".join(map(encode, values))


def tag(name, body):
    return head(6, TAGS[name]) + body


def time_fields(t):
    offset = t.utcoffset()
    return [t.hour, t.minute, t.second, t.microsecond, None if offset is None else int(offset.total_seconds()),
            t.fold]


def encode(v):
    kind = type(v)
    if v is None:
        return b"\xf6"
    if kind is bool:
        return b"\xf5" if v else b"\xf4"
    if kind is int:
        if 0 <= v < 1 << 64:
            return head(0, v)
        if -(1 << 64) <= v < 0:
            return head(1, -1 - v)
        n = v if v > 0 else -1 - v
        return head(6, 2 if v > 0 else 3) + encode(n.to_bytes((n.bit_length() + 7) // 8, "big"))
    if kind is float:
        return b"\xfb" + struct.pack(">d", v)
    if kind is str:
        return head(3, len(v.encode())) + v.encode()
    if kind is bytes:
        return head(2, len(v)) + v
    if kind is list:
        return items(v)
    if kind is dict:
        return head(5, len(v)) + b"".join(encode(k) + encode(w) for k, w in v.items())
    if kind is slice:
        return encode((v.start, v.stop, v.step))
    if kind in (tuple, set, frozenset):
        return tag(kind.__name__, items(v))
    if kind is bytearray:
        return tag("bytearray", encode(bytes(v)))
    if kind is complex:
        return tag("complex", items([v.real, v.imag]))
    if kind is Decimal:
        sign, digits, exponent = v.as_tuple()
        special = {"F": 2 if sign else 1, "n": 3, "N": 4}.get(exponent)
        if special:
            return tag("special", items([special, 0]))
        n = int("".join(map(str, digits)))
        if sign and n == 0:
            return tag("special", items([0, exponent]))
        return tag("decimal", items([exponent, -n if sign else n]))
    if kind is datetime.datetime:
        return tag("datetime", items([v.year, v.month, v.day, *time_fields(v)]))
    if kind is date:
        return tag("date", items([v.year, v.month, v.day]))
    if kind is time:
        return tag("time", items(time_fields(v)))
    if kind is timedelta:
        return tag("timedelta", items([v.days, v.seconds, v.microseconds]))
    if kind is uuid.UUID:
        return tag("uuid", encode(v.bytes))
    if kind is array.array:
        return tag("array", items([v.typecode, list(v)]))
    raise TypeError(kind)


def outcome(run):
    """What happens, as the files have it: an item's hexadecimal digits, or an error."""
    try:
        result = run()
    except Exception as error:
        message = str(error).replace("\n", "\\n")
        return f"!{type(error).__name__}: {message}"
    return encode(result).hex()


NAN = float("nan")
INF = float("inf")
UTC = timezone.utc
D = Decimal
DT = datetime.datetime
U = uuid.UUID
F = frozenset
A = array.array
EAST = timezone(timedelta(hours=5, minutes=30))
WEST = timezone(timedelta(hours=-5, seconds=-7))

VALUES = """
None|True|False|0|1|-1|2|255|2**31|2**53|2**53+1|2**63-1|2**63|-2**63|-2**63-1|2**64|-2**64|-2**64-1|10**30|3*10**30|2**200
0.0|-0.0|1.0|2.0|0.5|0.1|-1.5|1e16|123456789012345680.0|1e22|1e-5|0.0001|1e30|2.0**53|2.0**63|2.0**64|1.5e300|5e-324|INF|-INF|NAN
D(0)|D('-0')|D(1)|D('1.0')|D('1.5')|D('0.1')|D('0.5')|D('-1.50')|D('1E+30')|D('3.0E+30')|D('1E+1000')|D('1E+999999')|D('-1E+999999')
D('1E-999999')|D('1E-7')|D('0.000001')|D('-0E-10')|D('0E+5')|D('12345.678')|D('Infinity')|D('-Infinity')|D('NaN')
D('0.1000000000000000055511151231257827021181583404541015625')|D(2**200)
complex(1,0)|1j|-1j|complex(-0.0,1)|complex(1,-0.0)|complex(NAN,INF)|complex(1.5,1e20)|complex(2.0**53,0)|complex(0,-0.0)
''|'a'|'b'|'ab'|"it's"|'a"b'|"a'\\"b"|'é日😀'|'\\x00\\x7f\\xa0\\xad\\t\\n\\r\\\\'|'\\u200b\\u0301e\\u0301\\U0010ffff\\ue000'
b''|b'a'|b'ab'|bytearray(b'a')|bytearray()|b"it's"|b'a"\\x00\\xff\\n'|bytearray(b"\\t'\\"")
[]|[1]|[1,2]|[1.0]|[2]|['a']|[None]|[[1],[2]]|()|(1,)|(1,2)|(True,2.0)|((),())|([],)|(1,[2])
{}|{1:2}|{1.0:2.0}|{2:1}|{'a':[1]}|{1:2,3:4}|{3:4,1:2}|set()|{1}|{1.0}|{1,2}|{1,2,3}|{3}|F()|F([1])|F([1,2])|F([F([1])])|F([(1,2)])
date(2020,1,1)|date(2020,2,29)|date(1,1,1)|date(9999,12,31)|DT(2020,1,1)|DT(2020,1,1,0,0,0,1)|DT(2020,1,1,tzinfo=UTC)
DT(2020,1,1,5,30,tzinfo=EAST)|DT(2020,1,1,12,tzinfo=WEST)|DT(2019,12,31,18,59,53,tzinfo=WEST)|DT(2020,3,1,23,59,59,999999)|DT(2020,1,1,fold=1)
time(0)|time(1)|time(1,2,3,4)|time(1,tzinfo=UTC)|time(6,30,tzinfo=EAST)|time(1,fold=1)|time(23,59,tzinfo=WEST)
timedelta(0)|timedelta(1)|timedelta(-1,3)|timedelta(microseconds=5)|timedelta(1,2,3)|U(int=5)|U(int=2**127)
A('i',[1,2])|A('d',[1,2])|A('i',[])|A('f',[0.1])|A('b',[1])|A('w','ab')|A('w',"it's")
""".strip().replace("\n", "|").split("|")


def run_values():
    yield "# Written by generate.py. repr, key: operation, expression, item, outcome; equal, less: two of each before it."
    values = [(text, eval(text)) for text in VALUES]
    for text, value in values:
        yield "\t".join(["repr", text, encode(value).hex(), outcome(lambda: repr(value))])
    for text, value in values:
        yield "\t".join(["key", text, encode(value).hex(), outcome(lambda: len({value: 0}))])
    for number, (text, value) in enumerate(values):
        # Values are copies here, so NaN is never the very same object: compare with another one.
        for other_text, other in values:
            if "NAN" in text + other_text or "NaN" in text + other_text:
                continue
            # CPython compares a bytearray with an array's memory; Steward's arrays have none.
            if {type(value), type(other)} == {bytearray, array.array}:
                continue
            row = [text, other_text, encode(value).hex(), encode(other).hex()]
            if value == other or type(value) is type(other) or number % 31 == 0:
                yield "\t".join(["equal", *row, str(value == other)])
                yield "\t".join(["less", *row, outcome(lambda: value < other)])


def call(value, name, args):
    if name == "sort":
        return value.sort(**args[0]) if args else value.sort()
    if name.startswith("__i") and name not in ("__iter__",) or name in ("__setitem__", "__delitem__"):
        result = getattr(value, name)(*args)
        if result is NotImplemented:
            symbol = {"__ior__": "|", "__iand__": "&", "__isub__": "-", "__ixor__": "^"}[name]
            raise TypeError(
                f"unsupported operand type(s) for {symbol}=: '{type(value).__name__}' and '{type(args[0]).__name__}'")
        return None
    operators = {"__or__": "|", "__and__": "&", "__sub__": "-", "__xor__": "^", "__add__": "+", "__mul__": "*",
                 "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}
    if name in operators:
        return eval(f"a {operators[name]} b", {"a": value, "b": args[0]})
    if name == "__rmul__":
        return args[0] * value
    if name.startswith("__r"):
        return eval(f"b {operators['__' + name[3:]]} a", {"a": value, "b": args[0]})
    result = getattr(value, name)(*args)
    return list(result) if name in ("keys", "values", "items") else result


INDEXES = "0|2|-1|-3|3|-4|9|True|None|1.5|'a'|2**40|2**70|-2**70"
SLICES = ("slice(None)|slice(1,None)|slice(None,2)|slice(0,2)|slice(-2,None)|slice(None,None,2)|slice(None,None,-1)|slice(2,0,-1)"
          "|slice(5,1)|slice(-100,100)|slice(-1,-100,-2)|slice(None,None,0)|slice('a',None)|slice(2**70,None)|slice(-2**70,2**70,2**70)"
          "|slice(1,1)|slice(3,0)|slice(0,3,2)")
ITERABLES = "[]|[7]|(7,8)|'xy'|b'ab'|{5:6}|{5}|F([5])|A('i',[1,2])|5|None|[[1]]|bytearray(b'a')"
LISTS = "[]|[1,2,3]|['a',None,1.0,True]|[3,1,2,1]"
SETS = "set()|{1}|{1.0}|{1,2,3}|{'a',(1,2),None}"
OTHERS = "set()|{1}|{2.0,3}|{'a',9}|F([1,2])|[]|[1,1,True]|(2,)|'a'|{1:2}|5|[[]]|{1,2,3,4}"
KEYS = "1|1.0|True|'a'|None|(1,2)|9|[]|{}|D(1)|(1,[])|b'a'|{1}"
DICTS = "{}|{1:2}|{'a':[1],None:0,(1,2):'x'}|{True:1,2:2,'b':3}"
PAIRS = "{}|{1:'new'}|{'k':1,2:2}|[(1,2),('a','b')]|['ab','cd']|[(1,)]|[(1,2,3)]|[1]|5|[([],1)]|'abc'|()|None|[[1,2]]|['abc']"
ARRAYS = "A('i',[1,2,3])|A('B',[])|A('d',[1.5,2])|A('w','abc')|A('Q',[2**64-1])"
ELEMENTS = "0|-1|256|2**31|2**63|2**64|-2**64|1.5|'x'|'xy'|None|True|D('1.5')|1j|10**400|[]|1e300"
ALL_CODES = "b|B|w|h|H|i|I|l|L|q|Q|f|d"

CALLS = [
    (LISTS, "__add__", "[]|[9]|(1,)|5|'a'"),
    (LISTS, "__contains__ count remove index append", "1|1.0|None|'a'|'zz'|[1]|3"),
    (LISTS, "__getitem__ __delitem__", INDEXES + "|" + SLICES),
    (LISTS, "__setitem__", INDEXES + "|" + SLICES, "9|[]|[7]|[7,8]|(7,8,9)|'xy'|5"),
    (LISTS, "__mul__ __rmul__", "0|1|3|-1|True"),
    (LISTS, "__imul__", "0|1|3|-1|True|'a'|1.5|None"),
    (LISTS, "__iadd__ extend", ITERABLES),
    (LISTS, "__len__ clear copy reverse pop sort"),
    (LISTS, "insert", INDEXES, "9"),
    (LISTS, "pop", INDEXES),
    (LISTS, "index", "1|'a'", "0|1|-1|-9|9|'x'|2**70|-2**70"),
    (LISTS, "index", "1", "0|2|-2", "0|1|-1|9|2**70|None"),
    (LISTS, "sort", "{'reverse':True}|{'reverse':0}|{'key':None}"),
    (SETS, "__and__ __or__ __sub__ __xor__ __iand__ __ior__ __isub__ __ixor__ __lt__ __le__ __gt__ __ge__", OTHERS),
    (SETS, "__rand__ __ror__ __rsub__ __rxor__", "F([1,2])|5|[1]"),
    (SETS, "__contains__ add discard remove", KEYS),
    (SETS, "__len__ clear copy union update intersection difference intersection_update difference_update"),
    (SETS, "union update intersection intersection_update difference difference_update isdisjoint issubset issuperset"
           " symmetric_difference symmetric_difference_update", OTHERS),
    (SETS, "union update intersection intersection_update difference difference_update", "{1}|[2]", OTHERS),
    (DICTS, "__contains__ __getitem__ __delitem__ get pop setdefault", KEYS),
    (DICTS, "__setitem__ get pop setdefault", KEYS, "'v'"),
    (DICTS, "__len__ clear copy items keys values popitem update"),
    (DICTS, "update __ior__", PAIRS),
    (DICTS, "__or__ __ror__", "{}|{1:'new',4:4}|5|[(1,2)]"),
    (DICTS, "fromkeys", ITERABLES),
    (DICTS, "fromkeys", "[1,True,2]", "'v'"),
    (ARRAYS, "__len__"),
    (ARRAYS, "__getitem__", INDEXES + "|" + SLICES),
    (ARRAYS, "__contains__", "1|2.0|'a'|'zz'|[]"),
    (ARRAYS, "__setitem__", INDEXES, "1|2.5|'z'"),
    (ARRAYS, "__setitem__", "0", ELEMENTS),
    (ARRAYS, "__setitem__", SLICES, "A('i',[7])|A('i',[7,8])|A('w','z')|A('d',[])|[1]|5"),
]


def run_calls():
    yield "# Written by generate.py. Expression, start, arguments, method, outcome, end; `new`: typeid, arguments, outcome."
    for starts, names, *choices in CALLS:
        for start in starts.split("|"):
            for name in names.split():
                for texts in product([choice.split("|") for choice in choices]):
                    value = eval(start)
                    args = [eval(text) for text in texts]
                    row = [f"({start}).{name}({', '.join(texts)})", encode(value).hex(), items(args).hex(), name]
                    result = outcome(lambda: call(value, name, args))
                    if result.startswith("!"):
                        # Steward's calls are all or nothing; CPython keeps the arguments before the bad one.
                        value = eval(start)
                    yield "\t".join([*row, result, encode(value).hex()])
    for typeid, kind, texts in [("list", list, ITERABLES), ("set", set, ITERABLES), ("dict", dict, PAIRS)]:
        for text in texts.split("|"):
            args = [eval(text)]
            yield "\t".join([f"{typeid}({text})", "new", items(args).hex(), typeid, outcome(lambda: kind(*args))])
    for code in ALL_CODES.split("|"):
        for text in (ITERABLES + "|A('w','ab')|b'a\\x00\\x00\\x00b\\x00\\x00\\x00'|'x'").split("|") + [f"[{one}]" for one in ELEMENTS.split("|")]:
            args = [code, eval(text)]
            yield "\t".join([f"Array('{code}', {text})", "new", items(args).hex(), "Array", outcome(lambda: array.array(*args))])
    for code in ("ii", "", 1):
        args = [code, [1]]
        yield "\t".join([f"Array({code!r}, [1])", "new", items(args).hex(), "Array", outcome(lambda: array.array(*args))])


def product(choices):
    """As itertools.product, the last choice changing fastest."""
    if not choices:
        return [()]
    return [(first, *rest) for first in choices[0] for rest in product(choices[1:])]


if __name__ == "__main__":
    for name, rows in (("values.txt", run_values()), ("calls.txt", run_calls())):
        with open(name, "w", encoding="utf-8") as file:
            file.writelines(row + "\n" for row in rows)

//! `Array`: numbers or characters of one type.

use num_bigint::{BigInt, Sign};
use steward_wire::cbor;
use steward_wire::value::Decimal;

use super::items::{self, Index, index_error, iterate, type_error, value_error};
use super::lockable::{GET_LOCK_DOC, Lockable};
use super::{EXACT_BITS_MAX, compare, decode, methods, no_such_method, repr, type_name};
use crate::{Args, Builtin, Call, Fault, Input, Method, Outbox, Owner, Param, Referent, Value, common};

/// `multiprocessing.managers.Array`: an `array.array`, with a lock and atomic changes.
pub static ARRAY: Builtin = Builtin {
    typeid: "Array",
    doc: "An `array.array`: all elements have the type that the typecode names.\n\nTypecodes: b B u w h H i I l L q Q f d, \
          with the sizes of a 64-bit Linux. An index is an int; a slice travels as the tuple `(start, stop, step)`.",
    constructor: CONSTRUCTOR,
    methods: METHODS,
    create,
    joins: &[],
    snapshots: true,
    constructible: true,
};

const CONSTRUCTOR: &[Param] =
    &[Param::required("typecode", "str"), Param::required("sequence", "list"), Param::optional("lock", "bool", "True")];
const INDEX: Param = Param::required("index", "int or slice");
const PLACE: Param = Param::required("index", "int");
const VALUE: Param = Param::required("value", "any");

methods! {
    /// Methods of Array.
    ArrayMethod, METHODS:
    Contains = Method::new("__contains__", &[VALUE], "Says whether an equal element is in the array.").read_only();
    GetItem = Method::new("__getitem__", &[INDEX], "Returns an element, or a slice as an array.").read_only();
    Len = Method::new("__len__", &[], "Returns the number of elements.").read_only();
    SetItem = Method::new("__setitem__", &[INDEX, VALUE],
        "Replaces an element, or a slice by an array of the same typecode.");
    CompareAndSet = Method::new("compare_and_set",
        &[PLACE, Param::required("expected", "any"), Param::required("new", "any")],
        "Replaces an element if it equals `expected`, in one step; says whether it did.");
    GetLock = Method::new("get_lock", &[], GET_LOCK_DOC).returning("RLock");
    Incr = Method::new("incr", &[PLACE, Param::optional("amount", "int or float", "1")],
        "Adds to an element in one step and returns the sum.\n\nRaises `OverflowError` if it does not fit; then nothing has changed.");
}

fn create(args: Args<'_>, out: &mut Outbox) -> Result<Box<dyn Referent>, Fault> {
    let [typecode, sequence, _lock] = args.bind("Array.__init__", CONSTRUCTOR)?;
    let typecode = typecode_of(typecode.expect(BOUND))?;
    let elements = elements_of(typecode, sequence.expect(BOUND))?;
    out.store_item(size_of_val(&elements[..]));
    Ok(Box::new(Array { typecode, elements, lock: Lockable::new() }))
}

struct Array {
    typecode: char,
    elements: Vec<Element>,
    lock: Lockable,
}

/// One element, always one that the typecode can hold.
#[derive(Clone, Copy, Debug)]
enum Element {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Character(char),
}

impl Referent for Array {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) if call.facet == 0 => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            other => self.lock.step(other, out),
        }
    }

    fn holder(&self) -> Option<Owner> {
        self.lock.holder()
    }
}

impl Array {
    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let (id, args) = (call.id, call.args);
        macro_rules! bind {
            () => {{
                let method = &METHODS[call.method as usize];
                args.bind(&format!("Array.{}", method.name), method.params)?
            }};
        }
        let Some(method) = ArrayMethod::of(call.method) else {
            match call.method {
                common::GET_VALUE => self.put(self.elements.iter().copied(), id, out),
                common::STR | common::REPR => {
                    let mut text = String::new();
                    let elements: Vec<Value> = self.elements.iter().map(|element| element.value()).collect();
                    repr::put_array(&mut text, self.typecode, &elements)?;
                    out.returns_text(id, &text);
                }
                _ => return Err(no_such_method(call)),
            }
            return Ok(());
        };
        match method {
            ArrayMethod::Contains => {
                let [value] = bind!();
                let value = decode(value.expect(BOUND))?;
                let found = self.elements.iter().any(|element| compare::equal_values(&element.value(), &value));
                out.returns_bool(id, found);
            }
            ArrayMethod::Len => {
                let [] = bind!();
                out.returns_int(id, self.elements.len() as i64);
            }
            ArrayMethod::GetItem => {
                let [index] = bind!();
                match Index::read(index.expect(BOUND), self.elements.len(), "array")? {
                    Index::One(index) => {
                        let place = self.place(index, "array index out of range")?;
                        out.returns(id, |bytes| self.elements[place].value().encode(bytes));
                    }
                    Index::Slice(slice) => self.put(slice.places().map(|place| self.elements[place]), id, out),
                }
            }
            ArrayMethod::SetItem => {
                let [index, value] = bind!();
                let value = decode(value.expect(BOUND))?;
                match Index::read(index.expect(BOUND), self.elements.len(), "array")? {
                    Index::One(index) => {
                        let place = self.place(index, "array assignment index out of range")?;
                        self.elements[place] = Element::new(self.typecode, &value)?;
                    }
                    Index::Slice(slice) => self.assign(slice, &value)?,
                }
                out.changed();
                out.returns_null(id);
            }
            ArrayMethod::CompareAndSet => {
                let [index, expected, new] = bind!();
                let place = self.place(items::ssize(index.expect(BOUND))?, "array index out of range")?;
                let new = Element::new(self.typecode, &decode(new.expect(BOUND))?)?;
                let same = compare::equal_values(&self.elements[place].value(), &decode(expected.expect(BOUND))?);
                if same {
                    self.elements[place] = new;
                    out.changed();
                }
                out.returns_bool(id, same);
            }
            ArrayMethod::Incr => {
                let [index, amount] = bind!();
                let place = self.place(items::ssize(index.expect(BOUND))?, "array index out of range")?;
                let sum = items::sum(&self.elements[place].value().to_vec(), amount.unwrap_or(&[1]))?;
                self.elements[place] = Element::new(self.typecode, &decode(&sum)?)?;
                out.changed();
                out.returns(id, |bytes| self.elements[place].value().encode(bytes));
            }
            ArrayMethod::GetLock => {
                let [] = bind!();
                self.lock.open(call, out)?;
            }
        }
        Ok(())
    }

    fn place(&self, index: i64, message: &str) -> Result<usize, Fault> {
        Index::place(index, self.elements.len()).ok_or_else(|| index_error(message))
    }

    fn put(&self, elements: impl Iterator<Item = Element>, id: u64, out: &mut Outbox) {
        let value = Value::Array(self.typecode, elements.map(Element::value).collect());
        out.returns(id, |bytes| value.encode(bytes));
    }

    fn assign(&mut self, slice: items::Slice, value: &Value) -> Result<(), Fault> {
        let Value::Array(typecode, new) = value else {
            return Err(type_error(format!("can only assign array (not \"{}\") to array slice", type_name(value))));
        };
        if *typecode != self.typecode {
            return Err(type_error("bad argument type for built-in operation"));
        }
        let new = new.iter().map(|value| Element::new(self.typecode, value)).collect::<Result<Vec<_>, _>>()?;
        if slice.step == 1 {
            self.elements.splice(slice.start..slice.start + slice.count, new);
        } else if new.is_empty() {
            // As CPython, which takes nothing for a deletion.
            let mut doomed: Vec<usize> = slice.places().collect();
            doomed.sort_unstable();
            for place in doomed.into_iter().rev() {
                self.elements.remove(place);
            }
        } else if new.len() == slice.count {
            for (place, element) in slice.places().zip(new) {
                self.elements[place] = element;
            }
        } else {
            return Err(value_error(format!(
                "attempt to assign array of size {} to extended slice of size {}",
                new.len(),
                slice.count
            )));
        }
        Ok(())
    }
}

const BOUND: &str = "bind fills required parameters";

fn typecode_of(item: &[u8]) -> Result<char, Fault> {
    let Ok(text) = cbor::Reader::new(item).text() else {
        let found = type_name(&decode(item)?);
        return Err(type_error(format!("array() argument 1 must be a unicode character, not {found}")));
    };
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(typecode), None) if "bBuwhHiIlLqQfd".contains(typecode) => Ok(typecode),
        (Some(_), None) => Err(value_error("bad typecode (must be b, B, u, w, h, H, i, I, l, L, q, Q, f or d)")),
        _ => Err(type_error("array() argument 1 must be a unicode character, not str")),
    }
}

/// The elements that `array.array(typecode, sequence)` has.
fn elements_of(typecode: char, sequence: &[u8]) -> Result<Vec<Element>, Fault> {
    let is_text = matches!(typecode, 'u' | 'w');
    match decode(sequence)? {
        Value::Text(text) if is_text => Ok(text.chars().map(Element::Character).collect()),
        Value::Text(_) => {
            Err(type_error(format!("cannot use a str to initialize an array with typecode '{typecode}'")))
        }
        Value::Bytes(bytes) | Value::ByteArray(bytes) => from_bytes(typecode, &bytes),
        Value::Array('u' | 'w', _) if !is_text => {
            Err(type_error(format!("cannot use a unicode array to initialize an array with typecode '{typecode}'")))
        }
        _ => iterate(sequence)?.iter().map(|item| Element::new(typecode, &decode(item)?)).collect(),
    }
}

/// Machine values as x86-64 and AArch64 lay them out, whatever this machine is.
fn from_bytes(typecode: char, bytes: &[u8]) -> Result<Vec<Element>, Fault> {
    let size = match typecode {
        'b' | 'B' => 1,
        'h' | 'H' => 2,
        'i' | 'I' | 'f' | 'u' | 'w' => 4,
        _ => 8,
    };
    if !bytes.len().is_multiple_of(size) {
        return Err(value_error("bytes length not a multiple of item size"));
    }
    bytes
        .chunks_exact(size)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..size].copy_from_slice(chunk);
            let unsigned = u64::from_le_bytes(word);
            let unused = 64 - 8 * size as u32;
            Ok(match typecode {
                'b' | 'h' | 'i' | 'l' | 'q' => Element::Signed((unsigned << unused) as i64 >> unused),
                'f' => Element::Float(f64::from(f32::from_bits(unsigned as u32))),
                'd' => Element::Float(f64::from_bits(unsigned)),
                'u' | 'w' => Element::Character(char::from_u32(unsigned as u32).ok_or_else(|| {
                    value_error(format!("character U+{unsigned:x} is not in range [U+0000; U+10ffff]"))
                })?),
                _ => Element::Unsigned(unsigned),
            })
        })
        .collect()
}

/// A C type's name, its least and its greatest value.
type Range = (&'static str, i64, i64);

impl Element {
    /// A value as an element of an array with this typecode.
    ///
    /// # Errors
    /// Raised `TypeError` and `OverflowError`, worded as those of `array.array` are.
    fn new(typecode: char, value: &Value) -> Result<Self, Fault> {
        let overflow = |message: &str| Err(Fault::raised("OverflowError", message));
        match typecode {
            'u' | 'w' => match value {
                Value::Text(text) if text.chars().count() == 1 => {
                    Ok(Self::Character(text.chars().next().expect("it has one character")))
                }
                _ => Err(type_error("array item must be unicode character")),
            },
            'f' => Ok(Self::Float(f64::from(real(value)? as f32))),
            'd' => Ok(Self::Float(real(value)?)),
            'b' | 'B' | 'h' | 'H' | 'i' => {
                const CHAR: Range = ("signed char", i8::MIN as i64, i8::MAX as i64);
                const BYTE: Range = ("unsigned byte integer", 0, u8::MAX as i64);
                const SHORT: Range = ("signed short integer", i16::MIN as i64, i16::MAX as i64);
                const UNSIGNED_SHORT: Range = ("unsigned short", 0, u16::MAX as i64);
                const INT: Range = ("signed integer", i32::MIN as i64, i32::MAX as i64);
                // CPython reads some types as a larger one first, whose name its message then has.
                let ranges: &[Range] = match typecode {
                    'b' => &[SHORT, CHAR],
                    'B' => &[BYTE],
                    'h' => &[SHORT],
                    'H' => &[INT, UNSIGNED_SHORT],
                    _ => &[INT],
                };
                let Ok(value) = i64::try_from(whole(value)?) else {
                    return overflow("Python int too large to convert to C long");
                };
                for (name, lowest, highest) in ranges {
                    if value < *lowest {
                        return overflow(&format!("{name} is less than minimum"));
                    }
                    if value > *highest {
                        return overflow(&format!("{name} is greater than maximum"));
                    }
                }
                Ok(if matches!(typecode, 'B' | 'H') { Self::Unsigned(value as u64) } else { Self::Signed(value) })
            }
            'l' | 'q' => match i64::try_from(whole(value)?) {
                Ok(value) => Ok(Self::Signed(value)),
                Err(_) if typecode == 'l' => overflow("Python int too large to convert to C long"),
                Err(_) => overflow("int too big to convert"),
            },
            _ => {
                let value = whole(value)?;
                let negative = value.sign() == Sign::Minus;
                match u64::try_from(value) {
                    Ok(value) if typecode == 'I' && value > u64::from(u32::MAX) => {
                        overflow("unsigned int is greater than maximum")
                    }
                    Ok(value) => Ok(Self::Unsigned(value)),
                    Err(_) if negative && typecode == 'Q' => overflow("can't convert negative int to unsigned"),
                    Err(_) if negative => overflow("can't convert negative value to unsigned int"),
                    Err(_) if typecode == 'Q' => overflow("int too big to convert"),
                    Err(_) => overflow("Python int too large to convert to C unsigned long"),
                }
            }
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Signed(value) => Value::Int(value),
            Self::Unsigned(value) => i64::try_from(value).map_or_else(|_| Value::BigInt(value.into()), Value::Int),
            Self::Float(value) => Value::Float(value),
            Self::Character(value) => Value::Text(value.into()),
        }
    }
}

fn whole(value: &Value) -> Result<BigInt, Fault> {
    items::whole(&value.to_vec())
}

/// A number as a double, as `float(value)` has it.
fn real(value: &Value) -> Result<f64, Fault> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Bool(_) | Value::Int(_) | Value::BigInt(_) => items::float(&whole(value)?),
        Value::Decimal(Decimal::Infinity { negative }) => Ok(if *negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        Value::Decimal(Decimal::NaN { signalling: false }) => Ok(f64::NAN),
        Value::Decimal(Decimal::NaN { signalling: true }) => Err(value_error("cannot convert signaling NaN to float")),
        Value::Decimal(Decimal::Finite { digits, .. }) if digits.bits() > EXACT_BITS_MAX => Err(Fault::raised(
            "OverflowError",
            format!("Decimal has {} bits, limit is {EXACT_BITS_MAX}", digits.bits()),
        )),
        Value::Decimal(Decimal::Finite { negative, digits, exponent }) => {
            let sign = if *negative { "-" } else { "" };
            Ok(format!("{sign}{digits}e{exponent}").parse().expect("it is written as a number"))
        }
        other => Err(type_error(format!("must be real number, not {}", type_name(other)))),
    }
}

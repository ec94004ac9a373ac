//! AMF0 (Action Message Format 0): the values that RTMP commands and metadata are made of.
//!
//! Reads what encoders send (numbers, booleans, strings, objects, arrays, dates, null) and writes
//! what answers need. Depth and number of values are bounded, so a short message cannot cause
//! much work or deep recursion.

use bytes::{BufMut, BytesMut};

/// How deep objects and arrays may nest: commands use 2, metadata 3.
pub const DEPTH_MAX: usize = 8;

/// Values in one message, properties included: metadata of real encoders has about 30.
pub const VALUES_MAX: usize = 1024;

/// One AMF0 value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A number; AMF0 has no integers.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A short or long string; bytes that are not UTF-8 are replaced.
    String(String),
    /// An object or an ECMA array: named properties, in the order sent.
    Object(Vec<(String, Value)>),
    /// A strict array.
    Array(Vec<Value>),
    /// A date in milliseconds since the Unix epoch.
    Date(f64),
    /// Null.
    Null,
    /// Undefined, and the "unsupported" marker.
    Undefined,
}

/// Why bytes are not AMF0 that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// The message ends inside a value.
    #[error("an AMF0 value is cut short")]
    Short,
    /// A type that encoders have no reason to send.
    #[error("AMF0 type {0:#04x} is not supported")]
    Type(u8),
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("AMF0 values are nested deeper than {DEPTH_MAX}")]
    Depth,
    /// More than [`VALUES_MAX`] values.
    #[error("more than {VALUES_MAX} AMF0 values in one message")]
    Count,
}

/// Reads every value of a message.
///
/// # Errors
/// When the bytes are not AMF0, or break a bound.
pub(super) fn read_all(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut reader = Reader { bytes, values_left: VALUES_MAX };
    let mut values = Vec::new();
    while !reader.bytes.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

impl Value {
    /// The text of a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a number.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The first property of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// An object of these properties.
    pub(super) fn object<const N: usize>(properties: [(&str, Value); N]) -> Self {
        Self::Object(properties.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Appends this value to `out`.
    pub(super) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Number(number) => {
                out.put_u8(NUMBER);
                out.put_f64(*number);
            }
            Self::Boolean(value) => {
                out.put_u8(BOOLEAN);
                out.put_u8((*value).into());
            }
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(len) => {
                    out.put_u8(STRING);
                    out.put_u16(len);
                    out.put_slice(text.as_bytes());
                }
                Err(_) => {
                    out.put_u8(LONG_STRING);
                    out.put_u32(text.len() as u32);
                    out.put_slice(text.as_bytes());
                }
            },
            Self::Object(properties) => {
                out.put_u8(OBJECT);
                for (name, value) in properties {
                    let name =
                        name.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(name.as_bytes());
                    out.put_u16(name.len() as u16);
                    out.put_slice(name);
                    value.write(out);
                }
                out.put_u16(0);
                out.put_u8(OBJECT_END);
            }
            Self::Array(values) => {
                out.put_u8(STRICT_ARRAY);
                out.put_u32(values.len() as u32);
                values.iter().for_each(|value| value.write(out));
            }
            Self::Date(ms) => {
                out.put_u8(DATE);
                out.put_f64(*ms);
                out.put_i16(0);
            }
            Self::Null => out.put_u8(NULL),
            Self::Undefined => out.put_u8(UNDEFINED),
        }
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

// Markers of the AMF0 specification, section 2.1.
const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;

struct Reader<'a> {
    bytes: &'a [u8],
    values_left: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth > DEPTH_MAX {
            return Err(AmfError::Depth);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(AmfError::Count)?;
        let [marker] = self.take::<1>()?;
        match marker {
            NUMBER => Ok(Value::Number(f64::from_be_bytes(self.take()?))),
            BOOLEAN => Ok(Value::Boolean(self.take::<1>()? != [0])),
            STRING => Ok(Value::String(self.short_string()?)),
            LONG_STRING => {
                let len = u32::from_be_bytes(self.take()?) as usize;
                Ok(Value::String(self.text(len)?))
            }
            OBJECT => self.properties(depth),
            ECMA_ARRAY => {
                // The count is a hint that some encoders get wrong; the end marker decides.
                self.take::<4>()?;
                self.properties(depth)
            }
            STRICT_ARRAY => {
                let len = u32::from_be_bytes(self.take()?) as usize;
                if len > self.values_left {
                    return Err(AmfError::Count);
                }
                (0..len).map(|_| self.value(depth + 1)).collect::<Result<_, _>>().map(Value::Array)
            }
            DATE => {
                let ms = f64::from_be_bytes(self.take()?);
                self.take::<2>()?;
                Ok(Value::Date(ms))
            }
            NULL => Ok(Value::Null),
            UNDEFINED | UNSUPPORTED => Ok(Value::Undefined),
            other => Err(AmfError::Type(other)),
        }
    }

    fn properties(&mut self, depth: usize) -> Result<Value, AmfError> {
        let mut properties = Vec::new();
        loop {
            let name = self.short_string()?;
            if name.is_empty() && self.bytes.first() == Some(&OBJECT_END) {
                self.take::<1>()?;
                return Ok(Value::Object(properties));
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }

    fn short_string(&mut self) -> Result<String, AmfError> {
        let len = u16::from_be_bytes(self.take()?);
        self.text(len.into())
    }

    fn text(&mut self, len: usize) -> Result<String, AmfError> {
        let (text, rest) = self.bytes.split_at_checked(len).ok_or(AmfError::Short)?;
        self.bytes = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(AmfError::Short)?;
        self.bytes = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (-1e9..1e9f64).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            "[a-zé]{0,12}".prop_map(Value::String),
            (0..1_000_000i64).prop_map(|ms| Value::Date(ms as f64)),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec(("[a-z]{1,6}", inner), 0..4).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(list in prop::collection::vec(values(), 0..4)) {
            let mut out = BytesMut::new();
            list.iter().for_each(|value| value.write(&mut out));
            prop_assert_eq!(read_all(&out), Ok(list));
        }

        #[test]
        fn any_bytes_end_in_values_or_an_error(bytes: Vec<u8>) {
            if let Ok(values) = read_all(&bytes) {
                prop_assert!(values.len() <= VALUES_MAX);
            }
        }
    }

    #[test]
    fn strings_longer_than_64_kib_use_the_long_form() {
        let long = Value::String("x".repeat(70_000));
        let mut out = BytesMut::new();
        long.write(&mut out);
        assert_eq!(read_all(&out), Ok(vec![long]));
    }

    #[test]
    fn nesting_and_counts_are_bounded() {
        let deep = [STRICT_ARRAY, 0, 0, 0, 1].repeat(100);
        assert_eq!(read_all(&deep), Err(AmfError::Depth));
        assert_eq!(read_all(&[NULL; VALUES_MAX + 1]), Err(AmfError::Count));
        assert_eq!(read_all(&[STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Count));
    }

    #[test]
    fn a_wrong_count_of_an_ecma_array_does_no_harm() {
        let bytes = b"\x08\xff\xff\xff\xff\x00\x01a\x05\x00\x00\x09";
        let read = read_all(bytes).expect("the end marker decides");
        assert_eq!(read, vec![Value::object([("a", Value::Null)])]);
    }

    #[test]
    fn a_value_cut_anywhere_is_short() {
        let mut out = BytesMut::new();
        Value::object([("a", Value::from("b")), ("c", Value::from(1.0))]).write(&mut out);
        for cut in 1..out.len() {
            assert_eq!(read_all(&out[..cut]), Err(AmfError::Short), "cut at {cut}");
        }
    }
}

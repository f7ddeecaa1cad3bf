//! JSON objects in which every member has one value.
//!
//! Of a name that stands twice most parsers take the last and some the first (RFC 8259 §4), so that we and an application
//! behind us could read two different users in one token. RFC 7519 §4 allows to refuse that, and so we do, at any depth.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// An object without repeated names.
#[derive(Debug)]
pub(super) struct Object(pub(super) Map<String, Value>);

/// A value without repeated names in it.
struct Once(Value);

struct Reading;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Once::deserialize(deserializer)?.0 {
            Value::Object(object) => Ok(Self(object)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err(D::Error::custom("no object")),
        }
    }
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Once, E> {
        Ok(Once(Value::Null))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Once, E> {
        Ok(Once(Value::Bool(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Once, E> {
        Ok(Once(Value::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Once, E> {
        Ok(Once(Value::from(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Once, E> {
        Ok(Once(
            Number::from_f64(number).map_or(Value::Null, Value::Number),
        ))
    }

    fn visit_str<E>(self, text: &str) -> Result<Once, E> {
        Ok(Once(Value::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<Once, E> {
        Ok(Once(Value::String(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Once, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Once(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Once, A::Error> {
        let mut object = Map::new();
        while let Some((name, Once(value))) = members.next_entry::<String, Once>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Once(Value::Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_once_and_everything_else_is_as_it_was() {
        for (text, fine, why) in [
            (r#"{"a":1,"a":1}"#, false, "twice, even with the same value"),
            (r#"{"a":1,"\u0061":2}"#, false, "in another spelling"),
            (r#"{"o":{"a":1,"a":2}}"#, false, "below"),
            (r#"{"l":[[{"a":1,"a":2}]]}"#, false, "in a list"),
            ("[]", false, "no object"),
            ("\"x\"", false, "no object"),
            (r#"{"a":1} x"#, false, "something behind it"),
            (r#"{"a":1,"A":1}"#, true, "names are case-sensitive"),
            (r#"{"a":{"a":{"a":1}}}"#, true, "at another depth"),
            (
                r#"{"a":[1,-1,1.5,18446744073709551615,1e300,null,true,"é\n",{}],"b":[]}"#,
                true,
                "every kind of value",
            ),
        ] {
            let read = serde_json::from_str::<Object>(text);
            assert_eq!(read.is_ok(), fine, "{text}: {why}");
            if let Ok(Object(object)) = read {
                let plain = serde_json::from_str::<Value>(text).ok();
                assert_eq!(Some(Value::Object(object)), plain, "{text}: {why}");
            }
        }
    }
}

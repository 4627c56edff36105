//! Canonical JSON (RFC 8785), for what has no fractions: the same value is always the same bytes.

use std::fmt::Write as _;

use serde_json::Value;

/// The largest integer that every JSON reader keeps exactly, 2^53 - 1 (RFC 7493, section 2.2).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// As deep as `serde_json` reads: a limit on recursion, not on sense.
const MAX_DEPTH: usize = 128;

/// Why a value has no canonical form here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JcsError {
    /// A number that is no integer within ±(2^53 - 1). sealfs writes none.
    #[error("the number {0} is not an integer within ±9007199254740991")]
    Number(String),
    /// Arrays and objects within each other more than 128 deep.
    #[error("JSON nested more than 128 levels deep")]
    Depth,
}

/// `value` in canonical form (RFC 8785): no white space, keys sorted by UTF-16 code units, shortest escapes.
///
/// # Errors
/// If it holds a fraction, a number beyond ±(2^53 - 1), or is too deep.
pub fn canonical(value: &Value) -> Result<String, JcsError> {
    let mut out = String::with_capacity(1024);
    write_value(&mut out, value, 0)?;
    Ok(out)
}

/// Writes an object field by field, in canonical form, where what is written is known beforehand: without the tree of
/// values that [`canonical`] takes. Fields must come in the order of their names.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut String,
    last: &'static str,
}

impl<'a> Object<'a> {
    /// Begins one at the end of `out`.
    pub fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Object { out, last: "" }
    }

    fn name(&mut self, name: &'static str) -> &mut String {
        debug_assert!(self.last < name, "{name:?} after {:?}", self.last);
        if !self.last.is_empty() {
            self.out.push(',');
        }
        self.last = name;
        write_string(self.out, name);
        self.out.push(':');
        self.out
    }

    /// A string.
    pub fn text(&mut self, name: &'static str, text: &str) {
        write_string(self.name(name), text);
    }

    /// A whole number.
    ///
    /// # Errors
    /// If it is beyond 2^53 - 1.
    pub fn number(&mut self, name: &'static str, number: u64) -> Result<(), JcsError> {
        if number > MAX_INTEGER {
            return Err(JcsError::Number(number.to_string()));
        }
        // Writing to a string does not fail.
        let _ = write!(self.name(name), "{number}");
        Ok(())
    }

    /// `true`.
    pub fn yes(&mut self, name: &'static str) {
        self.name(name).push_str("true");
    }

    /// What is in canonical form already.
    pub fn canonical(&mut self, name: &'static str, text: &str) {
        self.name(name).push_str(text);
    }

    /// An object within it.
    pub fn object(&mut self, name: &'static str) -> Object<'_> {
        Object::begin(self.name(name))
    }

    /// Ends it.
    pub fn end(self) {
        self.out.push('}');
    }
}

fn write_value(out: &mut String, value: &Value, depth: usize) -> Result<(), JcsError> {
    if depth > MAX_DEPTH {
        return Err(JcsError::Depth);
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_none_or(|magnitude| magnitude > MAX_INTEGER) {
                return Err(JcsError::Number(number.to_string()));
            }
            out.push_str(&number.to_string());
        }
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_value(out, item, depth + 1)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            // RFC 8785, section 3.2.3: not by code points, nor by UTF-8; of ASCII it is all the same.
            if fields.iter().all(|(key, _)| key.is_ascii()) {
                fields.sort_by(|a, b| a.0.cmp(b.0));
            } else {
                fields.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            }
            out.push('{');
            for (at, (key, field)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, field, depth + 1)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// RFC 8785, section 3.2.2.2.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    if !text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[c as usize >> 4]));
                out.push(char::from(HEX[c as usize & 15]));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rfcs_strings_and_literals() {
        // RFC 8785, section 3.2.2, without its fractions.
        let text = r#"{"numbers": [56, 4, 0], "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
                      "literals": [null, true, false]}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let expected = "{\"literals\":[null,true,false],\"numbers\":[56,4,0],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(&value).unwrap(), expected);
    }

    #[test]
    fn the_rfcs_order() {
        // RFC 8785, section 3.2.3.
        let text = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
                      "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control",
                      "\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let expected = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
            \"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\
            \"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
        assert_eq!(canonical(&value).unwrap(), expected);
    }

    #[test]
    fn all_escapes() {
        let all: String = (0u8..0x80).map(char::from).collect();
        let expected = concat!(
            r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f"#,
            r"\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f",
            r##" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"##,
            "\u{7f}\"",
        );
        assert_eq!(canonical(&json!(all)).unwrap(), expected);
        assert_eq!(canonical(&json!("\u{2028}é😀")).unwrap(), "\"\u{2028}é😀\"");
    }

    #[test]
    fn what_is_written_field_by_field_is_the_same() {
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        object.number("a", MAX_INTEGER).unwrap();
        let mut inner = object.object("b");
        inner.text("x\u{e9}", "\"\n");
        inner.end();
        object.object("c").end();
        object.canonical("d", "[1]");
        object.yes("e");
        assert!(object.number("f", MAX_INTEGER + 1).is_err());
        object.end();
        let value = json!({"e": true, "d": [1], "c": {}, "b": {"x\u{e9}": "\"\n"}, "a": MAX_INTEGER});
        assert_eq!(out, canonical(&value).unwrap());
    }

    #[test]
    fn integers_only_and_only_safe_ones() {
        for good in [0i64, -1, 9_007_199_254_740_991, -9_007_199_254_740_991] {
            assert_eq!(canonical(&json!(good)).unwrap(), good.to_string());
        }
        let bad = [json!(9_007_199_254_740_992i64), json!(-9_007_199_254_740_992i64), json!(u64::MAX)];
        for bad in bad.into_iter().chain([json!(i64::MIN), json!(1.0), json!(-0.0), json!(1e300)]) {
            assert!(matches!(canonical(&json!({"a": [bad]})), Err(JcsError::Number(_))));
        }
    }

    #[test]
    fn depth_ends() {
        let nest = |levels| (0..levels).fold(json!(1), |value, _| json!([value]));
        canonical(&nest(128)).unwrap();
        assert_eq!(canonical(&nest(129)), Err(JcsError::Depth));
    }
}

//! Canonical JSON (RFC 8785): one byte string per value, so that both sides hash the same bytes.
//!
//! One difference from the RFC, which knows doubles only: integers of the full 64-bit range are written exactly.

use serde_json::{Map, Number, Value};

use crate::Error;

/// Arrays and objects may be nested this deep; deeper values are refused, for the walk is recursive.
pub const MAX_DEPTH: usize = 64;

/// Writes a value in canonical form: UTF-8, no whitespace, members sorted by UTF-16 code units.
///
/// # Errors
/// [`Error::Json`] where the value is nested deeper than [`MAX_DEPTH`] or holds a number that is not finite.
pub fn canonicalize(value: &Value) -> Result<Vec<u8>, Error> {
    let mut out = String::new();
    write_value(&mut out, value, 0)?;
    Ok(out.into_bytes())
}

fn refuse(problem: &str) -> Error {
    Error::Json { what: "canonical JSON", problem: problem.to_owned() }
}

fn write_value(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth >= MAX_DEPTH && matches!(value, Value::Array(_) | Value::Object(_)) {
        return Err(refuse("nested too deep"));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number)?,
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item, depth + 1)?;
            }
            out.push(']');
        }
        Value::Object(members) => write_object(out, members, depth)?,
    }
    Ok(())
}

fn write_object(out: &mut String, members: &Map<String, Value>, depth: usize) -> Result<(), Error> {
    let mut sorted: Vec<_> = members.iter().collect();
    // Code points above U+FFFF sort before U+E000..U+FFFF in UTF-16, unlike in UTF-8.
    sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        write_value(out, value, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

/// RFC 8785 §3.2.2.2: only what must be escaped is, in its short form where there is one, hex in lower case.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_number(out: &mut String, number: &Number) -> Result<(), Error> {
    if number.is_i64() || number.is_u64() {
        out.push_str(&number.to_string());
        return Ok(());
    }
    match number.as_f64() {
        Some(double) if double.is_finite() => write_double(out, double),
        _ => Err(refuse("a number is not finite")),
    }
}

/// The shortest digits that read back the same, as `d.ddde±x`; of those the closest, of two as close the even one.
fn shortest(double: f64) -> String {
    let shortest = format!("{double:e}");
    // Rust settles the length in the same way but takes the upper of two that are as close. Rounding to that many
    // digits takes the even one; it may miss the double only where the interval is lopsided (powers of two).
    let decimals = shortest.bytes().filter(u8::is_ascii_digit).count();
    let exponent_digits = shortest.rsplit('e').next().map_or(0, |e| e.trim_start_matches('-').len());
    let even = format!("{double:.*e}", decimals.saturating_sub(exponent_digits + 1));
    if even.parse() == Ok(double) { even } else { shortest }
}

/// ECMA-262 Number::toString: the shortest digits that read back the same, an exponent outside 1e-7 < x < 1e21.
fn write_double(out: &mut String, double: f64) -> Result<(), Error> {
    if double == 0.0 {
        out.push('0'); // negative zero too
        return Ok(());
    }
    if double < 0.0 {
        out.push('-');
    }
    let scientific = shortest(double.abs());
    let split = scientific.split_once('e').and_then(|(mantissa, e)| Some((mantissa, e.parse::<i32>().ok()?)));
    let Some((mantissa, exponent)) = split else {
        return Err(refuse("a number cannot be written"));
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // ECMA-262's k (how many digits) and n (where the decimal point stands, counted from the first digit).
    let count = i32::try_from(digits.len()).map_err(|_| refuse("a number cannot be written"))?;
    let point = exponent + 1;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    if count <= point && point <= 21 {
        out.push_str(&digits);
        out.push_str(&zeros(point - count));
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        out.push_str(&format!("{whole}.{fraction}"));
    } else if -6 < point && point <= 0 {
        out.push_str(&format!("0.{}{digits}", zeros(-point)));
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        out.push_str(&format!("{first}{dot}{rest}e{exponent:+}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::HashAlgorithm;

    fn text(value: &Value) -> String {
        String::from_utf8(canonicalize(value).unwrap()).unwrap()
    }

    #[test]
    fn known_answer() {
        let canonical = canonicalize(&json!({"b": 1, "a": "test", "c": {"d": "e"}})).unwrap();
        assert_eq!(canonical, br#"{"a":"test","b":1,"c":{"d":"e"}}"#);
        assert_eq!(
            hex::encode(HashAlgorithm::Sha384.digest(&canonical)),
            "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c4597480a186427c813ca941da78870c3"
        );
    }

    #[test]
    fn rfc_8785_sample() {
        // RFC 8785 §3.2.2 and its expected output in §3.2.4.
        // Rust reads the numbers here, the first without the RFC's excess digit: serde_json's own reader may be one
        // unit in the last place off.
        let value = json!({
            "numbers": [333_333_333.333_333_3, 1E30, 4.50, 2e-3, 0.000_000_000_000_000_000_000_000_001],
            "string": "\u{20ac}$\u{f}\nA'B\"\\\\\"/",
            "literals": [null, true, false],
        });
        assert_eq!(
            text(&value),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    #[test]
    fn rfc_8785_sorting() {
        // RFC 8785 §3.2.3: by UTF-16 code units.
        let value =
            json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        assert_eq!(
            text(&value),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn rfc_8785_numbers() {
        // RFC 8785 appendix B.
        for (bits, expected) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let mut out = String::new();
            write_double(&mut out, f64::from_bits(bits)).unwrap();
            assert_eq!(out, expected, "{bits:016x}");
        }
    }

    #[test]
    fn integers_are_exact() {
        assert_eq!(
            text(&json!([u64::MAX, i64::MIN, 0, -1])),
            "[18446744073709551615,-9223372036854775808,0,-1]"
        );
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| (0..n).fold(Value::Null, |inner, _| json!([inner]));
        assert!(canonicalize(&nested(MAX_DEPTH)).is_ok());
        assert!(canonicalize(&nested(MAX_DEPTH + 1)).is_err());
        let objects = (0..=MAX_DEPTH).fold(Value::Null, |inner, _| json!({ "a": inner }));
        assert!(canonicalize(&objects).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn doubles_read_back_the_same(double in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let mut out = String::new();
            write_double(&mut out, double).unwrap();
            prop_assert_eq!(out.parse::<f64>().unwrap().to_bits(), double.to_bits());
        }

        #[test]
        fn canonical_form_is_the_same_value_and_a_fixed_point(value in any_json()) {
            let canonical = canonicalize(&value).unwrap();
            let read: Value = serde_json::from_slice(&canonical).unwrap();
            prop_assert_eq!(&read, &value);
            prop_assert_eq!(canonicalize(&read).unwrap(), canonical);
        }
    }
}

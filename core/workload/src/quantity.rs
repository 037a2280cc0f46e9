//! Amounts as Kubernetes writes them (`k8s.io/apimachinery/pkg/api/resource`): `1`, `250m`, `64Mi`, `1.5G`, `1e3`.

use serde_json::Value;

/// An amount, in thousandths; rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(i128);

/// The largest that is taken: 2^63 - 1, which is Kubernetes' own limit.
const MAX: i128 = i64::MAX as i128;

impl Quantity {
    /// Reads a text or a number.
    pub(crate) fn of(value: &Value) -> Option<Quantity> {
        match value {
            Value::String(text) => Quantity::parse(text),
            Value::Number(number) => Quantity::parse(&number.to_string()),
            _ => None,
        }
    }

    /// Reads a text.
    pub(crate) fn parse(text: &str) -> Option<Quantity> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(digits)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.len() > 18 {
            return None;
        }
        // In units of 10^-18.
        let mut amount: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            amount = amount.checked_mul(10)?.checked_add(i128::from(digit.checked_sub(b'0')?))?;
        }
        if fraction.contains('.') {
            return None;
        }
        let scale = u32::try_from(fraction.len()).ok()?;
        let (base, exponent) = suffix_of(suffix)?;
        // amount / 10^scale * base^exponent * 1000
        let mut up: i128 = 1000;
        let mut down: i128 = 10_i128.checked_pow(scale)?;
        let power = i128::from(base).checked_pow(exponent.unsigned_abs())?;
        if exponent < 0 {
            down = down.checked_mul(power)?
        } else {
            up = up.checked_mul(power)?
        }
        let product = amount.checked_mul(up)?;
        let milli = product / down + i128::from(product % down != 0);
        (milli <= MAX * 1000).then_some(Quantity(milli))
    }

    /// In thousandths.
    pub(crate) fn milli(self) -> i128 {
        self.0
    }

    /// In whole ones, rounded up.
    pub(crate) fn whole(self) -> u64 {
        u64::try_from(self.0.div_euclid(1000) + i128::from(self.0.rem_euclid(1000) != 0)).unwrap_or(u64::MAX)
    }
}

fn suffix_of(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        exponent => {
            let number = exponent.strip_prefix(['e', 'E'])?;
            let number: i32 = number.parse().ok()?;
            (-18..=18).contains(&number).then_some((10, number))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, milli) in [
            ("0", 0),
            ("1", 1000),
            ("250m", 250),
            ("1.5", 1500),
            (".5", 500),
            ("2.", 2000),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1k", 1_000_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("100n", 1),
            ("1u", 1),
            ("+3", 3000),
            ("1e-3", 1),
        ] {
            assert_eq!(Quantity::parse(text).map(Quantity::milli), Some(milli), "{text}");
        }
        for bad in
            ["", "m", "-1", "1x", "1..2", "1.2.3", "1 Gi", "99999999999999999999", "1e99", "ä", "1Kib", "1e"]
        {
            assert_eq!(Quantity::parse(bad), None, "{bad}");
        }
        assert_eq!(Quantity::parse("1500m").map(Quantity::whole), Some(2));
        assert_eq!(Quantity::of(&serde_json::json!(2)).map(Quantity::whole), Some(2));
        assert_eq!(Quantity::of(&serde_json::json!(0.5)).map(Quantity::milli), Some(500));
        assert_eq!(Quantity::of(&serde_json::json!([])), None);
    }
}

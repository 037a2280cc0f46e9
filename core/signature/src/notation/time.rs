//! Instants of JWS headers: RFC 3339.

use der::DateTime;

/// Unix seconds of an instant not before 1970; fractions of a second are cut off.
pub(super) fn parse(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u16>().ok())?
    };
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| byte(*at) != Some(*mark)) {
        return None;
    }
    let small = |range| number(range).and_then(|n| u8::try_from(n).ok());
    let (year, month, day) = (number(0..4)?, small(5..7)?, small(8..10)?);
    let (hour, minute, second) = (small(11..13)?, small(14..16)?, small(17..19)?);
    let local = DateTime::new(year, month, day, hour, minute, second).ok()?.unix_duration().as_secs();
    let mut rest = text.get(19..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if zone.len() == fraction.len() {
            return None;
        }
        rest = zone;
    }
    if rest == "Z" {
        return Some(local);
    }
    let at = text.len() - rest.len();
    let offset = 3600 * u64::from(number(at + 1..at + 3)?) + 60 * u64::from(number(at + 4..at + 6)?);
    if rest.len() != 6 || byte(at + 3) != Some(b':') || offset >= 86_400 {
        return None;
    }
    match byte(at) {
        Some(b'+') => local.checked_sub(offset),
        Some(b'-') => local.checked_add(offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn instants_are_read_or_refused() {
        for (text, expected) in [
            ("2026-01-01T00:00:00Z", Some(1_767_225_600)),
            ("2026-01-01T02:00:00.25+02:00", Some(1_767_225_600)),
            ("2025-12-31T19:30:00-04:30", Some(1_767_225_600)),
            ("2026-01-01 00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00+24:00", None),
            ("2026-01-01T00:00:00+2:000", None),
            ("+026-01-01T00:00:00Z", None),
            ("2026-01-01T00:00:00ä+01", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}

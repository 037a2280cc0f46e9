//! Instants as Intel writes them: `2025-06-19T10:16:03Z`, always UTC, always in whole seconds (ISO 8601).

/// Unix seconds of an instant from 1970 to 9999; `None` for any other form.
pub(super) fn parse(text: &str) -> Option<u64> {
    let mut parts = text.strip_suffix('Z')?.split(['-', 'T', ':']);
    let mut number = |digits: usize| -> Option<u64> {
        let part = parts.next()?;
        let ok = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        ok.then(|| part.parse().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let (hour, minute, second) = (number(2)?, number(2)?, number(2)?);
    let unix = days(year, month, day)?.checked_mul(86_400)? + hour * 3600 + minute * 60 + second;
    // Writing it again finds wrong separators, months of 31 days that have fewer, and hours beyond 23.
    (format(unix) == text).then_some(unix)
}

/// Unix seconds as `2025-06-19T10:16:03Z`.
pub(super) fn format(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Years that begin in March, so that the leap day is the last one; 719,468 days from 0000-03-01 to 1970-01-01.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970-01-01.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_go_both_ways() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2018-05-21T10:45:10Z", 1_526_899_510),
            ("2024-03-13T00:00:00Z", 1_710_288_000),
            ("2049-12-31T23:59:59Z", 2_524_607_999),
        ] {
            assert_eq!(parse(text), Some(unix), "{text}");
            assert_eq!(format(unix), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_instant_is_read_as_written(unix in 0..253_402_300_800_u64) {
            assert_eq!(parse(&format(unix)), Some(unix));
        }

        #[test]
        fn nothing_panics(text in "\\PC*", unix: u64) {
            let _ = (parse(&text), format(unix));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "Z",
            "2025-06-19",
            "2025-06-19T10:16:03",
            "2025-06-19 10:16:03Z",
            "2025-06-19T10:16:03.0Z",
            "2025-02-30T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:60:00Z",
            "2025-01-01T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "2025-06-19T10:16:03+00:00",
            "+025-06-19T10:16:03Z",
            "2025-06-19T10:16:03:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

//! Times in text, as Unix seconds.

use der::DateTime;

/// `2021-12-18T20:59:59.999Z` (RFC 3339): UTC alone, fractions cut off.
pub(super) fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-');
    let mut time = without_fraction(time)?.splitn(3, ':');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    let (hour, minute, second) = (time.next()?, time.next()?, time.next()?);
    seconds([year, month, day, hour, minute, second])
}

/// `20211218205959.999Z` (DER GeneralizedTime as RFC 3161 uses it), fractions cut off.
pub(super) fn generalized(text: &str) -> Option<u64> {
    let text = without_fraction(text.strip_suffix('Z')?)?;
    let part = |from: usize, to: usize| text.get(from..to);
    if text.len() != 14 {
        return None;
    }
    seconds([part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?])
}

fn without_fraction(text: &str) -> Option<&str> {
    match text.split_once('.') {
        Some((whole, fraction)) => {
            let digits =
                !fraction.is_empty() && fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
            digits.then_some(whole)
        }
        None => Some(text),
    }
}

fn seconds(parts: [&str; 6]) -> Option<u64> {
    let lengths = [4, 2, 2, 2, 2, 2];
    if parts.iter().zip(lengths).any(|(p, n)| p.len() != n || !p.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let [year, month, day, hour, minute, second] = parts;
    let number = |text: &str| text.parse::<u8>().ok();
    let time = DateTime::new(
        year.parse().ok()?,
        number(month)?,
        number(day)?,
        number(hour)?,
        number(minute)?,
        number(second)?,
    );
    Some(time.ok()?.unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings() {
        assert_eq!(rfc3339("1970-01-02T00:00:01Z"), Some(86401));
        assert_eq!(rfc3339("2021-01-12T11:53:27.000Z"), Some(1_610_452_407));
        assert_eq!(generalized("20210112115327Z"), Some(1_610_452_407));
        assert_eq!(generalized("20210112115327.5Z"), Some(1_610_452_407));
        for bad in [
            "",
            "Z",
            "2021-01-12",
            "2021-01-12T11:53:27",
            "2021-01-12T11:53:27+01:00",
            "2021-13-12T11:53:27Z",
            "2021-01-12T11:53:27.Z",
            "+021-01-12T11:53:27Z",
        ] {
            assert_eq!(rfc3339(bad), None, "{bad}");
        }
        for bad in ["", "Z", "20210112115327", "2021011211532Z", "20210112115327.Z", "２０２１"] {
            assert_eq!(generalized(bad), None, "{bad}");
        }
    }
}

//! Times as people write and read them: RFC 3339 in UTC, and durations.

use cocoon_stage::{Code, Failure};

const DAY: u64 = 86_400;

/// The end that `--expires` names, in seconds since 1970: `90s`, `15m`, `12h`, `30d`, `8w` from now, or a date or time.
pub fn expiry(text: Option<&str>, now: u64) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let end = duration(text).map(|d| now.saturating_add(d)).or_else(|| time(text));
    match end {
        Some(end) if end > now => Ok(Some(end)),
        Some(_) => Err(Failure::new(Code::UsageInvalid, format!("--expires {text}: this time is over"))),
        None => Err(Failure::new(
            Code::UsageInvalid,
            format!(
                "--expires {text:?} is neither a duration such as 30d nor a time such as 2027-01-31T12:00:00Z"
            ),
        )),
    }
}

fn duration(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return None,
    };
    number(text.strip_suffix(unit)?)?.checked_mul(factor)
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// Seconds since 1970 of `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS[.fff]` with `Z` or `+HH:MM`; none before 1970.
pub fn time(text: &str) -> Option<u64> {
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    if year < 1970 || !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let days: u64 = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum::<u64>()
        + (1..month).map(|m| days_of(year, m)).sum::<u64>()
        + (day - 1);
    let Some(clock) = clock else { return Some(days * DAY) };
    let (clock, offset) = zone(clock)?;
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let mut parts = clock.split(':').map(|p| (p.len() == 2).then(|| number(p)).flatten());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    (days * DAY + hour * 3600 + minute * 60 + second).checked_add_signed(-offset)
}

/// An instant as a flag takes it: Unix seconds, or a date or time as [`time`] reads it.
pub fn instant(text: &str) -> Result<u64, String> {
    let of_number = || number(text).filter(|_| text.len() > 4);
    of_number().or_else(|| time(text)).ok_or_else(|| "not a time such as 2026-11-27T10:00:00Z".into())
}

/// The clock without its zone, and the zone's seconds east of UTC.
fn zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = clock.rfind(['+', '-'])?;
    let (clock, zone) = clock.split_at_checked(at)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i64::try_from(hours * 3600 + minutes * 60).ok()?;
    Some((clock, if zone.starts_with('-') { -seconds } else { seconds }))
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`.
pub fn shown(unix: u64) -> String {
    let (mut days, rest) = (unix / DAY, unix % DAY);
    // Beyond any certificate or clock; also keeps the loop short.
    if days > 2_932_896 {
        return format!("@{unix}");
    }
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", days + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, unix) in [
            ("1970-01-01", 0),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2027-01-31T12:00:00Z", 1_801_396_800),
            ("2027-01-31T13:00:00+01:00", 1_801_396_800),
            ("2027-01-31T12:00:00.123Z", 1_801_396_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(time(text), Some(unix), "{text}");
        }
        assert_eq!(shown(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(shown(253_402_300_799), "9999-12-31T23:59:59Z");
        assert_eq!(shown(u64::MAX), format!("@{}", u64::MAX));
        for unix in (0..40_000_000_000u64).step_by(86_399 * 777) {
            assert_eq!(time(&shown(unix)), Some(unix));
        }
        for bad in [
            "",
            "2027",
            "2027-13-01",
            "2027-02-29",
            "1969-12-31",
            "2027-1-1",
            "2027-01-01T25:00:00Z",
            "2027-01-01T12:00:00",
            "2027-01-01Tä",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!(expiry(Some("2h"), 100).unwrap(), Some(7300));
        assert_eq!(expiry(Some("2027-01-31"), 100).unwrap(), Some(1_801_353_600));
        assert_eq!(expiry(None, 100).unwrap(), None);
        for bad in ["", "h", "-1h", "5", "1y", "99999999999999999999d", "0s", "1970-01-01"] {
            assert_eq!(expiry(Some(bad), 100).unwrap_err().code, Code::UsageInvalid, "{bad}");
        }
    }
}

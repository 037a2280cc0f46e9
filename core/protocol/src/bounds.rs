//! How many values a JSON text may have: parsed, a value of few bytes takes more than a hundred times its length.

use crate::Error;

/// Most values of a message. Evidence that writes bytes as arrays of numbers has some ten thousand.
pub const MAX_VALUES: usize = 200_000;

/// Refuses a text that could hold more than [`MAX_VALUES`] values, before it is parsed. Counts what separates and opens
/// values, also within strings, so it may count too many, never too few.
///
/// # Errors
/// [`Error::Json`]; `what` names the message.
pub fn check(what: &'static str, text: &[u8]) -> Result<(), Error> {
    let count = text.iter().filter(|b| matches!(b, b',' | b'[' | b'{')).count();
    match count {
        0..=MAX_VALUES => Ok(()),
        _ => Err(Error::Json { what, problem: format!("more than {MAX_VALUES} values") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_values_are_too_many() {
        assert!(check("test", &b"0,".repeat(MAX_VALUES)).is_ok());
        assert!(check("test", &b"0,".repeat(MAX_VALUES + 1)).is_err());
        assert!(check("test", &b"{".repeat(MAX_VALUES + 1)).is_err());
        assert!(check("test", &vec![b'A'; 2 << 20]).is_ok(), "length alone is another's to bound");
    }
}

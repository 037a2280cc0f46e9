//! The nearest known name.

/// Longest name that is compared; a longer one is nobody's typing error.
const MAX_NAME: usize = 48;

/// The known name nearest to `name`, if near enough to be meant: at most two edits, and fewer than half its letters.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(MAX_NAME + 1).collect();
    if name.len() > MAX_NAME {
        return None;
    }
    known
        .into_iter()
        .filter_map(|other| {
            let other_letters: Vec<char> = other.chars().collect();
            let edits = distance(&name, &other_letters);
            (edits <= 2 && edits * 2 < other_letters.len()).then_some((edits, other))
        })
        .min()
        .map(|(_, other)| other)
}

/// Insertions, deletions and replacements between two names; a swap of neighbours is two.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_errors_are_understood_and_others_not_guessed() {
        let known = ["sockets", "listen", "tls_key", "url"];
        assert_eq!(nearest("sockts", known), Some("sockets"));
        assert_eq!(nearest("lsiten", known), Some("listen"));
        assert_eq!(nearest("tls_keys", known), Some("tls_key"));
        assert_eq!(nearest("completely", known), None);
        assert_eq!(nearest("abc", known), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
        assert_eq!(nearest("", known), None);
    }
}

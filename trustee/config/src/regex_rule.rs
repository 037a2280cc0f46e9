//! Access rules are regular expressions over paths; one that is not anchored allows more than it seems to.

/// Largest compiled form, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// Checks that `text` compiles, begins with `^/`, ends with `$` and is anchored in each of its alternatives.
pub(crate) fn check(text: &str) -> Result<(), &'static str> {
    if !text.starts_with("^/") || !ends_in_anchor(text) {
        return Err("it does not begin with `^/` and end with `$`, so it would match parts of other paths");
    }
    if bare_alternative(text) {
        return Err("a `|` outside of parentheses or a `(?` breaks the anchors (write `^/(a|b)$`)");
    }
    regex::RegexBuilder::new(text)
        .size_limit(MAX_COMPILED)
        .nest_limit(50)
        .build()
        .map(|_| ())
        .map_err(|_| "it is not a regular expression, or a too large one")
}

/// A `$` that is not `\$`.
fn ends_in_anchor(text: &str) -> bool {
    let Some(body) = text.strip_suffix('$') else { return false };
    body.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0
}

/// A `|` outside of parentheses and character classes. In doubt yes: the rule is then refused.
fn bare_alternative(text: &str) -> bool {
    // A class that begins with `]`, and groups with flags, change how the rest is read.
    if text.contains("[]") || text.contains("[^]") || text.replace("(?:", "").contains("(?") {
        return true;
    }
    let (mut depth, mut class, mut escaped) = (0usize, 0usize, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = class.saturating_add(1),
            ']' => class = class.saturating_sub(1),
            '(' if class == 0 => depth = depth.saturating_add(1),
            ')' if class == 0 => depth = depth.saturating_sub(1),
            '|' if depth == 0 && class == 0 => return true,
            _ => {}
        }
    }
    depth != 0 || class != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_match_more_than_they_say_are_refused() {
        for good in ["^/kbs/.+$", "^/(kbs|cocoon)/v0/[a-z|]+$", r"^/a\|b$", "^/(?:a|b)$", r"^/a\\$"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "kbs",
            "^/kbs",
            "/kbs$",
            "^/kbs/a|.*$",
            r"^/a\$",
            "^/($",
            "^/(a)|(b)$",
            "^/(?x)a$",
            "^/(?m:a)$",
            r"^/\w{1000}{1000}$",
            "^/[]|]$",
            "^/[](]|x[])]$",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}

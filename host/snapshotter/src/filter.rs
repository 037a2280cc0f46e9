//! containerd's filters (`name==x,labels."a.b"!=y`): selectors that must all hold, separated by commas.

use crate::{Error, Kind, Snapshot};

/// Most bytes of a filter.
const MAX_BYTES: usize = 8192;

/// One filter.
#[derive(Debug)]
pub(crate) struct Filter(Vec<Selector>);

#[derive(Debug, PartialEq, Eq)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, PartialEq, Eq)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
}

impl Filter {
    pub fn parse(text: &str) -> Result<Filter, Error> {
        let invalid = |why: &str| Error::Invalid(format!("the filter {text:?} {why}"));
        if text.len() > MAX_BYTES {
            return Err(Error::Invalid("a filter is too long".into()));
        }
        let mut selectors = Vec::new();
        let mut rest = text;
        loop {
            let mut path = Vec::new();
            loop {
                let (field, after) =
                    word(rest, &['.', '=', '!', '~', ',']).ok_or_else(|| invalid("has an open quote"))?;
                if field.is_empty() {
                    return Err(invalid("lacks a field"));
                }
                path.push(field);
                match after.strip_prefix('.') {
                    Some(next) => rest = next,
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
            let equal = rest.strip_prefix("==").map(|after| (after, true));
            let test = match equal.or_else(|| rest.strip_prefix("!=").map(|after| (after, false))) {
                Some((after, equal)) => {
                    let (value, after) = word(after, &[',']).ok_or_else(|| invalid("has an open quote"))?;
                    rest = after;
                    if equal { Test::Equal(value) } else { Test::NotEqual(value) }
                }
                None => Test::Present,
            };
            selectors.push(Selector { path, test });
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None if rest.is_empty() => return Ok(Filter(selectors)),
                None => return Err(invalid("has an operator other than == and !=")),
            }
        }
    }

    pub fn holds(&self, snapshot: &Snapshot) -> bool {
        self.0.iter().all(|selector| {
            let value = value(snapshot, &selector.path);
            match &selector.test {
                Test::Present => value.is_some_and(|v| !v.is_empty()),
                Test::Equal(wanted) => value.unwrap_or_default() == wanted,
                Test::NotEqual(unwanted) => value.unwrap_or_default() != unwanted,
            }
        })
    }
}

fn value<'a>(snapshot: &'a Snapshot, path: &[String]) -> Option<&'a str> {
    let (first, rest) = path.split_first()?;
    match (first.as_str(), rest) {
        ("name", []) => Some(&snapshot.name),
        ("parent", []) => Some(&snapshot.parent),
        ("kind", []) => Some(match snapshot.kind {
            Kind::View => "view",
            Kind::Active => "active",
            Kind::Committed => "committed",
        }),
        // A label's name may hold dots without quotes.
        ("labels", [_, ..]) => snapshot.labels.get(&rest.join(".")).map(String::as_str),
        _ => None,
    }
}

/// A quoted word, or what comes before one of the `ends`; and the rest. `None` for a quote that does not end.
fn word<'a>(text: &'a str, ends: &[char]) -> Option<(String, &'a str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
        return Some((word.to_owned(), rest));
    };
    let mut word = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, quoted.get(at.saturating_add(1)..)?)),
            '\\' => word.push(chars.next()?.1),
            _ => word.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Time;

    fn snapshot() -> Snapshot {
        Snapshot {
            id: 1,
            name: "sha256:aa".into(),
            parent: String::new(),
            kind: Kind::Committed,
            created: Time(0, 0),
            updated: Time(0, 0),
            labels: [("containerd.io/snapshot.ref".to_owned(), "sha256:aa".to_owned())].into(),
        }
    }

    #[test]
    fn containerds_filters_are_understood() {
        for (text, holds) in [
            (r#"labels."containerd.io/snapshot.ref"==sha256:aa,parent=="""#, true),
            (r#"labels."containerd.io/snapshot.ref"==sha256:aa,parent=="x""#, false),
            (r#"labels."containerd.io/snapshot.ref"=="sha256:aa""#, true),
            ("labels.containerd.io/snapshot.ref", true),
            ("labels.other", false),
            ("labels.other!=x", true),
            ("kind==committed", true),
            ("kind!=committed", false),
            ("name==sha256:aa", true),
            ("name==\"sha256:\\aa\"", true),
            ("parent", false),
            ("size==1", false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().holds(&snapshot()), holds, "{text}");
        }
        for bad in [
            "",
            ",",
            "name==x,",
            "name~=x",
            "name=x",
            "\"name",
            "name==\"x",
            ".name",
            "name.",
            "name==\"x\"y",
        ] {
            assert!(matches!(Filter::parse(bad), Err(Error::Invalid(_))), "{bad}");
        }
        assert!(Filter::parse(&"x".repeat(MAX_BYTES + 1)).is_err());
    }
}

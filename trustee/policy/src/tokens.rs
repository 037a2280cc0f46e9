//! Rego text as tokens: enough of the grammar to bound a policy before the engine's recursive code sees it.

use crate::Error;

/// Most tokens of a policy; every tree the engine builds from it is smaller than this.
const MAX_TOKENS: usize = 32 * 1024;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Name or keyword.
    Name,
    /// A string, with its quotes.
    Text,
    /// A number.
    Number,
    /// Anything else: one operator or bracket.
    Mark,
}

/// One token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Whether a line ended between the token before and this one.
    pub new_line: bool,
}

impl Token<'_> {
    pub fn is(&self, text: &str) -> bool {
        self.kind == TokenKind::Mark && self.text == text
    }

    /// The content of a string without escapes.
    pub fn plain(&self) -> Option<&str> {
        let inner = self.text.get(1..self.text.len().checked_sub(1)?)?;
        (self.kind == TokenKind::Text && !inner.contains('\\')).then_some(inner)
    }
}

/// All tokens of a text. Strings that do not end are an error; anything unknown is left to the real parser.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Error> {
    scan(text, false)
}

/// The same for the text of one rule, as the engine cuts it: without the last quotation mark, if a string ends it.
pub(crate) fn rule_tokens(text: &str) -> Result<Vec<Token<'_>>, Error> {
    scan(text, true)
}

fn scan(text: &str, cut: bool) -> Result<Vec<Token<'_>>, Error> {
    let mut found: Vec<Token<'_>> = Vec::new();
    let (mut at, mut new_line) = (0, true);
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        let (kind, length) = match first {
            '\n' => {
                new_line = true;
                at += 1;
                continue;
            }
            '#' => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '"' => (TokenKind::Text, if cut { quoted(rest).unwrap_or(rest.len()) } else { quoted(rest)? }),
            '`' => (TokenKind::Text, if cut { raw(rest).unwrap_or(rest.len()) } else { raw(rest)? }),
            c if name_char(c) && !c.is_ascii_digit() => {
                (TokenKind::Name, rest.find(|c| !name_char(c)).unwrap_or(rest.len()))
            }
            c if c.is_ascii_digit() => (TokenKind::Number, number(rest)),
            _ => (TokenKind::Mark, mark(rest, first)),
        };
        let Some(text) = rest.get(..length) else { break };
        found.push(Token { kind, text, new_line });
        if found.len() > MAX_TOKENS {
            return Err(Error::Invalid(format!("more than {MAX_TOKENS} words and signs")));
        }
        new_line = false;
        at += length;
    }
    Ok(found)
}

fn name_char(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

fn quoted(rest: &str) -> Result<usize, Error> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => break,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(at + 1),
            _ => {}
        }
    }
    Err(Error::Invalid("a string does not end on its line".into()))
}

fn raw(rest: &str) -> Result<usize, Error> {
    let inner = rest.get(1..).unwrap_or_default();
    inner.find('`').map(|at| at + 2).ok_or_else(|| Error::Invalid("a raw string does not end".into()))
}

/// The length of a number; its sign after an exponent belongs to it, its fraction point does, a range's dots do not
/// exist in Rego.
fn number(rest: &str) -> usize {
    let mut before = ' ';
    for (at, c) in rest.char_indices() {
        let sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
        if !(name_char(c) || c == '.' || sign) {
            return at;
        }
        before = c;
    }
    rest.len()
}

fn mark(rest: &str, first: char) -> usize {
    let two = [":=", "==", "!=", "<=", ">="];
    if two.iter().any(|m| rest.starts_with(m)) { 2 } else { first.len_utf8() }
}

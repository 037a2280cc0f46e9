//! What a policy's text may look like: bounded nesting and chains, known functions, no output.
//!
//! The engine parses, analyses and evaluates by recursion. A text within these bounds cannot exhaust the stack of
//! the thread it is evaluated in.

use std::collections::BTreeSet;

use crate::Error;
use crate::tokens::{Token, TokenKind};

/// Deepest nesting of brackets.
const MAX_NESTING: usize = 48;
/// Most operators and reference steps in one expression.
const MAX_CHAIN: usize = 256;

/// Functions of the engine's groups std, regex, base64 and time, and the one that Trustee adds. `print` is not among
/// them: a policy's output would go to nobody.
const FUNCTIONS: &str = "query_reference_value abs ceil floor numbers.range numbers.range_step rand.intn round count \
    max min product sort sum array.concat array.reverse array.slice intersection union json.filter json.remove \
    object.filter object.get object.keys object.remove object.subset object.union object.union_n concat contains \
    endswith format_int indexof indexof_n lower replace split sprintf startswith strings.any_prefix_match \
    strings.any_suffix_match strings.count strings.replace_n strings.reverse substring trim trim_left trim_prefix \
    trim_right trim_space trim_suffix upper regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match \
    regex.replace regex.split regex.template_match bits.and bits.lsh bits.negate bits.or bits.rsh bits.xor to_number \
    is_array is_boolean is_null is_number is_object is_set is_string type_name base64.decode base64.encode \
    base64.is_valid json.is_valid json.marshal json.marshal_with_options json.unmarshal time.add_date time.clock \
    time.date time.diff time.format time.now_ns time.parse_duration_ns time.parse_ns time.parse_rfc3339_ns \
    time.weekday trace units.parse units.parse_bytes";

/// Words that may stand before a bracket without calling anything.
const KEYWORDS: [&str; 13] = [
    "in", "not", "if", "else", "some", "every", "with", "as", "default", "contains", "import", "package",
    "set",
];

/// The nesting and the longest chain of a run of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    pub nesting: usize,
    pub chain: usize,
}

/// Measures tokens; `Err` where the bounds are broken.
pub(crate) fn extent(tokens: &[Token<'_>]) -> Result<Extent, Error> {
    let mut chains = vec![0_usize];
    let mut seen = Extent::default();
    let mut before: Option<Token<'_>> = None;
    for token in tokens {
        if token.new_line
            && before.is_none_or(|b| b.kind != TokenKind::Mark || closes(&b))
            && !operates(token)
        {
            chains.last_mut().map(|chain| *chain = 0).unwrap_or_default();
        }
        if opens(token) {
            // `a[b]` and `f(x)` also lengthen the chain they stand in.
            lengthen(&mut chains, &mut seen);
            chains.push(0);
            seen.nesting = seen.nesting.max(chains.len() - 1);
        } else if closes(token) {
            if chains.len() > 1 {
                chains.pop();
            }
        } else if token.kind == TokenKind::Mark && matches!(token.text, "," | ";" | ":=") {
            chains.last_mut().map(|chain| *chain = 0).unwrap_or_default();
        } else if operates(token) {
            lengthen(&mut chains, &mut seen);
        }
        before = Some(*token);
    }
    if seen.nesting > MAX_NESTING {
        return Err(Error::Invalid(format!("brackets are nested {} deep", seen.nesting)));
    }
    if seen.chain > MAX_CHAIN {
        return Err(Error::Invalid(format!("an expression has more than {MAX_CHAIN} operators")));
    }
    Ok(seen)
}

fn lengthen(chains: &mut [usize], seen: &mut Extent) {
    if let Some(chain) = chains.last_mut() {
        *chain += 1;
        seen.chain = seen.chain.max(*chain);
    }
}

fn opens(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Mark && matches!(token.text, "(" | "[" | "{")
}

fn closes(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Mark && matches!(token.text, ")" | "]" | "}")
}

/// Whether a token joins two operands, or is a word that does.
fn operates(token: &Token<'_>) -> bool {
    match token.kind {
        TokenKind::Mark => !opens(token) && !closes(token) && !matches!(token.text, "," | ";" | ":="),
        TokenKind::Name => matches!(token.text, "in" | "else" | "not" | "with" | "every"),
        _ => false,
    }
}

/// Refuses calls of functions that are neither the engine's nor the policy's own.
pub(crate) fn calls(tokens: &[Token<'_>], own: &BTreeSet<String>) -> Result<(), Error> {
    let known: BTreeSet<&str> = FUNCTIONS.split_whitespace().collect();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        if token.kind != TokenKind::Name || before.is_some_and(|b| b.is(".")) {
            continue;
        }
        let path = path_at(tokens, at);
        let called = tokens.get(at + path.length).is_some_and(|t| t.is("("));
        if !called || (path.length == 1 && KEYWORDS.contains(&token.text)) {
            continue;
        }
        let name = path.names.join(".");
        let local = name.strip_prefix("data.policy.").unwrap_or(&name);
        if !(known.contains(name.as_str()) || own.contains(local)) {
            return Err(Error::Builtin(name));
        }
    }
    Ok(())
}

/// The reference that begins at a name: its leading fixed parts and how many tokens they are.
pub(crate) struct Path {
    pub names: Vec<String>,
    pub length: usize,
}

/// Reads `a.b["c"]` from a position that holds a name.
pub(crate) fn path_at(tokens: &[Token<'_>], at: usize) -> Path {
    let token = |i: usize| tokens.get(at + i);
    let mut path = Path { names: token(0).map(|t| t.text.to_owned()).into_iter().collect(), length: 1 };
    loop {
        let next = path.length;
        match (token(next), token(next + 1), token(next + 2)) {
            (Some(dot), Some(name), _) if dot.is(".") && name.kind == TokenKind::Name => {
                path.names.push(name.text.to_owned());
                path.length += 2;
            }
            (Some(open), Some(text), Some(close))
                if open.is("[") && !open.new_line && close.is("]") && text.plain().is_some() =>
            {
                path.names.push(text.plain().unwrap_or_default().to_owned());
                path.length += 3;
            }
            _ => return path,
        }
    }
}

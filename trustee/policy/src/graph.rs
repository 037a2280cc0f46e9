//! The rules of a policy, and that none of its functions can reach itself.
//!
//! The engine notices rules that need themselves while it evaluates, but not functions. Without such a circle every
//! rule is on the stack at most once, so the stack's depth is bounded by the text's length.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::shape::{extent, path_at};
use crate::tokens::{Token, TokenKind, rule_tokens};

/// Most rules with different names.
const MAX_RULES: usize = 2048;

/// The rules of a policy by name; a name's definitions are one.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    names: BTreeSet<String>,
    /// Each function with the functions its definitions mention.
    functions: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// From the source text of each rule, as the parser divided them.
    pub fn of(texts: &[String]) -> Result<Self, Error> {
        let mut rules = Vec::with_capacity(texts.len());
        for text in texts {
            let rule = rule_tokens(text)?;
            extent(&rule)?;
            if let Some(head) = Head::of(&rule) {
                rules.push((head, rule));
            }
        }
        let mut graph = Graph::default();
        for (head, _) in &rules {
            graph.names.insert(head.name.clone());
            if head.function {
                graph.functions.insert(head.name.clone(), BTreeSet::new());
            }
        }
        if graph.names.len() > MAX_RULES {
            return Err(Error::Invalid(format!("more than {MAX_RULES} rules")));
        }
        let functions = graph.functions();
        for (head, rule) in &rules {
            if let Some(mentions) = graph.functions.get_mut(&head.name) {
                mentions.extend(mentioned(rule.get(head.body..).unwrap_or_default(), &functions));
            }
        }
        Ok(graph)
    }

    /// Whether there is a rule with this name, or one below it.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
            || self.names.iter().any(|n| n.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Whether a rule has exactly this name.
    pub fn has_whole(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Names of the policy's functions.
    pub fn functions(&self) -> BTreeSet<String> {
        self.functions.keys().cloned().collect()
    }

    /// Refuses functions that can reach themselves: what is left after functions without unknown ends are taken away
    /// again and again is a circle, or leads into one.
    pub fn check(&self) -> Result<(), Error> {
        let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, mentions) in &self.functions {
            left.insert(name, mentions.iter().map(String::as_str).collect());
        }
        loop {
            let ends: Vec<&str> = left.iter().filter(|(_, m)| m.is_empty()).map(|(name, _)| *name).collect();
            if ends.is_empty() {
                break;
            }
            for end in &ends {
                left.remove(end);
            }
            for mentions in left.values_mut() {
                mentions.retain(|name| !ends.contains(name));
            }
        }
        match left.keys().next() {
            Some(name) => Err(Error::Invalid(format!("function {name} can call itself"))),
            None => Ok(()),
        }
    }
}

/// The functions that a text mentions, called or as a `with` replacement.
fn mentioned(body: &[Token<'_>], functions: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, token) in body.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| body.get(at));
        if token.kind != TokenKind::Name || before.is_some_and(|b| b.is(".")) {
            continue;
        }
        let name = path_at(body, at).names.join(".");
        let name = name.strip_prefix("data.policy.").unwrap_or(&name);
        if functions.contains(name) {
            found.insert(name.to_owned());
        }
    }
    found
}

/// How a rule begins.
struct Head {
    name: String,
    function: bool,
    /// Where what is not its name begins.
    body: usize,
}

impl Head {
    fn of(rule: &[Token<'_>]) -> Option<Head> {
        let start =
            usize::from(rule.first().is_some_and(|t| t.kind == TokenKind::Name && t.text == "default"));
        rule.get(start).filter(|t| t.kind == TokenKind::Name)?;
        let path = path_at(rule, start);
        let body = start + path.length;
        Some(Head { name: path.names.join("."), function: rule.get(body).is_some_and(|t| t.is("(")), body })
    }
}

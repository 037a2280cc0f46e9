//! Which paths a role may administer.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{Ast, parse::ParserBuilder};

use crate::config::AclRule;
use crate::path::canonical;
use crate::{Denied, Error};

/// How an expression must begin.
const PREFIXES: [&str; 3] = ["/kbs", "/cocoon", "/t/"];
/// Most expressions in all rules together.
const MAX_ENDPOINTS: usize = 1024;
/// Longest expression, in bytes.
const MAX_REGEX: usize = 1024;
/// Largest compiled expression and its cache, in bytes each.
const MAX_COMPILED: usize = 256 * 1024;
/// Deepest nesting of an expression.
const MAX_NESTING: u32 = 32;

/// The compiled rules, by role.
#[derive(Debug)]
pub(crate) struct Acl {
    roles: BTreeMap<String, Vec<Endpoint>>,
}

#[derive(Debug)]
struct Endpoint {
    prefix: &'static str,
    regex: Regex,
}

impl Acl {
    pub(crate) fn new(rules: &[AclRule]) -> Result<Self, Error> {
        if rules.iter().map(|rule| rule.allowed_endpoints.len()).sum::<usize>() > MAX_ENDPOINTS {
            return Err(Error::Setting(format!("more than {MAX_ENDPOINTS} endpoints in the access rules")));
        }
        let mut roles: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
        for rule in rules {
            crate::provider::check_name("role of an access rule", &rule.role)?;
            let endpoints = roles.entry(rule.role.clone()).or_default();
            for text in &rule.allowed_endpoints {
                endpoints.extend(compile(text).map_err(|reason| Error::Endpoint {
                    role: rule.role.clone(),
                    regex: text.chars().take(MAX_REGEX).collect(),
                    reason,
                })?);
            }
        }
        Ok(Acl { roles })
    }

    /// Whether the role may use the path, raw and without its query.
    pub(crate) fn check(&self, role: &str, path: &str) -> Result<(), Denied> {
        let refused = |why: &str| Denied::forbidden(format!("Role {role} not allowed: {why}"));
        let Some(endpoints) = self.roles.get(role) else {
            return Err(refused("no access rule names it"));
        };
        let path = canonical(path).map_err(refused)?;
        if endpoints.iter().any(|e| path.starts_with(e.prefix) && e.regex.is_match(&path)) {
            Ok(())
        } else {
            Err(refused("no access rule of it allows this path"))
        }
    }
}

/// Compiles an expression. Where its top level is an alternation, each branch must have both anchors, because an
/// anchor binds only the branch it stands in: `^/kbs/a|.*$` would match everything.
fn compile(text: &str) -> Result<Vec<Endpoint>, String> {
    match parse(text)? {
        Ast::Alternation(ref alternation) => {
            let branch = |ast: &Ast| {
                if has_flags(ast) {
                    return Err("flags together with an alternation that is in no group".to_owned());
                }
                let span = ast.span();
                branch(text.get(span.start.offset..span.end.offset).unwrap_or_default())
            };
            alternation.asts.iter().map(branch).collect()
        }
        _ => Ok(vec![branch(text)?]),
    }
}

fn parse(text: &str) -> Result<Ast, String> {
    if text.len() > MAX_REGEX {
        return Err(format!("longer than {MAX_REGEX} bytes"));
    }
    ParserBuilder::new().nest_limit(MAX_NESTING).build().parse(text).map_err(|e| e.kind().to_string())
}

/// Flags that would reach into the branches after this one.
fn has_flags(ast: &Ast) -> bool {
    match ast {
        Ast::Flags(_) => true,
        Ast::Concat(concat) => concat.asts.iter().any(|ast| matches!(ast, Ast::Flags(_))),
        _ => false,
    }
}

fn branch(text: &str) -> Result<Endpoint, String> {
    let begins = || format!("every alternative must begin with one of ^{}", PREFIXES.join(" ^"));
    let inner = text.strip_prefix('^').ok_or_else(begins)?;
    let prefix = PREFIXES.into_iter().find(|prefix| inner.starts_with(prefix)).ok_or_else(begins)?;
    let inner = inner.strip_suffix('$').ok_or("every alternative must end with $")?;
    // `^/kbs{0}` does not begin with /kbs.
    if inner.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['*', '+', '?', '{'])) {
        return Err("a repetition follows the beginning".to_owned());
    }
    // Whole on its own, so that nothing in it closes the group that is put around it, and without an escaped `$`.
    if matches!(parse(inner)?, Ast::Alternation(_)) {
        return Err("an alternation that is in no group".to_owned());
    }
    let regex = RegexBuilder::new(&format!(r"\A(?:{inner})\z"))
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(MAX_NESTING.saturating_add(1))
        .build()
        .map_err(|e| e.to_string())?;
    Ok(Endpoint { prefix, regex })
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;

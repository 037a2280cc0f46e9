//! What was found: a line for each thing looked at.

use cocoon_stage::Failure;
use serde_json::{Value, json};

use super::super::pods::plain;
use crate::admin::say;

/// Longest text of the cluster's that is repeated, in characters.
const MAX_WORDS: usize = 400;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

#[derive(Debug)]
struct Finding {
    about: String,
    state: State,
    words: String,
    next: String,
}

/// What was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    fn push(&mut self, about: &str, state: State, words: &str, next: &str) {
        let cut = |text: &str| plain(text).chars().take(MAX_WORDS).collect::<String>();
        self.0.push(Finding { about: cut(about), state, words: cut(words), next: next.to_owned() });
    }

    pub fn ok(&mut self, about: &str, words: impl AsRef<str>) {
        self.push(about, State::Ok, words.as_ref(), "");
    }

    pub fn warn(&mut self, about: &str, words: impl AsRef<str>, next: &str) {
        self.push(about, State::Warn, words.as_ref(), next);
    }

    pub fn fail(&mut self, about: &str, words: impl AsRef<str>, next: &str) {
        self.push(about, State::Fail, words.as_ref(), next);
    }

    /// What could not be looked at.
    pub fn unknown(&mut self, about: &str, failure: &Failure) {
        self.push(
            about,
            State::Warn,
            &format!("cannot be looked at: {}", failure.reason),
            failure.next_step(),
        );
    }

    /// Says all of it; gives the exit status.
    pub fn tell(&self, as_json: bool) -> u8 {
        let count = |state| self.0.iter().filter(|f| f.state == state).count();
        let (ok, warn, fail) = (count(State::Ok), count(State::Warn), count(State::Fail));
        if as_json {
            let checks: Vec<Value> = self
                .0
                .iter()
                .map(|f| json!({"about": f.about, "state": f.state.word(), "words": f.words, "next": f.next}))
                .collect();
            say(&json!({"type": "doctor", "ok": ok, "warn": warn, "fail": fail, "checks": checks})
                .to_string());
        } else {
            let width = self.0.iter().map(|f| f.about.chars().count()).max().unwrap_or(0).min(40);
            for Finding { about, state, words, next } in &self.0 {
                say(&format!("{:<4}  {about:<width$}  {words}", state.word()));
                if !next.is_empty() {
                    say(&format!("      {:<width$}  next: {next}", ""));
                }
            }
            say(&match fail {
                0 => format!("nothing is broken: {ok} ok, {warn} warnings"),
                _ => format!("{fail} things are broken: {ok} ok, {warn} warnings"),
            });
        }
        u8::from(fail > 0)
    }

    #[cfg(test)]
    pub fn states(&self) -> Vec<(&str, State)> {
        self.0.iter().map(|f| (f.about.as_str(), f.state)).collect()
    }
}

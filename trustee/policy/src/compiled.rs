//! A policy that was parsed once and is evaluated many times.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use regorus::{Engine, PolicyLengthConfig, Value as Rego};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::Graph;
use crate::json::to_rego;
use crate::outcome::{AttestationOutcome, Trace};
use crate::run::{evaluate, no_lookup, run, shortened};
use crate::shape::{calls, extent};
use crate::tokens::tokens;
use crate::{Error, MAX_TEXT, TIME_LIMIT};

/// The name the engine gives the text in its messages.
const FILE: &str = "policy.rego";
/// Reads a rule that is defined only member by member; the engine evaluates whole rules.
const ENTRY: &str = "data.cocoon_entry.answer";
/// The rule with an attestation policy's optional additions to the token.
const EXTENSIONS: &str = "data.policy.extensions";
/// Longest line, in characters.
const MAX_LINE: u32 = 16 * 1024;

/// Looks up a reference value by its id: one value, a list of them, or nothing. `Err` says why it could not.
pub type References<'a> = dyn Fn(&str) -> Result<Option<Value>, String> + 'a;

/// What a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// How far evidence is trusted: rule `trust_claims`.
    Attestation,
    /// Whether a resource is released: rule `allow`.
    Resource,
}

impl Kind {
    /// The name in records: `attestation` or `resource`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Attestation => "attestation",
            Kind::Resource => "resource",
        }
    }

    /// The rule that a policy of this kind must define.
    pub const fn rule(self) -> &'static str {
        match self {
            Kind::Attestation => "trust_claims",
            Kind::Resource => "allow",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Kind::Attestation => "data.policy.trust_claims",
            Kind::Resource => "data.policy.allow",
        }
    }
}

/// A policy ready to be evaluated, by any number of threads at once.
///
/// Evaluations block their caller for up to a few seconds in the worst case and for well under a millisecond
/// normally; async callers use a blocking thread.
pub struct Compiled {
    kind: Kind,
    engine: Engine,
    rules: Vec<&'static str>,
    limit: Duration,
    stuck: Arc<AtomicBool>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Compiled {
    /// Parses and checks a policy of at most [`MAX_TEXT`] bytes: Rego v1 (`import rego.v1` may be left out), package
    /// `policy`, the rule that its kind needs, no functions but the engine's groups std, regex, base64 and time.
    pub fn new(kind: Kind, text: &str) -> Result<Self, Error> {
        Self::with_time_limit(kind, text, TIME_LIMIT)
    }

    /// The same with another time limit for each evaluation.
    pub fn with_time_limit(kind: Kind, text: &str, limit: Duration) -> Result<Self, Error> {
        if text.len() > MAX_TEXT {
            return Err(Error::TooLong(text.len()));
        }
        let stuck = Arc::new(AtomicBool::new(false));
        let text = text.to_owned();
        let (engine, rules) = run(TIME_LIMIT, &stuck, no_lookup, move |_| compile(kind, text)).map_err(
            |error| match error {
                Error::Failed(reason) => Error::Invalid(reason),
                Error::Time(_) => Error::Invalid("it takes too long to compile".into()),
                other => other,
            },
        )?;
        Ok(Compiled { kind, engine, rules, limit, stuck })
    }

    /// What the policy decides.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Appraises evidence.
    ///
    /// `input` is `{"<tee>": {…claims…}, "init_data_claims": …, "runtime_data_claims": …, "init_data": …,
    /// "report_data": …}`; `references` answers `query_reference_value`. A policy whose `trust_claims` has no value
    /// claims nothing. Any error means that there is no verdict.
    pub fn attestation(
        &self,
        input: &Value,
        references: &References<'_>,
    ) -> Result<AttestationOutcome, Error> {
        self.must_be(Kind::Attestation)?;
        let begun = Instant::now();
        let trace = RefCell::new(Trace::default());
        let lookup = |id: &str| trace.borrow_mut().ask(id, references);
        let values = self.evaluate(None, input, lookup)?;
        let mut trace = trace.into_inner();
        trace.elapsed = begun.elapsed();
        AttestationOutcome::new(&values, trace)
    }

    /// Whether a resource may be released.
    ///
    /// `data` is the object `{"plugin": "…", "resource-path": […], "query": {…}}`, which the policy sees as `data`;
    /// `input` are the claims of the token. A policy whose `allow` has no value denies.
    pub fn resource(&self, data: &Value, input: &Value) -> Result<bool, Error> {
        self.must_be(Kind::Resource)?;
        let members = data.as_object().ok_or(Error::Input("without its data"))?;
        if members.contains_key("policy") {
            return Err(Error::Input("one whose data hides the policy"));
        }
        let values = self.evaluate(Some(data), input, no_lookup)?;
        match values.first() {
            Some(Rego::Bool(allow)) => Ok(*allow),
            Some(Rego::Undefined) => Ok(false),
            _ => Err(Error::Answer("allow is neither true nor false".into())),
        }
    }

    fn must_be(&self, kind: Kind) -> Result<(), Error> {
        if self.kind == kind {
            Ok(())
        } else {
            Err(Error::Failed(format!("it is no {} policy", kind.name())))
        }
    }

    fn evaluate(
        &self,
        data: Option<&Value>,
        input: &Value,
        lookup: impl FnMut(&str) -> Result<Rego, Error>,
    ) -> Result<Vec<Rego>, Error> {
        let input = to_rego(input)?;
        let data = data.map(to_rego).transpose()?;
        let (mut engine, rules, limit) = (self.engine.clone(), self.rules.clone(), self.limit);
        run(limit, &self.stuck, lookup, move |asker| {
            if let Some(data) = data {
                engine.add_data(data).map_err(|error| Error::Failed(shortened(&error.to_string())))?;
            }
            evaluate(engine, &rules, input, asker, limit)
        })
    }
}

/// The prepared engine, and the rules to evaluate.
fn compile(kind: Kind, text: String) -> Result<(Engine, Vec<&'static str>), Error> {
    let all = tokens(&text)?;
    extent(&all)?;
    let invalid = |error: &dyn fmt::Display| Error::Invalid(shortened(&error.to_string()));
    let mut engine = Engine::new();
    let mut lengths = PolicyLengthConfig::default();
    lengths.max_col = MAX_LINE.try_into().unwrap_or(lengths.max_col);
    engine.set_policy_length_config(lengths);
    let package = engine.add_policy(FILE.into(), text.clone()).map_err(|error| invalid(&error))?;
    if package != "data.policy" {
        return Err(Error::Invalid(format!("its package is {package}, not policy")));
    }
    let modules = engine.get_modules();
    let rules: Vec<String> = modules
        .iter()
        .flat_map(|module| module.policy.iter().map(|rule| rule.span().text().to_owned()))
        .collect();
    let graph = Graph::of(&rules)?;
    graph.check()?;
    calls(&all, &graph.functions())?;
    if !graph.has(kind.rule()) {
        return Err(Error::Invalid(format!("it does not define {}", kind.rule())));
    }
    let path = if graph.has_whole(kind.rule()) {
        kind.path()
    } else {
        let entry = format!("package cocoon_entry\nanswer := {}", kind.path());
        engine.add_policy("entry.rego".into(), entry).map_err(|error| invalid(&error))?;
        ENTRY
    };
    // Prepares the engine, so that its clones need not.
    engine.compile_with_entrypoint(&path.into()).map_err(|error| invalid(&error))?;
    let extensions = kind == Kind::Attestation && graph.has_whole("extensions");
    Ok((engine, [Some(path), extensions.then_some(EXTENSIONS)].into_iter().flatten().collect()))
}

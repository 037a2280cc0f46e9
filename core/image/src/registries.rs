//! Where images really come from: mirrors, other locations, blocked registries and plain HTTP, as the text of a
//! registries.conf says (containers-registries.conf(5), version 2).
//!
//! What an image is *called* never changes here: policies and credentials of an image are decided on the name its
//! user wrote, and what a mirror gives is checked by digest, so a mirror can only refuse. Three things differ from
//! other readers of this file, each to the safer side:
//! - A prefix matches whole components only: `b.com` is neither `a.b.com` nor `b.com:5000`, and `b.com/x` is not
//!   `b.com/xy`. Prefixes with a tag or digest are refused. `b.com:443` is `b.com`, and a *block* without a port is
//!   for all ports of its host.
//! - `insecure = true` means that this one place is spoken to in plain HTTP. Certificates are never left unchecked;
//!   a registry with a certificate of its own needs its authority added to the trusted ones.
//! - A key that is not known is an error, and so are credential helpers, which are programs.
//!
//! Drop-in directories and the version 1 format are not read.

mod file;

use std::collections::{BTreeMap, HashSet};

use cocoon_stage::{Code, Failure};

use crate::Reference;
use file::{File, PullFrom};

/// The longest text read, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// The most places one image may come from, itself included.
const MAX_SOURCES: usize = 32;

/// What can be wrong with registries.conf or with an image under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a registries.conf that is understood to its last key.
    #[error("registries.conf: {0}")]
    Malformed(String),
    /// The image's name is under a blocked prefix.
    #[error("{name} is blocked by registries.conf (prefix {prefix:?})")]
    Blocked {
        /// The image.
        name: String,
        /// The prefix that blocks it.
        prefix: String,
    },
    /// A name cannot be completed or moved to another location.
    #[error("registries.conf: {0}")]
    Name(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match e {
            Error::Malformed(_) => Code::PlanInvalid,
            Error::Blocked { .. } => Code::ImagePolicyRejected,
            Error::Name(_) => Code::PlanImageReferenceInvalid,
        };
        Failure::new(code, e.to_string())
    }
}

/// A place to ask for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The image as that place knows it; tag and digest are those of the name asked for.
    pub reference: Reference,
    /// Whether the place is spoken to in plain HTTP. Loopback is anyway.
    pub plain_http: bool,
}

/// A parsed registries.conf.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    search: Vec<String>,
    aliases: BTreeMap<String, Place>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// As written, for messages.
    prefix: String,
    scope: Scope,
    /// `None`: images are where their name says.
    location: Option<Place>,
    plain_http: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Clone, Debug)]
struct Mirror {
    location: Place,
    plain_http: bool,
    pull: PullFrom,
}

/// Which names a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// Every host below this domain, on any port.
    Below(String),
    /// This registry, and of it only what is at or below the path, where there is one.
    At(Place),
}

/// `host[:port][/path]`, the host in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    registry: String,
    path: String,
}

impl Registries {
    /// Reads the text of a registries.conf, at most 64 KiB.
    ///
    /// # Errors
    /// [`Error::Malformed`] naming the line, key or value.
    pub fn parse(text: &str) -> Result<Registries, Error> {
        let file = File::parse(text)?;
        for host in &file.unqualified_search_registries {
            if !Place::parse(host).is_some_and(|p| p.path.is_empty()) {
                return Err(malformed("unqualified-search-registries", host));
            }
        }
        let mut aliases = BTreeMap::new();
        for (alias, target) in &file.aliases {
            if !is_short_name(alias) {
                return Err(malformed("the alias", alias));
            }
            // An empty one takes back an alias of another file; here there is no other file.
            if !target.is_empty() {
                let place = Place::parse(target).filter(|p| !p.path.is_empty());
                aliases.insert(alias.clone(), place.ok_or_else(|| malformed("the alias for", target))?);
            }
        }
        let rules: Vec<Rule> = file.registry.into_iter().map(Rule::from_file).collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        if let Some(twice) = rules.iter().find(|r| !seen.insert(&r.scope)) {
            return Err(Error::Malformed(format!("the prefix {:?} is there twice", twice.prefix)));
        }
        Ok(Registries { search: file.unqualified_search_registries, aliases, rules })
    }

    /// The places to ask for an image, in order: the mirrors that serve this kind of reference (by digest where it has
    /// one, else by tag), then the image's own location. Never empty.
    ///
    /// # Errors
    /// [`Error::Blocked`]; [`Error::Name`] where the name is too long at a place.
    pub fn sources(&self, reference: &Reference) -> Result<Vec<Source>, Error> {
        let found = self.rules.iter().filter_map(|r| Some((r.scope.matches(reference, r.blocked)?, r)));
        let Some((_, rule)) = found.max_by_key(|(rank, _)| *rank) else {
            return Ok(vec![Source { reference: reference.clone(), plain_http: false }]);
        };
        if rule.blocked {
            return Err(Error::Blocked { name: reference.name(), prefix: rule.prefix.clone() });
        }
        let wanted = if reference.digest.is_some() { PullFrom::DigestOnly } else { PullFrom::TagOnly };
        let mut sources = Vec::new();
        for mirror in &rule.mirrors {
            if mirror.pull == PullFrom::All || mirror.pull == wanted {
                let reference = rule.scope.moved(reference, &mirror.location)?;
                sources.push(Source { reference, plain_http: mirror.plain_http });
            }
        }
        let own = match &rule.location {
            Some(location) => rule.scope.moved(reference, location)?,
            None => reference.clone(),
        };
        sources.push(Source { reference: own, plain_http: rule.plain_http });
        Ok(sources)
    }

    /// Completes a name that may be short, for people at a command line. A name with a registry is itself. A short
    /// one is looked up in the aliases; without an alias it belongs to the one search registry, or to Docker Hub where
    /// the file names none. With several search registries it is refused whatever `short-name-mode` says: asking
    /// one after the other lets whoever holds the name at the first decide what runs.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn qualify(&self, text: &str) -> Result<Reference, Error> {
        let parse = |text: &str| Reference::parse(text).map_err(|e| Error::Name(e.to_string()));
        let as_docker = parse(text)?;
        let end = text.find('@').unwrap_or(text.len());
        let name = text.get(..end).unwrap_or(text);
        let last = name.rfind('/').map_or(0, |i| i + 1);
        let colon = name.get(last..).and_then(|l| l.find(':')).map(|c| last + c);
        let (name, rest) = text.split_at_checked(colon.unwrap_or(end)).unwrap_or((text, ""));
        if !is_short_name(name) {
            return Ok(as_docker);
        }
        if let Some(place) = self.aliases.get(name) {
            return parse(&format!("{place}{rest}"));
        }
        match self.search.as_slice() {
            [] => Ok(as_docker),
            [one] => parse(&format!("{one}/{text}")),
            several => Err(Error::Name(format!(
                "the short name {name:?} could be of {} registries: write the registry's name, or an alias",
                several.len()
            ))),
        }
    }
}

impl Rule {
    fn from_file(rule: file::Registry) -> Result<Rule, Error> {
        let prefix = if rule.prefix.is_empty() { rule.location.clone() } else { rule.prefix };
        let scope = Scope::parse(&prefix).ok_or_else(|| malformed("the prefix", &prefix))?;
        let location = match rule.location.as_str() {
            "" => None,
            text => Some(Place::parse(text).ok_or_else(|| malformed("the location", text))?),
        };
        if rule.mirror.len() >= MAX_SOURCES {
            return Err(Error::Malformed(format!("{prefix:?} has more than {} mirrors", MAX_SOURCES - 1)));
        }
        let mut mirrors = Vec::new();
        for mirror in rule.mirror {
            let location = Place::parse(&mirror.location)
                .ok_or_else(|| malformed("the location of a mirror", &mirror.location))?;
            let pull = match (rule.mirror_by_digest_only, mirror.pull_from_mirror) {
                (true, None | Some(PullFrom::All)) => PullFrom::DigestOnly,
                (true, Some(_)) => {
                    return Err(Error::Malformed(format!(
                        "{prefix:?} has both mirror-by-digest-only and a mirror with pull-from-mirror"
                    )));
                }
                (false, pull) => pull.unwrap_or_default(),
            };
            mirrors.push(Mirror { location, plain_http: mirror.insecure, pull });
        }
        Ok(Rule { prefix, scope, location, plain_http: rule.insecure, blocked: rule.blocked, mirrors })
    }
}

impl Scope {
    fn parse(text: &str) -> Option<Scope> {
        match text.strip_prefix("*.") {
            Some(domain) => {
                let place = Place::parse(&format!("x.{domain}"))?;
                let plain = place.path.is_empty() && !place.registry.contains([':', '[']);
                plain.then(|| Scope::Below(domain.to_ascii_lowercase()))
            }
            None => {
                let place = Place::parse(text)?;
                Some(Scope::At(Place { registry: normal(&place.registry), ..place }))
            }
        }
    }

    /// How closely the rule is meant for the image: longer is closer, exact before wildcard; `None`: not at all. A
    /// block cannot be gone round by another port or another name of Docker Hub.
    fn matches(&self, reference: &Reference, blocked: bool) -> Option<(usize, bool)> {
        match self {
            Scope::Below(domain) => {
                let host = reference.host().to_ascii_lowercase();
                let below = host.strip_suffix(domain.as_str())?.strip_suffix('.')?;
                (!below.is_empty()).then_some((domain.len() + 2, false))
            }
            Scope::At(place) => {
                let (host, _) = host_and_port(&reference.registry);
                let host = if host == "registry-1.docker.io" { "docker.io" } else { host.as_str() };
                if normal(&reference.registry) != place.registry && !(blocked && host == place.registry) {
                    return None;
                }
                below(&reference.repository, &place.path)?;
                // The slash before a path counts too.
                let length = place.registry.len() + place.path.len() + usize::from(!place.path.is_empty());
                Some((length, true))
            }
        }
    }

    /// The image at another place: what the scope covers of its name is exchanged for the place.
    fn moved(&self, reference: &Reference, to: &Place) -> Result<Reference, Error> {
        let rest = match self {
            Scope::Below(_) => Some(reference.repository.as_str()),
            Scope::At(place) => below(&reference.repository, &place.path),
        };
        let repository = match (to.path.as_str(), rest.unwrap_or_default()) {
            ("", rest) => rest.to_owned(),
            (path, "") => path.to_owned(),
            (path, rest) => format!("{path}/{rest}"),
        };
        let moved = Reference { registry: to.registry.clone(), repository, ..reference.clone() };
        // Through the grammar again: lengths, and a repository that is a mere registry.
        let text = moved.to_string();
        let again = Reference::parse(&text).map_err(|e| Error::Name(e.to_string()))?;
        if again.registry != moved.registry {
            return Err(Error::Name(format!("{} has no name at {to}", reference.name())));
        }
        Ok(again)
    }
}

/// A registry's name in lower case, its port without leading zeros, and without the port that goes without saying.
fn normal(registry: &str) -> String {
    match host_and_port(registry) {
        (host, 443) => host,
        (host, port) => format!("{host}:{port}"),
    }
}

fn host_and_port(registry: &str) -> (String, u16) {
    let registry = registry.to_ascii_lowercase();
    // Of `[::1]` the last colon is none before a port, and what follows it no number.
    match registry.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host.to_owned(), port),
        None => (registry, 443),
    }
}

/// What of a repository is below a path; empty where it is the path itself.
fn below<'a>(repository: &'a str, path: &str) -> Option<&'a str> {
    if path.is_empty() {
        return Some(repository);
    }
    let rest = repository.strip_prefix(path)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

impl Place {
    fn parse(text: &str) -> Option<Place> {
        let (host, path) = text.split_once('/').map_or((text, None), |(h, p)| (h, Some(p)));
        // The rules of references: one more component makes a name of a place without a path.
        let name = if path.is_some() { text.to_owned() } else { format!("{text}/x") };
        let reference = Reference::parse(&format!("{name}:x")).ok()?;
        let registry = if host == "index.docker.io" { "docker.io" } else { host };
        let same = reference.registry == registry && reference.digest.is_none();
        let path = path.unwrap_or_default();
        // `docker.io/alpine` is a namespace here, not `library/alpine` (as the manual says of prefixes).
        let whole = path.is_empty() || reference.repository == path || registry == "docker.io";
        (same && whole).then(|| Place { registry: registry.to_ascii_lowercase(), path: path.to_owned() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.registry)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

/// Whether a name, without tag and digest, leaves its registry to be guessed.
fn is_short_name(name: &str) -> bool {
    let Ok(reference) = Reference::parse(name) else { return false };
    let completed = reference.registry == "docker.io" && !name.starts_with("docker.io/");
    completed && !name.starts_with("index.docker.io/") && !name.contains(['@', ':'])
}

fn malformed(what: &str, value: &str) -> Error {
    let value: String = value.chars().take(200).collect();
    Error::Malformed(format!("{what} {value:?} is not of a form that is understood"))
}

#[cfg(test)]
#[path = "registries/tests.rs"]
mod tests;

//! The text of a registries.conf as TOML, before anything in it is believed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;

/// `registries.conf`, version 2. Unknown keys are refused by name: one that restricts must not go unnoticed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default)]
    pub unqualified_search_registries: Vec<String>,
    /// Checked, and otherwise without effect.
    #[serde(default, rename = "short-name-mode")]
    pub _short_name_mode: ShortNameMode,
    #[serde(default)]
    pub registry: Vec<Registry>,
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
}

/// All three are read; none makes this crate guess (see [`super::Registries::qualify`]).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ShortNameMode {
    #[default]
    #[serde(alias = "")]
    Permissive,
    Enforcing,
    Disabled,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Registry {
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub location: String,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub blocked: bool,
    #[serde(default)]
    pub mirror_by_digest_only: bool,
    #[serde(default)]
    pub mirror: Vec<Mirror>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Mirror {
    pub location: String,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub pull_from_mirror: Option<PullFrom>,
}

/// Which pulls a mirror serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullFrom {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

impl File {
    pub(super) fn parse(text: &str) -> Result<File, Error> {
        if text.len() > super::MAX_TEXT {
            return Err(Error::Malformed(format!("it is larger than {} bytes", super::MAX_TEXT)));
        }
        toml::from_str(text).map_err(|e| {
            let at = e.span().and_then(|s| text.get(..s.start));
            let line = at.map_or(1, |before| before.matches('\n').count() + 1);
            let message: String = e.message().chars().filter(|c| !c.is_control()).take(300).collect();
            Error::Malformed(format!("line {line}: {message}"))
        })
    }
}

//! How a setting is described: the row type of the table.

use crate::kind::Kind;

/// One setting.
pub(crate) struct Key {
    /// Dotted path; `[]` stands for the index in a list of tables, e.g. `plugins[].name`.
    pub path: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Default as TOML; empty if there is none.
    pub default: &'static str,
    /// A value as TOML for the example file, where there is no default.
    pub sample: &'static str,
    /// Unit of a number; empty if it has none.
    pub unit: &'static str,
    /// What it is, in a sentence or two.
    pub doc: &'static str,
    /// The key (same form of path) and the values of it with which this one has a meaning.
    pub when: Option<(&'static str, &'static [&'static str])>,
    /// Must be given (if it has a meaning).
    pub required: bool,
    /// Never shown.
    pub secret: bool,
    /// A change takes a restart; otherwise a reload is enough.
    pub restart: bool,
}

impl Key {
    pub const fn new(path: &'static str, kind: Kind, doc: &'static str) -> Self {
        Key {
            path,
            kind,
            default: "",
            sample: "",
            unit: "",
            doc,
            when: None,
            required: false,
            secret: false,
            restart: false,
        }
    }

    pub const fn default(mut self, toml: &'static str) -> Self {
        self.default = toml;
        self
    }

    pub const fn sample(mut self, toml: &'static str) -> Self {
        self.sample = toml;
        self
    }

    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    pub const fn when(mut self, key: &'static str, values: &'static [&'static str]) -> Self {
        self.when = Some((key, values));
        self
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub const fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    /// The last part of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the section it stands in, e.g. `plugins[]`.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

/// A table of the file. Every key's section is listed.
pub(crate) struct Section {
    /// Dotted path; ends in `[]` if it is a list of tables.
    pub path: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

impl Section {
    /// Path without `[]`.
    pub fn plain(&self) -> &'static str {
        self.path.strip_suffix("[]").unwrap_or(self.path)
    }

    /// Whether it is a list of tables.
    pub fn repeated(&self) -> bool {
        self.path.ends_with("[]")
    }
}

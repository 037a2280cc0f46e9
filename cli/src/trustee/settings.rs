//! Where Trustee's settings come from: a file, flags, the environment.

use std::path::{Path, PathBuf};

use cocoon_config::{Dialect, Inputs, Note, Secret, Settings};
use cocoon_stage::{Code, Failure};

use super::{honour, read};
use crate::args::{Place, ServeArgs};

/// What the settings are read from, each time anew.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

/// Settings that were read and can be honoured.
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    notes: Vec<Note>,
}

impl Source {
    /// A file alone, or the defaults.
    pub fn of_file(file: Option<PathBuf>) -> Self {
        Source { file, flags: Vec::new() }
    }

    /// What says where the state is.
    pub fn of_place(place: &Place) -> Self {
        let mut source = Source::of_file(place.config.clone());
        if let Some(folder) = &place.state {
            source.flag("state.folder", folder.display());
        }
        source
    }

    /// The file and the flags of `serve`.
    pub fn of_serve(args: &ServeArgs) -> Result<Self, Failure> {
        let mut source = Source::of_place(&args.place);
        if !args.listen.is_empty() {
            let list: Vec<String> = args.listen.iter().map(|address| format!("\"{address}\"")).collect();
            source.flag("server.listen", format!("[{}]", list.join(", ")));
        }
        let files = [
            ("server.tls_certificate", &args.tls_cert),
            ("server.tls_key", &args.tls_key),
            ("admin.token_file", &args.admin_token),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                source.flag(key, file.display());
            }
        }
        if args.accept_simulated {
            source.flag("attestation.accept_simulated", true);
        }
        for setting in &args.set {
            // The value may be a secret, so only the key may be printed.
            let Some((key, value)) = setting.split_once('=') else {
                return Err(Failure::new(Code::UsageInvalid, "a --set has no `=`; write KEY=VALUE"));
            };
            source.flag(key.trim(), value.trim());
        }
        Ok(source)
    }

    fn flag(&mut self, key: &str, value: impl std::fmt::Display) {
        self.flags.push((key.to_owned(), value.to_string()));
    }

    /// The settings file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the settings and makes sure that each of them can be honoured.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let loaded = self.read()?;
        honour::check(&loaded.settings)?;
        Ok(loaded)
    }

    /// Reads the settings.
    pub fn read(&self) -> Result<Loaded, Failure> {
        let nowhere = PathBuf::new();
        let path = self.file.as_deref().unwrap_or(&nowhere);
        let text = match &self.file {
            Some(file) => read("--config", file)?.to_string(),
            None => String::new(),
        };
        let mut inputs = Inputs { postgres_url: postgres_url(), flags: self.flags.clone() };
        let invalid = |problems| {
            let failure = Failure::from(cocoon_config::Error::Invalid(problems));
            match &self.file {
                Some(file) => Failure::new(failure.code, format!("{}:\n{}", file.display(), failure.reason)),
                None => failure,
            }
        };
        // Upstream gives tokens for unknown measurements, for other relying parties to judge; it has no setting for it.
        if matches!(cocoon_config::detect(&text).map_err(&invalid)?, Dialect::Upstream(_)) {
            inputs.flags.insert(0, ("attestation.issue_contraindicated".into(), "true".into()));
        }
        let (settings, notes) = cocoon_config::read(&text, path, &inputs).map_err(&invalid)?;
        Ok(Loaded { settings, notes })
    }
}

impl Loaded {
    /// Tells the person who brings an upstream file what differs.
    pub fn tell_notes(&self) {
        for note in &self.notes {
            eprintln!("cocoon: note: {note}");
        }
    }
}

fn postgres_url() -> Option<Secret> {
    std::env::var("POSTGRES_URL").ok().filter(|url| !url.is_empty()).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> String {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), text).unwrap();
        let failure = Source::of_file(Some(file.path().to_owned())).load().err().unwrap();
        assert_eq!(failure.code, Code::ConfigInvalid, "{}", failure.reason);
        failure.reason
    }

    #[test]
    fn settings_that_cannot_be_honoured_are_named() {
        for (text, key) in [
            ("[telemetry]\notlp_endpoint = \"http://localhost.example:4318\"", "telemetry.otlp_endpoint"),
            ("[server]\ntls_versions = [\"1.2\"]", "server.tls_versions"),
            ("[log]\nformat = \"json\"", "log.format"),
            ("[metrics]\nlisten = \"192.0.2.1:9090\"", "metrics.listen"),
            (
                "[[plugins]]\nkind = \"pkcs11\"\nmodule = \"/m\"\nslot = 0\npin_file = \"/p\"",
                "plugins[0].key_label",
            ),
        ] {
            assert!(failure(text).contains(&format!("`{key}`")), "{text}: {}", failure(text));
        }
    }

    #[test]
    fn all_problems_are_told_at_once_with_their_lines() {
        let reason = failure("[server]\nlisten = 5\n[sever]\nx = 1\n");
        assert!(reason.contains("line 2") && reason.contains("line 3"), "{reason}");
    }

    #[test]
    fn upstreams_files_are_read_and_give_contraindicated_tokens() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        let text = "[http_server]\nsockets = [\"127.0.0.1:8080\"]\ninsecure_http = true\n\
                    [admin]\nauthorization_mode = \"DenyAll\"\n[attestation_service]\ntype = \"coco_as_builtin\"\n";
        std::fs::write(file.path(), text).unwrap();
        let loaded =
            Source::of_file(Some(file.path().to_owned())).load().unwrap_or_else(|f| panic!("{}", f.reason));
        assert!(loaded.settings.attestation.issue_contraindicated);
        assert!(
            !Source::default()
                .load()
                .unwrap_or_else(|f| panic!("{f}"))
                .settings
                .attestation
                .issue_contraindicated
        );
    }

    #[test]
    fn flags_replace_the_file() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(
            file.path(),
            "[server]\nlisten = [\"127.0.0.1:1\"]\n[tokens]\nlifetime_seconds = 60\n",
        )
        .unwrap();
        let args = ServeArgs {
            place: Place { config: Some(file.path().to_owned()), state: None },
            listen: vec!["127.0.0.1:2".parse().unwrap(), "[::1]:2".parse().unwrap()],
            set: vec!["tokens.lifetime_seconds=90".into()],
            ..ServeArgs::default()
        };
        let settings = Source::of_serve(&args).unwrap().load().unwrap_or_else(|f| panic!("{f}")).settings;
        assert_eq!(settings.server.listen.len(), 2);
        assert_eq!(settings.tokens.lifetime.as_secs(), 90);
        let bad = ServeArgs { set: vec!["hunter2".into()], ..ServeArgs::default() };
        assert!(!Source::of_serve(&bad).unwrap_err().reason.contains("hunter2"));
    }
}

//! From a CocoonNode's settings to what `host/node` takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cocoon_cluster_api::{Acceleration, NodeSettings, Platform};
use cocoon_node::install::{Choice, Places, Restart};
use toml::{Table, Value};

/// Where things are, with programs and guest image of `version`.
pub fn places(settings: &NodeSettings, version: &str) -> Places {
    let paths = &settings.paths;
    Places {
        config: PathBuf::from(&settings.containerd.config),
        prefix: Path::new(&paths.prefix).join(version),
        classes: PathBuf::from(&paths.classes),
        state: PathBuf::from(&paths.state),
        pods: PathBuf::from(&paths.pods),
        ..Places::default()
    }
}

/// Which classes. With `Auto` those of the TEE that is there, simulated ones if they are named too; else the named ones.
pub fn choice(settings: &NodeSettings) -> Choice {
    let platforms = &settings.platforms;
    let has = |platform| platforms.contains(&platform);
    let simulated = has(Platform::Sim) || has(Platform::Tpm);
    if has(Platform::Auto) || platforms.is_empty() {
        return Choice { simulated, named: Vec::new() };
    }
    let mut named: Vec<String> = platforms.iter().map(|p| p.class().to_owned()).collect();
    // With the TPM alone there is no best class: `cocoon` would be the simulated TEE, which nobody named.
    if has(Platform::Snp) || has(Platform::Tdx) || has(Platform::Sim) {
        named.push(Platform::Auto.class().to_owned());
    }
    Choice { simulated, named }
}

/// How containerd is restarted.
pub fn restart(settings: &NodeSettings) -> Restart {
    let restart = &settings.containerd.restart;
    Restart { command: restart.shell(), limit: Duration::from_secs(restart.timeout_seconds.into()) }
}

/// Settings of class files.
pub fn class_settings(settings: &NodeSettings) -> Table {
    let (guests, paths) = (&settings.guests, &settings.paths);
    let acceleration = match guests.acceleration {
        Acceleration::Auto => "auto",
        Acceleration::Kvm => "kvm",
        Acceleration::Emulated => "tcg",
    };
    let number = |n: u32| Value::Integer(n.into());
    [
        ("acceleration", Value::from(acceleration)),
        ("state", Value::from(paths.pods.clone())),
        ("data", Value::from(paths.data.clone())),
        ("default_cpus", number(guests.default_cpus)),
        ("max_cpus", number(guests.max_cpus)),
        ("default_memory_mib", number(guests.default_memory_mib)),
        ("max_memory_mib", number(guests.max_memory_mib)),
        ("overhead_memory_mib", number(guests.overhead_memory_mib)),
        ("boot_timeout_s", number(guests.boot_timeout_seconds)),
        ("create_timeout_s", number(guests.create_timeout_seconds)),
        ("console", Value::Boolean(guests.console)),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_one_of_a_class_file_and_the_defaults_are_the_same() {
        let text = toml::to_string(&class_settings(&NodeSettings::default())).unwrap();
        let config = cocoon_runtime::RuntimeConfig::parse(&text, Path::new("x")).unwrap();
        assert_eq!(config, cocoon_runtime::RuntimeConfig::default());
    }

    #[test]
    fn platforms_become_classes() {
        let of = |platforms: &[Platform]| {
            choice(&NodeSettings { platforms: platforms.to_vec(), ..NodeSettings::default() })
        };
        assert_eq!(of(&[]), Choice::default());
        assert_eq!(of(&[Platform::Auto, Platform::Sim]), Choice { simulated: true, named: vec![] });
        assert_eq!(of(&[Platform::Snp]).named, ["cocoon-snp", "cocoon"]);
        assert_eq!(of(&[Platform::Tpm]).named, ["cocoon-tpm"]);
        assert_eq!(
            of(&[Platform::Sim]),
            Choice { simulated: true, named: vec!["cocoon-sim".into(), "cocoon".into()] }
        );
    }

    #[test]
    fn folders_are_the_settings() {
        let places = places(&NodeSettings::default(), "1-a");
        assert_eq!(places, Places { prefix: "/opt/cocoon/1-a".into(), ..Places::default() });
    }
}

//! The RuntimeClasses: which make sense on this node, and the file of each.

use std::path::Path;

use cocoon_runtime::Protection;
use cocoon_stage::{Code, Failure};
use serde::Serialize;

use crate::containerd::text;
use crate::tee;

/// A RuntimeClass of Cocoon. Its name is the handler's, and the class file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Name.
    pub name: &'static str,
    /// How its pods are protected.
    pub protection: Protection,
}

/// Every class that there can be.
pub const CLASSES: [Class; 5] = [
    Class { name: "cocoon", protection: Protection::Auto },
    Class { name: "cocoon-snp", protection: Protection::Snp },
    Class { name: "cocoon-tdx", protection: Protection::Tdx },
    Class { name: "cocoon-tpm", protection: Protection::Tpm },
    Class { name: "cocoon-sim", protection: Protection::Sim },
];

/// The names of [`CLASSES`].
pub fn names() -> Vec<&'static str> {
    CLASSES.iter().map(|c| c.name).collect()
}

/// Which classes to install.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Also what protects from nobody on this node: the simulated TEE, a TPM that the node itself plays.
    pub simulated: bool,
    /// These and no others.
    pub named: Vec<String>,
}

/// The classes to install on the machine below `root`. Of the image of a system (`live` is false) nobody knows what it will
/// run on: there a class that is named is taken at its word.
///
/// # Errors
/// `USAGE-INVALID` for a name that is none; `HOST-UNSUPPORTED` where the machine has no TEE and nothing simulated is asked
/// for, or lacks what a named class needs.
pub fn choose(choice: &Choice, root: &Path, live: bool) -> Result<Vec<Class>, Failure> {
    let tees = tee::Tees::of(root);
    let unsupported = |reason: String| Failure::new(Code::HostUnsupported, reason);
    let any = tees.snp || tees.tdx;
    let mut chosen = Vec::new();
    if let Some(unknown) = choice.named.iter().find(|n| !names().contains(&n.as_str())) {
        let reason = format!("{unknown} is no class; there are {}", names().join(", "));
        return Err(Failure::new(Code::UsageInvalid, reason));
    }
    for class in CLASSES {
        let named = choice.named.iter().any(|n| n == class.name);
        if !named && !choice.named.is_empty() {
            continue;
        }
        let (possible, lacks) = match class.protection {
            Protection::Snp => (tees.snp, "AMD SEV-SNP"),
            Protection::Tdx => (tees.tdx, "Intel TDX"),
            Protection::Tpm => {
                (tees.tpm && (choice.simulated || named), "swtpm and OVMF (packages swtpm, ovmf)")
            }
            Protection::Sim => (choice.simulated || named, ""),
            _ => (
                any || choice.simulated,
                "a TEE; --simulated takes the simulated one, which protects from nobody",
            ),
        };
        let trusted = named && !live;
        if possible || trusted {
            // On a node without a TEE the class says what it comes to, so that nobody takes it for more.
            let simulated = class.protection == Protection::Auto && !any && !trusted;
            chosen.push(if simulated { Class { protection: Protection::Sim, ..class } } else { class });
        } else if named {
            return Err(unsupported(format!("{} needs {lacks}, which this node does not have", class.name)));
        }
    }
    if chosen.is_empty() {
        return Err(unsupported(
            "this node has no TEE that Cocoon can use; --simulated installs the simulated one, which protects workloads \
             from nobody"
                .into(),
        ));
    }
    Ok(chosen)
}

/// The text of a class's file. `guest_image` is the image's folder as the shim will see it.
pub fn file(class: &Class, guest_image: &Path, settings: &toml::Table) -> String {
    let protection = toml::Value::try_from(class.protection).map(|v| v.to_string()).unwrap_or_default();
    let warning = match class.protection {
        Protection::Sim => {
            "# This class simulates a TEE: the whole path works, but the host can read and change the workload.\n"
        }
        Protection::Tpm => {
            "# The TPM of this class is a program of this host: measured boot is shown, but the host could fake it.\n"
        }
        _ => "",
    };
    let image = toml::Value::String(text(guest_image));
    let settings = toml::to_string(settings).unwrap_or_default();
    format!(
        "# RuntimeClass {}: written by `cocoon node install`. Settings that are changed here stay as they are when it is\n\
         # installed again. docs/runtime-reference.md has every key.\n{warning}protection = {protection}\nguest_image = {image}\n\
         {settings}",
        class.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn chosen(choice: &Choice, root: &Path) -> Vec<&'static str> {
        choose(choice, root, true).unwrap().iter().map(|c| c.name).collect()
    }

    #[test]
    fn without_a_tee_the_simulated_one_has_to_be_asked_for() {
        let root = with(&[]);
        let error = choose(&Choice::default(), root.path(), true).unwrap_err();
        assert!(
            error.code == Code::HostUnsupported && error.reason.contains("protects workloads from nobody")
        );
        let simulated = Choice { simulated: true, ..Choice::default() };
        assert_eq!(chosen(&simulated, root.path()), ["cocoon", "cocoon-sim"]);
        assert_eq!(choose(&simulated, root.path(), true).unwrap()[0].protection, Protection::Sim);
        let named = |name: &str| Choice { named: vec![name.into()], ..Choice::default() };
        assert_eq!(chosen(&named("cocoon-sim"), root.path()), ["cocoon-sim"]);
        for refused in ["cocoon-snp", "cocoon-tdx", "cocoon-tpm", "cocoon"] {
            assert_eq!(
                choose(&named(refused), root.path(), true).unwrap_err().code,
                Code::HostUnsupported,
                "{refused}"
            );
        }
        assert_eq!(choose(&named("kata"), root.path(), true).unwrap_err().code, Code::UsageInvalid);
    }

    #[test]
    fn for_an_image_named_classes_are_taken_at_their_word() {
        let root = with(&[]);
        let choice = Choice { simulated: false, named: vec!["cocoon".into(), "cocoon-snp".into()] };
        let chosen = choose(&choice, root.path(), false).unwrap();
        let of: Vec<_> = chosen.iter().map(|c| c.protection).collect();
        assert_eq!(of, [Protection::Auto, Protection::Snp]);
        assert!(choose(&Choice::default(), root.path(), false).is_err());
    }

    #[test]
    fn a_tee_brings_its_class_and_the_automatic_one() {
        let root = with(&[("sys/module/kvm_amd/parameters/sev_snp", "Y\n"), ("dev/sev", "")]);
        assert_eq!(chosen(&Choice::default(), root.path()), ["cocoon", "cocoon-snp"]);
        assert_eq!(choose(&Choice::default(), root.path(), true).unwrap()[0].protection, Protection::Auto);
    }

    #[test]
    fn every_file_is_a_runtime_configuration() {
        let settings: toml::Table = toml::from_str("default_cpus = 2\nstate = \"/run/x\"\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        for class in CLASSES {
            let path = dir.path().join(class.name);
            std::fs::write(&path, file(&class, Path::new("/opt/co\"coon/guest"), &settings)).unwrap();
            let config = cocoon_runtime::RuntimeConfig::read(&path).unwrap();
            assert_eq!(config.protection, class.protection);
            assert_eq!((config.default_cpus, config.state.to_str()), (2, Some("/run/x")));
            assert_eq!(config.guest_image, Path::new("/opt/co\"coon/guest"));
        }
    }
}

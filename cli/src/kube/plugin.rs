//! What makes the program a plugin of kubectl: the manifest by which krew installs it, and answers to kubectl's completion.

use clap::{ArgAction, Command};
use cocoon_stage::Failure;
use serde_json::{Value, json};

use crate::admin::{say, usage};
use crate::args::KrewArgs;

/// Names that kubectl looks for, as links to this program.
pub const PLUGIN: &str = "kubectl-cocoon";
pub const COMPLETION: &str = "kubectl_complete-cocoon";

/// Prints the manifest.
pub fn krew(args: &KrewArgs) -> Result<(), Failure> {
    let manifest = manifest(args)?;
    let text = cocoon_workload::to_yaml(&[manifest])
        .map_err(|e| Failure::new(cocoon_stage::Code::Internal, e.to_string()))?;
    say(text.trim_start_matches("---\n").trim_end());
    Ok(())
}

fn manifest(args: &KrewArgs) -> Result<Value, Failure> {
    let version = args.release.clone().unwrap_or_else(|| format!("v{}", env!("CARGO_PKG_VERSION")));
    let numbers = version.strip_prefix('v').unwrap_or_default().split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() != 3 || parts.iter().any(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return Err(usage(format!("--release {version}: krew takes versions such as v1.2.3")));
    }
    let mut platforms = Vec::new();
    for archive in &args.archives {
        let (arch, rest) = archive.split_once('=').unwrap_or_default();
        let (uri, sha256) = rest.rsplit_once('#').unwrap_or_default();
        let known = matches!(arch, "amd64" | "arm64");
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !known || !uri.starts_with("https://") || !is_digest {
            return Err(usage(format!("--archive {archive}: write ARCH=https://…/FILE.tar.gz#SHA256")));
        }
        platforms.push(json!({
            "selector": {"matchLabels": {"os": "linux", "arch": arch}},
            "uri": uri, "sha256": sha256, "bin": "cocoon",
            "files": [{"from": "cocoon", "to": "."}, {"from": "LICENSE", "to": "."}],
        }));
    }
    Ok(json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "cocoon"},
        "spec": {
            "version": version,
            "homepage": args.homepage,
            "shortDescription": "Confidential pods: apply, verify, explain",
            "description": "Runs ordinary manifests as confidential pods: compiles what a pod may do to a plan that\n\
                its guest enforces, registers it with your Trustee, applies it, and verifies over a fresh\n\
                nonce that each pod is what it should be. The cluster need not be trusted.\n",
            "caveats": "Nodes need Cocoon's runtime (kubectl cocoon operator install), and you need a Trustee\n\
                of your own. Begin with: kubectl cocoon doctor\n",
            "platforms": platforms,
        },
    }))
}

/// Answers kubectl's question for what may come next: a line for each, then `:4`, which keeps the shell from adding files.
/// The last word is what is being written, and may be empty.
pub fn complete(root: &Command, words: &[String]) -> String {
    let (written, before) =
        words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut at = root;
    let mut wants_value = false;
    for word in before {
        if std::mem::take(&mut wants_value) {
            continue;
        }
        if word.starts_with('-') {
            wants_value = !word.contains('=') && takes_value(at, word);
        } else if let Some(next) = at.find_subcommand(word) {
            at = next;
        }
    }
    if wants_value {
        // A file, or what only its reader knows.
        return ":0\n".into();
    }
    let mut found: Vec<(String, String)> = Vec::new();
    let first_line = |text: Option<&clap::builder::StyledStr>| {
        text.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    };
    if written.starts_with('-') {
        for arg in at.get_arguments().filter(|a| !a.is_hide_set()) {
            if let Some(long) = arg.get_long() {
                found.push((format!("--{long}"), first_line(arg.get_help())));
            }
        }
    } else {
        for command in at.get_subcommands().filter(|c| !c.is_hide_set()) {
            found.push((command.get_name().to_owned(), first_line(command.get_about())));
        }
    }
    let mut answer: String = found
        .iter()
        .filter(|(name, _)| name.starts_with(written))
        .map(|(name, about)| format!("{name}\t{about}\n"))
        .collect();
    let is_leaf = at.get_subcommands().next().is_none() && !written.starts_with('-');
    answer.push_str(if is_leaf { ":0\n" } else { ":4\n" });
    answer
}

fn takes_value(command: &Command, flag: &str) -> bool {
    let name = flag.trim_start_matches('-');
    command.get_arguments().any(|arg| {
        let long = flag.starts_with("--") && arg.get_long() == Some(name);
        let short = !flag.starts_with("--")
            && arg.get_short().is_some_and(|s| name.starts_with(s) && name.len() == 1);
        (long || short) && matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    fn offered(line: &[&str]) -> Vec<String> {
        let words: Vec<String> = line.iter().map(|w| (*w).to_owned()).collect();
        let answer = complete(&Cli::command(), &words);
        answer.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn commands_and_flags_are_offered() {
        assert_eq!(offered(&["ver"]), ["verify", ":4"]);
        assert!(offered(&[""]).contains(&"apply".to_owned()));
        assert!(!offered(&[""]).contains(&crate::args::PLAN_EXPLAIN.to_owned()));
        assert!(offered(&["secret", ""]).contains(&"seal".to_owned()));
        assert_eq!(offered(&["verify", "--acc"]), ["--accept-simulated", ":4"]);
        assert_eq!(offered(&["verify", "-n", ""]), [":0"]);
        assert_eq!(offered(&["verify", "--trustee=x", "--all"]), ["--all-namespaces", ":4"]);
        assert_eq!(offered(&[]).last().unwrap(), ":4");
    }

    fn args(archives: &[&str], release: Option<&str>) -> KrewArgs {
        KrewArgs {
            release: release.map(str::to_owned),
            homepage: "https://example.org".into(),
            archives: archives.iter().map(|a| (*a).to_owned()).collect(),
        }
    }

    #[test]
    fn the_krew_manifest_has_what_krew_asks_for() {
        let digest = "0".repeat(64);
        let good = format!("amd64=https://example.org/cocoon.tar.gz#{digest}");
        let manifest = manifest(&args(&[&good], None)).unwrap();
        let platform = &manifest["spec"]["platforms"][0];
        assert_eq!(
            (platform["sha256"].as_str(), platform["bin"].as_str()),
            (Some(digest.as_str()), Some("cocoon"))
        );
        assert_eq!(platform["selector"]["matchLabels"], json!({"os": "linux", "arch": "amd64"}));
        let short = manifest["spec"]["shortDescription"].as_str().unwrap();
        assert!(short.len() <= 50 && !short.ends_with('.'), "{short}");
        assert!(manifest["spec"]["version"].as_str().unwrap().starts_with('v'));
        for bad in
            ["amd64=http://x/y#00", "mips=https://x/y", "", &format!("amd64=https://x/y#{}", "G".repeat(64))]
        {
            assert!(super::manifest(&args(&[bad], None)).is_err(), "{bad}");
        }
        for bad in ["1.2.3", "v1.2", "vx.y.z", "v1..2"] {
            assert!(super::manifest(&args(&[&good], Some(bad))).is_err(), "{bad}");
        }
    }
}

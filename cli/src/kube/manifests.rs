//! Manifests from files, folders, standard input and kustomizations.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cocoon_stage::{Code, Failure};
use cocoon_workload::{Document, MAX_TEXT, read};

use crate::admin::{content, usage};
use crate::args::ManifestArgs;

/// Reads all that was named, in order.
///
/// # Errors
/// `USAGE-INVALID` for what cannot be read, `PLAN-MANIFEST-INVALID` for what is no manifest; both name the file.
pub fn documents(args: &ManifestArgs) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for named in &args.files {
        for file in files(named)? {
            let text = content(&file)?;
            let name =
                if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
            documents.extend(parse(&text, &name)?);
        }
    }
    if let Some(folder) = &args.kustomize {
        documents.extend(parse(&kustomization(folder)?, &folder.display().to_string())?);
    }
    if documents.is_empty() {
        return Err(Failure::new(Code::PlanManifestInvalid, "there is no manifest in what was named"));
    }
    Ok(documents)
}

fn parse(text: &[u8], name: &str) -> Result<Vec<Document>, Failure> {
    read(text).map_err(|e| Failure::new(e.code(), format!("{name}: {e}")))
}

/// The file itself, or a folder's manifests by name.
fn files(named: &Path) -> Result<Vec<PathBuf>, Failure> {
    if named == Path::new("-") || !named.is_dir() {
        return Ok(vec![named.to_owned()]);
    }
    let failed = |e: std::io::Error| usage(format!("{}: {e}", named.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(named).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if matches!(ending, "yaml" | "yml" | "json") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What kubectl builds of a kustomization.
fn kustomization(folder: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| usage(format!("kubectl kustomize {}: {why}", folder.display()));
    let output = Command::new("kubectl")
        .arg("kustomize")
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let words: String = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect();
        return Err(failed(words.trim().to_owned()));
    }
    if output.stdout.len() > MAX_TEXT {
        return Err(failed(format!("it comes to more than {MAX_TEXT} bytes")));
    }
    Ok(output.stdout)
}

//! Files that a policy names, put into it.
//!
//! Every member of a requirement whose name ends in `Path` or `Paths` names files; `Data` and `Datas` hold what is in
//! them, base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Files, MAX_FILE_BYTES};

/// Most files of one policy.
const MAX_FILES: usize = 256;
/// The longest path.
const MAX_PATH: usize = 4096;

/// Replaces each path by the file's content. Says what is wrong; what is not of a policy's shape stays as it is, for
/// the parser to refuse.
pub(super) fn files(policy: &mut Value, files: Files<'_>) -> Result<(), String> {
    let mut left = MAX_FILES;
    let mut lists: Vec<(String, &mut Value)> = Vec::new();
    let Some(policy) = policy.as_object_mut() else { return Ok(()) };
    for (member, value) in policy {
        match (member.as_str(), value) {
            ("default", list) => lists.push(("default".to_owned(), list)),
            ("transports", Value::Object(transports)) => {
                for (transport, scopes) in transports {
                    for (scope, list) in scopes.as_object_mut().into_iter().flatten() {
                        lists.push((format!("transports.{transport}.{scope:?}"), list));
                    }
                }
            }
            _ => {}
        }
    }
    for (at, list) in lists {
        for (i, requirement) in list.as_array_mut().into_iter().flatten().enumerate() {
            let at = format!("{at}[{i}]");
            object(requirement, &at, files, &mut left)?;
            for member in ["fulcio", "pki"] {
                if let Some(inner) = requirement.get_mut(member) {
                    object(inner, &format!("{at}.{member}"), files, &mut left)?;
                }
            }
        }
    }
    Ok(())
}

fn object(value: &mut Value, at: &str, files: Files<'_>, left: &mut usize) -> Result<(), String> {
    let Some(members) = value.as_object_mut() else { return Ok(()) };
    let mut out = Map::new();
    for (name, value) in std::mem::take(members) {
        let mut read = |path: &Value| -> Result<Value, String> {
            let path = path.as_str().filter(|p| !p.is_empty() && p.len() <= MAX_PATH);
            let path = path.ok_or_else(|| format!("{at}.{name}: not a path"))?;
            *left = left.checked_sub(1).ok_or_else(|| format!("{at}: more than {MAX_FILES} files"))?;
            let content = files(path).map_err(|why| format!("{at}.{name}: {path:?}: {why}"))?;
            if content.len() > MAX_FILE_BYTES {
                return Err(format!("{at}.{name}: {path:?} is longer than {MAX_FILE_BYTES} bytes"));
            }
            Ok(Value::from(STANDARD.encode(content)))
        };
        let (new_name, value) = if let Some(stem) = name.strip_suffix("Path") {
            (format!("{stem}Data"), read(&value)?)
        } else if let (Some(stem), Value::Array(paths)) = (name.strip_suffix("Paths"), &value) {
            let contents: Result<Vec<Value>, String> = paths.iter().map(read).collect();
            (format!("{stem}Datas"), Value::Array(contents?))
        } else {
            (name.clone(), value)
        };
        if out.contains_key(&new_name) {
            return Err(format!("{at}: {name} and {new_name} exclude each other"));
        }
        out.insert(new_name, value);
    }
    *members = out;
    Ok(())
}

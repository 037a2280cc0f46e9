//! Editing containerd's main file as text: everything that a person wrote keeps its bytes, and what is added can be taken
//! out again without a trace ([`strip`] of [`edit`] is the text itself).

use serde::Deserialize;
use toml::{Spanned, Table};

const BEGIN: &str = "# >>> added by `cocoon node install`, taken out by `cocoon node uninstall` >>>";
/// The same, where the file had no line break at its end.
const BEGIN_JOINED: &str =
    "# >>> added by `cocoon node install`, taken out by `cocoon node uninstall`; no line break before >>>";
const END: &str = "# <<< added by `cocoon node install` <<<";
const LINE: &str = "# added by `cocoon node install`";
const WAS_TRUE: &str = "false # (`cocoon node install`: was true)";

/// What is to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// An absolute pattern for `imports`.
    pub import: Option<String>,
    /// Tables, as text, for the end of the file.
    pub block: Option<String>,
    /// That snapshotters are told what they unpack, in the table `plugins.KEY.containerd` of this plugin.
    pub annotate_snapshots: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    version: Option<Spanned<i64>>,
    imports: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize)]
struct Deep {
    plugins: Option<Plugins>,
}

#[derive(Deserialize)]
struct Plugins {
    #[serde(rename = "io.containerd.grpc.v1.cri")]
    full: Option<Cri>,
    cri: Option<Cri>,
}

#[derive(Deserialize)]
struct Cri {
    containerd: Option<CriContainerd>,
}

#[derive(Deserialize)]
struct CriContainerd {
    disable_snapshot_annotations: Option<Spanned<bool>>,
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|e| e.to_string().trim().to_owned())
}

/// The version of the configuration's form; a file that says none is of version 1.
///
/// # Errors
/// A sentence with the place, where the text is not TOML or the version not a number.
pub fn version(text: &str) -> Result<i64, String> {
    text.parse::<Table>().map_err(|e| e.to_string().trim().to_owned())?;
    Ok(read::<Head>(text)?.version.map_or(1, Spanned::into_inner))
}

/// The names of the runtimes that the text itself defines for the plugin `key`.
pub fn runtimes(text: &str, key: &str) -> Vec<String> {
    let table = text.parse::<Table>().unwrap_or_default();
    let at = ["plugins", key, "containerd", "runtimes"];
    let found = at.iter().try_fold(&table, |table, key| table.get(*key)?.as_table());
    found.map(|t| t.keys().cloned().collect()).unwrap_or_default()
}

/// The patterns of `imports`.
pub fn imports(text: &str) -> Vec<String> {
    let head = read::<Head>(text).ok().and_then(|h| h.imports);
    head.map(|list| list.into_inner().into_iter().map(Spanned::into_inner).collect()).unwrap_or_default()
}

/// The text with the patterns of `imports` that `change` gives something for replaced by it.
///
/// # Errors
/// A sentence, where the text is not TOML.
pub fn replace_imports(text: &str, change: impl Fn(&str) -> Option<Vec<String>>) -> Result<String, String> {
    let Some(list) = read::<Head>(text)?.imports else { return Ok(text.to_owned()) };
    let mut out = text.to_owned();
    // The last first, so that the places of the others stay.
    for element in list.get_ref().iter().rev() {
        let Some(patterns) = change(element.get_ref()) else { continue };
        let quoted: Vec<String> = patterns.into_iter().map(|p| toml::Value::String(p).to_string()).collect();
        out.replace_range(element.span(), &quoted.join(", "));
    }
    Ok(out)
}

/// Whether the text holds something that [`edit`] added.
pub fn is_edited(text: &str) -> bool {
    text.contains("`cocoon node install`")
}

/// The text with `additions`.
///
/// # Errors
/// A sentence, where the text's own form leaves no place for them. Whether containerd agrees is for containerd to say.
pub fn edit(text: &str, additions: &Additions) -> Result<String, String> {
    let mut out = text.to_owned();
    let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut block = additions.block.clone().unwrap_or_default();
    if let Some(key) = &additions.annotate_snapshots {
        match annotate(&out, key, eol)? {
            Some(annotated) => out = annotated,
            None => block
                .push_str(&format!("[plugins.\"{key}\".containerd]\ndisable_snapshot_annotations = false\n")),
        }
    }
    if let Some(pattern) = &additions.import {
        out = import(&out, pattern, eol)?;
    }
    if !block.is_empty() {
        let joined = !out.is_empty() && !out.ends_with('\n');
        let begin = if joined { format!("{eol}{BEGIN_JOINED}") } else { BEGIN.to_owned() };
        let block = block.trim_end().replace('\n', eol);
        out.push_str(&format!("{begin}{eol}{block}{eol}{END}{eol}"));
    }
    let pattern = additions.import.as_deref().unwrap_or_default();
    if strip(&out, pattern) != text {
        return Err("what would be added could not be taken out again without a trace".into());
    }
    out.parse::<Table>()
        .map_err(|e| format!("there is no place for Cocoon's tables: {}", e.to_string().trim()))?;
    Ok(out)
}

/// `None`: the table is not there to be edited.
fn annotate(text: &str, key: &str, eol: &str) -> Result<Option<String>, String> {
    let deep = read::<Deep>(text)?.plugins;
    let plugin = deep.and_then(|p| if key == "cri" { p.cri } else { p.full });
    let present = plugin.and_then(|p| p.containerd).and_then(|c| c.disable_snapshot_annotations);
    if let Some(present) = present {
        let mut out = text.to_owned();
        if *present.get_ref() {
            out.replace_range(present.span(), WAS_TRUE);
        }
        return Ok(Some(out));
    }
    let line = format!("disable_snapshot_annotations = false {LINE}");
    let mut at = 0;
    for whole in text.split_inclusive('\n') {
        at += whole.len();
        if is_header(whole, key) {
            let mut out = text.to_owned();
            let ended = whole.ends_with('\n');
            out.insert_str(at, &if ended { format!("{line}{eol}") } else { format!("{eol}{line}") });
            return Ok(Some(out));
        }
    }
    Ok(None)
}

/// Whether a line opens the table `plugins.KEY.containerd`.
fn is_header(line: &str, key: &str) -> bool {
    if !line.trim_start().starts_with('[') || line.trim_start().starts_with("[[") {
        return false;
    }
    let Ok(table) = line.parse::<Table>() else { return false };
    let path = ["plugins", key, "containerd"];
    path.iter().try_fold(&table, |table, key| table.get(*key)?.as_table()).is_some_and(Table::is_empty)
}

fn import(text: &str, pattern: &str, eol: &str) -> Result<String, String> {
    let head = read::<Head>(text)?;
    let quoted = toml::Value::String(pattern.into()).to_string();
    let mut out = text.to_owned();
    if let Some(list) = head.imports {
        let start = list.span().start;
        let opened = text.get(start..).is_some_and(|rest| rest.starts_with('['));
        if !opened {
            return Err("`imports` is not an array as it is usually written".into());
        }
        let separator = if list.get_ref().is_empty() { "" } else { ", " };
        // First, so that whatever a person imports has the last word.
        out.insert_str(start + 1, &format!("{quoted}{separator}"));
        return Ok(out);
    }
    // A key of the root must stand before every table: where `version` does, else at the top.
    let value = head.version.map_or(0, |v| v.span().start);
    let before = text.get(..value).unwrap_or_default();
    let top = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let line = before.rfind('\n').map_or(top, |at| at + 1);
    out.insert_str(line, &format!("imports = [{quoted}] {LINE}{eol}"));
    Ok(out)
}

/// The text without what [`edit`] added; `pattern` is the import that it was given.
pub fn strip(text: &str, pattern: &str) -> String {
    let mut out = strip_block(text);
    let quoted = toml::Value::String(pattern.into()).to_string();
    let line = format!("imports = [{quoted}] {LINE}");
    out = strip_line(&out, |l| l == line || l == format!("disable_snapshot_annotations = false {LINE}"));
    out = out.replace(WAS_TRUE, "true");
    if pattern.is_empty() {
        return out;
    }
    let Some(list) = read::<Head>(&out).ok().and_then(|h| h.imports) else { return out };
    if let Some(element) = list.get_ref().iter().find(|e| e.get_ref() == pattern) {
        let span = element.span();
        let rest = out.get(span.end..).unwrap_or_default();
        let comma = rest.strip_prefix(',').map_or(0, |after| 1 + usize::from(after.starts_with(' ')));
        out.replace_range(span.start..span.end + comma, "");
    }
    out
}

fn strip_block(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        match line.trim_end() {
            BEGIN if !inside => inside = true,
            BEGIN_JOINED if !inside => {
                inside = true;
                let ended = out.strip_suffix("\r\n").or_else(|| out.strip_suffix('\n')).map(str::len);
                out.truncate(ended.unwrap_or(out.len()));
            }
            END if inside => inside = false,
            _ if inside => {}
            _ => out.push_str(line),
        }
    }
    // A block whose end someone took away is not ours to judge.
    if inside { text.to_owned() } else { out }
}

fn strip_line(text: &str, ours: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let unmarked = line.strip_prefix('\u{feff}');
        if unmarked.is_some() {
            out.push('\u{feff}');
        }
        let line = unmarked.unwrap_or(line);
        if !ours(line.trim()) {
            out.push_str(line);
        } else if !line.ends_with('\n') {
            let ended = out.strip_suffix("\r\n").or_else(|| out.strip_suffix('\n')).map(str::len);
            out.truncate(ended.unwrap_or(out.len()));
        }
    }
    out
}

#[cfg(test)]
#[path = "main_file_tests.rs"]
mod tests;

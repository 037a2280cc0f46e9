//! `cocoon layers`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cocoon_stage::{Code, Failure};

/// The most that all layers may have together, where nobody says so: 20 GiB.
const DEFAULT_LIMIT: u64 = 20 << 30;

/// `cocoon layers`.
#[derive(Debug, Subcommand)]
pub enum LayersCommand {
    /// List the layers: size, last use, whether a pod uses them, which layers of images they are.
    List {
        #[command(flatten)]
        place: LayersPlace,
    },
    /// Make sure that all layers which a pod's plan wants attached are in the cache. Prints a line for each root, JSON:
    /// root (64 hex digits), path of the file, serial (of its disk). No registry is asked for layers that are there.
    Fetch(LayersFetchArgs),
    /// Check every block of all layers, or of those named, against the root hash.
    Verify {
        /// Root hashes, or unambiguous beginnings of them.
        roots: Vec<String>,
        #[command(flatten)]
        place: LayersPlace,
    },
    /// Remove layers that no pod uses, the longest unused first.
    Prune {
        /// Until all together have at most this size, e.g. 5G; default: none is left.
        #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "0")]
        to: u64,
        #[command(flatten)]
        place: LayersPlace,
    },
    /// Remove layers by name.
    Remove {
        /// Root hashes, or unambiguous beginnings of them.
        #[arg(required = true)]
        roots: Vec<String>,
        #[command(flatten)]
        place: LayersPlace,
    },
}

/// `cocoon layers fetch`.
#[derive(Clone, Debug, Args)]
pub struct LayersFetchArgs {
    /// The pod's initdata: the document (TOML), the annotation's text, or the disk image; `-` for standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "annotation", conflicts_with = "annotation")]
    pub initdata: Option<PathBuf>,
    /// The text of the pod's annotation that holds initdata.
    #[arg(long, value_name = "TEXT")]
    pub annotation: Option<String>,
    /// Close standard output after the last line, and keep the layers from being evicted until standard input ends.
    #[arg(long)]
    pub hold: bool,
    #[command(flatten)]
    pub place: LayersPlace,
}

/// Where the cache is, and how the command answers.
#[derive(Clone, Debug, Args)]
pub struct LayersPlace {
    /// The folder; default: layers in the data folder.
    #[arg(long, visible_alias = "cache", value_name = "DIR", env = "COCOON_LAYERS_DIR")]
    pub dir: Option<PathBuf>,
    /// The most that all layers may have together, e.g. 50G.
    #[arg(long, value_name = "SIZE", env = "COCOON_LAYERS_LIMIT", value_parser = parse_bytes, default_value = "20G")]
    pub limit: u64,
    /// Answers and failures as JSON for programs.
    #[arg(long)]
    pub json: bool,
}

impl LayersPlace {
    /// Where the cache is for commands that take no place of their own.
    ///
    /// # Errors
    /// `USAGE-INVALID` for a limit in the environment that is none.
    pub fn usual() -> Result<Self, Failure> {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let limit = match var("COCOON_LAYERS_LIMIT") {
            Some(text) => parse_bytes(&text.to_string_lossy())
                .map_err(|e| Failure::new(Code::UsageInvalid, format!("COCOON_LAYERS_LIMIT {e}")))?,
            None => DEFAULT_LIMIT,
        };
        Ok(LayersPlace { dir: var("COCOON_LAYERS_DIR").map(PathBuf::from), limit, json: false })
    }
}

impl LayersCommand {
    /// Whether answers are for programs.
    pub fn json(&self) -> bool {
        match self {
            LayersCommand::List { place }
            | LayersCommand::Verify { place, .. }
            | LayersCommand::Prune { place, .. }
            | LayersCommand::Remove { place, .. }
            | LayersCommand::Fetch(LayersFetchArgs { place, .. }) => place.json,
        }
    }
}

/// A size such as `512M`, `20G`, `1TiB` or plain bytes; units are powers of 1024.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let units = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((lower.strip_suffix(unit)?, 1_u64 << shift)));
    let (number, factor) = unit.unwrap_or((lower, 1));
    let bytes = number.trim_end().parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    bytes.ok_or_else(|| "must be a size such as 512M, 20G or plain bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("512M", 512 << 20), ("20GiB", 20 << 30), ("1 tb", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "-1", "1.5G", "20000000T", "1X"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}

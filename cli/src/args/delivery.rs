//! `cocoon run`: how the image reaches the guest, and which the guest may take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where layers are turned into a root file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LayersArg {
    /// The guest pulls and unpacks them itself.
    #[default]
    Guest,
    /// This machine keeps each once as a read-only disk that all pods share; the guest checks every block it reads.
    Shared,
}

/// What `cocoon run` is told about images.
#[derive(Debug, Default, Args)]
pub struct DeliveryArgs {
    /// How the image's layers reach the guest.
    #[arg(long, value_enum, default_value_t = LayersArg::Guest, help_heading = "Images")]
    pub layers: LayersArg,
    /// Keep unpacked layers and what the container writes on an encrypted disk of this size, e.g. 20G, not in memory.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Images")]
    pub scratch: Option<u64>,
    /// The signature policy that images must satisfy (containers-policy.json): a file, or kbs:///… of one in Trustee.
    #[arg(long, value_name = "FILE|URI", help_heading = "Images")]
    pub policy: Option<String>,
    /// Where detached signatures are looked for (a containers-registries.d file).
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    pub lookaside: Option<PathBuf>,
    /// Mirrors and blocked registries (a containers-registries.conf file).
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    pub registries: Option<PathBuf>,
    /// A certificate authority that registries and proxies may be certified by, beside the public ones (PEM file).
    #[arg(long = "ca-certificate", value_name = "FILE", help_heading = "Images")]
    pub ca_certificates: Vec<PathBuf>,
    /// A registry that may be spoken to in plain HTTP (host[:port]); loopback needs no entry.
    #[arg(long = "plain-http", value_name = "REGISTRY", help_heading = "Images")]
    pub plain_http: Vec<String>,
    /// The proxy between the guest and registries.
    #[arg(long, value_name = "URL", help_heading = "Images")]
    pub proxy: Option<String>,
    /// Names reached without the proxy: hosts, domains, addresses, CIDR blocks, comma separated.
    #[arg(long, value_name = "NAMES", requires = "proxy", default_value = "", help_heading = "Images")]
    pub no_proxy: String,
}

/// Sizes such as `512M`, `20G` or `1T`, in bytes and whole pages; at least 64 MiB.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('i')).unwrap_or(&lower);
    let (number, shift) = [('t', 40), ('g', 30), ('m', 20)]
        .into_iter()
        .find_map(|(unit, shift)| lower.strip_suffix(unit).map(|n| (n, shift)))
        .unwrap_or((lower, 0));
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if (64 << 20..=16 << 40).contains(&bytes) && bytes % 4096 == 0 => Ok(bytes),
        _ => Err("must be 64M to 16T in whole pages of 4096 bytes, such as 512M or 20G".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_sizes() {
        assert_eq!(parse_bytes("64M"), Ok(64 << 20));
        assert_eq!(parse_bytes("20GiB"), Ok(20 << 30));
        assert_eq!(parse_bytes("1T"), Ok(1 << 40));
        assert_eq!(parse_bytes("67108864"), Ok(64 << 20));
        for bad in ["1M", "x", "17T", "-1", "", "67108865", "99999999999T"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}

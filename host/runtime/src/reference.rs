//! The table of every key, for people: `docs/runtime-reference.md` has it, and a test keeps it so.

use toml::{Table, Value};

use crate::RuntimeConfig;

/// A key of a class file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path.
    pub path: &'static str,
    /// What it may hold.
    pub holds: &'static str,
    /// What it does.
    pub means: &'static str,
}

/// Every key, in the order in which people meet them.
pub const KEYS: &[Key] = &[
    Key {
        path: "protection",
        holds: "`auto`, `snp`, `tdx`, `tpm`, `se`, `cca`, `sim`",
        means: "How pods are protected. `auto`: SNP or TDX where the machine has one, else `sim`, which protects from nobody. \
                `se`, `cca`: QEMU starts such guests, but the guest image has no attester for them yet, so they get no secrets.",
    },
    Key {
        path: "guest_image",
        holds: "absolute path",
        means: "Folder of the guest image: `manifest.json`, `vmlinuz`, `initrd.img`, `firmware.bin`.",
    },
    Key {
        path: "qemu",
        holds: "absolute path",
        means: "QEMU's program; looked for on the PATH where it is not given.",
    },
    Key {
        path: "acceleration",
        holds: "`auto`, `kvm`, `tcg`",
        means: "What executes guests. `auto`: KVM where a probe guest boots with it, else emulation (`tcg`).",
    },
    Key {
        path: "state",
        holds: "absolute path",
        means: "Folder of running pods: sockets, initdata. In memory, gone with a restart of the machine.",
    },
    Key {
        path: "data",
        holds: "absolute path",
        means: "Folder of what outlives pods: the layer cache, the simulated processor's keys.",
    },
    Key { path: "default_cpus", holds: "1 to `max_cpus`", means: "CPUs of a pod that asks for none." },
    Key {
        path: "max_cpus",
        holds: "number",
        means: "Most CPUs of a pod; one that asks for more gets these.",
    },
    Key {
        path: "default_memory_mib",
        holds: "128 to `max_memory_mib`",
        means: "Memory of a pod that has no limit, the guest's own included.",
    },
    Key {
        path: "overhead_memory_mib",
        holds: "number",
        means: "Memory for the guest itself, beside what the pod's limits allow.",
    },
    Key {
        path: "max_memory_mib",
        holds: "number",
        means: "Most memory of a pod; one that asks for more is refused.",
    },
    Key {
        path: "boot_timeout_s",
        holds: "seconds",
        means: "How long a guest may take until it says that it is ready.",
    },
    Key {
        path: "create_timeout_s",
        holds: "seconds",
        means: "How long a container may take to be created: attestation, secrets and image included. One that takes longer is taken back. kubelet has a limit of its own (`runtimeRequestTimeout`, two minutes).",
    },
    Key {
        path: "console",
        holds: "`true`, `false`",
        means: "Whether guests' consoles are kept, as `console.log` in the pod's folder below `state`.",
    },
    Key { path: "snp.policy", holds: "number", means: "SNP guest policy (SEV-SNP ABI, 56860, table 9)." },
    Key {
        path: "snp.id_block",
        holds: "base64 of 96 bytes",
        means: "ID block; only together with `snp.id_auth`.",
    },
    Key {
        path: "snp.id_auth",
        holds: "base64 of 4096 bytes",
        means: "ID authentication block; only together with `snp.id_block`.",
    },
    Key {
        path: "tdx.quote_socket",
        holds: "path, or `vsock:PORT`",
        means: "Where QEMU finds the quote generation service.",
    },
];

/// The table, Markdown.
pub fn markdown() -> String {
    let defaults = defaults(&RuntimeConfig::default());
    let mut out = String::from("| key | holds | default | what it does |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = lookup(&defaults, key.path)
            .map_or_else(|| "none".to_owned(), |v| format!("`{}`", shown(key.path, v)));
        out.push_str(&format!("| `{}` | {} | {default} | {} |\n", key.path, key.holds, key.means));
    }
    out
}

/// People write a guest policy in hexadecimal.
fn shown(path: &str, value: &Value) -> String {
    match value {
        Value::Integer(number) if path == "snp.policy" => format!("{number:#x}"),
        other => other.to_string(),
    }
}

fn defaults(config: &RuntimeConfig) -> Table {
    Table::try_from(config).unwrap_or_default()
}

fn lookup<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => table.get(path),
        Some((first, rest)) => lookup(table.get(first)?.as_table()?, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SnpConfig;

    /// A configuration in which every key is given.
    fn full() -> RuntimeConfig {
        RuntimeConfig {
            qemu: Some("/usr/bin/qemu-system-x86_64".into()),
            snp: SnpConfig {
                id_block: Some(String::new()),
                id_auth: Some(String::new()),
                ..SnpConfig::default()
            },
            ..RuntimeConfig::default()
        }
    }

    fn leaves(table: &Table, above: &str, out: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => leaves(inner, &format!("{above}{key}."), out),
                _ => out.push(format!("{above}{key}")),
            }
        }
    }

    #[test]
    fn every_key_is_described_and_no_other() {
        let mut keys = Vec::new();
        leaves(&defaults(&full()), "", &mut keys);
        let mut described: Vec<String> = KEYS.iter().map(|k| k.path.to_owned()).collect();
        keys.sort();
        described.sort();
        assert_eq!(described, keys);
    }

    #[test]
    fn the_page_has_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runtime-reference.md");
        let (begin, end) = ("<!-- keys: generated -->\n", "<!-- end of keys -->\n");
        let page = std::fs::read_to_string(&path).unwrap();
        let from = page.find(begin).unwrap() + begin.len();
        let to = page.find(end).unwrap();
        if std::env::var_os("COCOON_REGENERATE").is_some() {
            let text = format!("{}{}{}", &page[..from], markdown(), &page[to..]);
            std::fs::write(&path, text).unwrap();
            return;
        }
        assert!(
            page[from..to] == markdown(),
            "docs/runtime-reference.md differs: run this test with COCOON_REGENERATE=1"
        );
    }
}

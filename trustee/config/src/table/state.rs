//! `[state]`, `[seal]`, `[secrets]` and `[[plugins]]`.

use crate::key::Key;
use crate::kind::Kind;

const TEXT: Kind = Kind::Text;
const POSTGRES: &[&str] = &["postgres"];
const COMMAND: &[&str] = &["command"];
const PKCS11: &[&str] = &["pkcs11"];
const VAULT: &[&str] = &["vault"];
const EXTERNAL: &[&str] = &["external"];
const WEB: Kind = Kind::Url(&["https", "http"]);

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "state.kind",
        Kind::Choice(&["embedded", "postgres", "memory"]),
        "`embedded`: a file in `folder`; `postgres`: a database that several servers share; `memory`: lost at exit.",
    )
    .default(r#""embedded""#)
    .restart(),
    Key::new(
        "state.folder",
        Kind::Path,
        "Folder of Trustee's own files: embedded state, seal key, self-signed identity, admin token. \
         Without it `trustee` in Cocoon's data folder.",
    )
    .sample(r#""/var/lib/trustee""#)
    .restart(),
    Key::new(
        "state.postgres_url",
        Kind::SecretUrl(&["postgres", "postgresql"]),
        "Where the database is. Rather use `postgres_url_file` or the environment's POSTGRES_URL.",
    )
    .sample(r#""postgres://trustee:PASSWORD@db.example/trustee""#)
    .when("state.kind", POSTGRES)
    .secret()
    .restart(),
    Key::new("state.postgres_url_file", Kind::Path, "File that holds that URL.")
        .sample(r#""/run/secrets/postgres-url""#)
        .when("state.kind", POSTGRES)
        .restart(),
    Key::new("state.pool_size", Kind::Int(1, 1000), "Most connections to the database.")
        .default("16")
        .when("state.kind", POSTGRES)
        .restart(),
    Key::new(
        "seal.kind",
        Kind::Choice(&["file", "command", "pkcs11"]),
        "Where the key is: in a file, unwrapped by a command, or in a PKCS#11 token.",
    )
    .default(r#""file""#)
    .restart(),
    Key::new("seal.file", Kind::Path, "The key file, 32 bytes, mode 0600. Without it `seal.key` in the state folder.")
        .sample(r#""/etc/trustee/seal.key""#)
        .when("seal.kind", &["file"])
        .restart(),
    Key::new("seal.command", Kind::List(&TEXT, 1), "Program and arguments. It is called with `wrap` or `unwrap` as last argument: the key in base64, or what it made of it, on standard input; the other on standard output.")
        .sample(r#"["/usr/local/bin/kms-key", "trustee"]"#)
        .when("seal.kind", COMMAND)
        .required()
        .restart(),
    Key::new("seal.command_seconds", Kind::Int(1, 600), "How long the command may take.")
        .default("30")
        .unit("seconds")
        .when("seal.kind", COMMAND)
        .restart(),
    Key::new("seal.pkcs11.module", Kind::Path, "The token's PKCS#11 library.")
        .sample(r#""/usr/lib/softhsm/libsofthsm2.so""#)
        .when("seal.kind", PKCS11)
        .required()
        .restart(),
    Key::new("seal.pkcs11.token_label", Kind::Text, "The token by label; or give `slot`.")
        .sample(r#""trustee""#)
        .when("seal.kind", PKCS11)
        .restart(),
    Key::new("seal.pkcs11.slot", Kind::Int(0, u32::MAX as u64), "The token by slot number; or give `token_label`.")
        .sample("0")
        .when("seal.kind", PKCS11)
        .restart(),
    Key::new("seal.pkcs11.key_label", Kind::Text, "Label of the AES key.")
        .sample(r#""trustee-seal""#)
        .when("seal.kind", PKCS11)
        .required()
        .restart(),
    Key::new("seal.pkcs11.pin_file", Kind::Path, "File that holds the user PIN.")
        .sample(r#""/run/secrets/pin""#)
        .when("seal.kind", PKCS11)
        .required()
        .restart(),
    Key::new(
        "secrets.backend",
        Kind::Choice(&["store", "vault", "pkcs11"]),
        "`store`: sealed in Trustee's state; `vault`: in a Vault; `pkcs11`: in a token.",
    )
    .default(r#""store""#),
    Key::new("secrets.vault.url", WEB, "URL of the Vault. `http` only on this machine.")
        .sample(r#""https://vault.example:8200""#)
        .when("secrets.backend", VAULT)
        .required(),
    Key::new("secrets.vault.kv_version", Kind::Int(1, 2), "Version of the KV engine.")
        .default("2")
        .when("secrets.backend", VAULT),
    Key::new("secrets.vault.mount", Kind::Text, "Path at which the KV engine is mounted.")
        .default(r#""secret""#)
        .when("secrets.backend", VAULT),
    Key::new("secrets.vault.token_file", Kind::Path, "File that holds the Vault token.")
        .sample(r#""/run/secrets/vault-token""#)
        .when("secrets.backend", VAULT),
    Key::new("secrets.vault.token", Kind::Text, "The Vault token itself. Rather use `token_file`.")
        .sample(r#""TOKEN""#)
        .when("secrets.backend", VAULT)
        .secret(),
    Key::new("secrets.vault.ca_file", Kind::Path, "Certificate authorities, PEM; the system's without it.")
        .sample(r#""/etc/trustee/vault-ca.pem""#)
        .when("secrets.backend", VAULT),
    Key::new("secrets.vault.namespace", Kind::Text, "Vault Enterprise or OpenBao namespace.")
        .sample(r#""team""#)
        .when("secrets.backend", VAULT),
    Key::new("secrets.vault.prefix", Kind::Text, "Put before each secret's path.")
        .sample(r#""trustee""#)
        .when("secrets.backend", VAULT),
    Key::new("secrets.pkcs11.module", Kind::Path, "The token's PKCS#11 library.")
        .sample(r#""/usr/lib/softhsm/libsofthsm2.so""#)
        .when("secrets.backend", PKCS11)
        .required(),
    Key::new("secrets.pkcs11.token_label", Kind::Text, "The token by label; or give `slot`.")
        .sample(r#""trustee""#)
        .when("secrets.backend", PKCS11),
    Key::new("secrets.pkcs11.slot", Kind::Int(0, u32::MAX as u64), "The token by slot number; or give `token_label`.")
        .sample("0")
        .when("secrets.backend", PKCS11),
    Key::new("secrets.pkcs11.pin_file", Kind::Path, "File that holds the user PIN.")
        .sample(r#""/run/secrets/pin""#)
        .when("secrets.backend", PKCS11)
        .required(),
    Key::new("plugins[].kind", Kind::Choice(&["external", "provisioner", "pkcs11"]), "Which plugin.")
        .sample(r#""external""#)
        .required(),
    Key::new("plugins[].name", Kind::Name, "Its name in the path: /kbs/v0/external/NAME/….")
        .sample(r#""my-plugin""#)
        .when("plugins[].kind", EXTERNAL)
        .required(),
    Key::new("plugins[].endpoint", WEB, "URL of its gRPC service. `http` only on this machine.")
        .sample(r#""https://plugin.example:50051""#)
        .when("plugins[].kind", EXTERNAL)
        .required(),
    Key::new("plugins[].ca_file", Kind::Path, "Certificate authorities of the endpoint, PEM.")
        .sample(r#""/etc/trustee/plugin-ca.pem""#)
        .when("plugins[].kind", EXTERNAL),
    Key::new("plugins[].timeout_ms", Kind::Int(1, 600_000), "How long a call may take.")
        .default("5000")
        .unit("milliseconds")
        .when("plugins[].kind", EXTERNAL),
    Key::new("plugins[].client_certificate", Kind::Path, "Certificate chain to show the endpoint, PEM.")
        .sample(r#""/etc/trustee/plugin-client.pem""#)
        .when("plugins[].kind", EXTERNAL),
    Key::new("plugins[].client_key", Kind::Path, "Its private key, PEM.")
        .sample(r#""/etc/trustee/plugin-client-key.pem""#)
        .when("plugins[].kind", EXTERNAL),
    Key::new("plugins[].key_bytes", Kind::Int(16, 1024), "Length of the disk keys that it makes.")
        .default("32")
        .unit("bytes")
        .when("plugins[].kind", &["provisioner"]),
    Key::new("plugins[].module", Kind::Path, "The token's PKCS#11 library.")
        .sample(r#""/usr/lib/softhsm/libsofthsm2.so""#)
        .when("plugins[].kind", PKCS11)
        .required(),
    Key::new("plugins[].token_label", Kind::Text, "The token by label; or give `slot`.")
        .sample(r#""trustee""#)
        .when("plugins[].kind", PKCS11),
    Key::new("plugins[].slot", Kind::Int(0, u32::MAX as u64), "The token by slot number; or give `token_label`.")
        .sample("0")
        .when("plugins[].kind", PKCS11),
    Key::new("plugins[].key_label", Kind::Text, "Label of the RSA key pair that wraps and unwraps.")
        .sample(r#""wrapping""#)
        .when("plugins[].kind", PKCS11),
    Key::new("plugins[].pin_file", Kind::Path, "File that holds the user PIN.")
        .sample(r#""/run/secrets/pin""#)
        .when("plugins[].kind", PKCS11),
    Key::new("plugins[].pin", Kind::Text, "The user PIN itself. Rather use `pin_file`.")
        .sample(r#""PIN""#)
        .when("plugins[].kind", PKCS11)
        .secret(),
];

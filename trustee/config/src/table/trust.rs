//! `[tokens]` and `[attestation]`.

use crate::key::Key;
use crate::kind::Kind;

const LOCATION: Kind = Kind::Location;
const PATH: Kind = Kind::Path;
const POINTER: Kind = Kind::Pointer;
const NAME: Kind = Kind::Name;

pub(super) const KEYS: &[Key] = &[
    Key::new("tokens.issuer", Kind::Text, "`iss` of the tokens.").default(r#""CoCo-Attestation-Service""#),
    Key::new("tokens.lifetime_seconds", Kind::Int(30, 86_400), "How long a token is good.")
        .default("300")
        .unit("seconds"),
    Key::new(
        "tokens.signing_key",
        Kind::Path,
        "Private key that signs tokens, PEM, EC P-256. Without it one is made and kept in the state.",
    )
    .sample(r#""/etc/trustee/token-key.pem""#),
    Key::new("tokens.certificate_chain", Kind::Path, "Its certificate chain, PEM, for the tokens' `x5c`.")
        .sample(r#""/etc/trustee/token-chain.pem""#),
    Key::new("tokens.verbose", Kind::Bool, "Include additional devices' evidence in tokens, which makes them long.")
        .default("true"),
    Key::new("tokens.trusted.jwks", Kind::List(&LOCATION, 0), "Key sets (JWKS) whose tokens are accepted.")
        .default("[]"),
    Key::new("tokens.trusted.certificates", Kind::List(&PATH, 0), "PEM files of roots of accepted `x5c` chains.")
        .default("[]"),
    Key::new(
        "tokens.trusted.extra_key_pointers",
        Kind::List(&POINTER, 0),
        "Where a foreign token holds the TEE's public key, tried before the usual places.",
    )
    .default("[]"),
    Key::new(
        "attestation.accept_simulated",
        Kind::Bool,
        "Accept this machine's simulated processor. It proves nothing; for tests.",
    )
    .default("false"),
    Key::new(
        "attestation.simulated_roots",
        Kind::List(&PATH, 0),
        "With `accept_simulated`: accept these simulated processors and not this machine's. PEM files, each with the certificates \
         `ark` and `ask` of one or more of them.",
    )
    .default("[]"),
    Key::new(
        "attestation.accept_sample",
        Kind::Bool,
        "Accept CoCo's `sample` evidence, which anybody can make; for tests.",
    )
    .default("false"),
    Key::new(
        "attestation.issue_contraindicated",
        Kind::Bool,
        "Give a token to guests whose measurement or TCB is no reference value, for other relying parties to judge.",
    )
    .default("false"),
    Key::new("attestation.session_seconds", Kind::Int(10, 86_400), "How long a challenge may be answered.")
        .default("300")
        .unit("seconds"),
    Key::new("attestation.policy_ids", Kind::List(&NAME, 1), "Attestation policies, the first of which applies.")
        .default(r#"["default"]"#),
    Key::new(
        "attestation.offline_collateral",
        Kind::Path,
        "Folder of vendors' certificates, CRLs and TCB data. With it nothing is fetched.",
    )
    .sample(r#""/var/lib/trustee/collateral""#),
    Key::new("attestation.amd_kds_url", Kind::Url(&["https"]), "Another AMD key distribution service.")
        .sample(r#""https://kdsintf.amd.com""#),
    Key::new("attestation.intel_collateral_url", Kind::Url(&["https"]), "Another Intel PCS or PCCS.")
        .sample(r#""https://api.trustedservices.intel.com/sgx/certification/v4/""#),
];

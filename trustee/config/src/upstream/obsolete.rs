//! Keys of earlier upstream releases that present ones accept and ignore, though something depended on them.

/// Section (empty: anywhere), key, what it once did, what to do now.
type Row = (&'static str, &'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    (
        "",
        "policy_engine",
        "it named the resource policy file that decided who gets which secret",
        "store the policy through the admin API and remove the section",
    ),
    (
        "",
        "trusted_ak_keys_dir",
        "it named the only TPM attestation keys that were trusted; without it any software key passes for a TPM",
        "register the keys as reference value `trusted_aks` and remove it",
    ),
    (
        "",
        "max_trusted_ak_keys",
        "it limited the trusted TPM attestation keys",
        "register the keys as reference value `trusted_aks` and remove it",
    ),
    (
        "",
        "insecure_api",
        "false demanded a signature of administrators",
        "set `admin.authorization_mode` and remove it",
    ),
    (
        "",
        "auth_public_key",
        "it held the only key that administrators' tokens were accepted from",
        "put it into `public_key_uri` of `admin.authentication.bearer_jwt.identity_providers` and remove it",
    ),
    (
        "",
        "attestation_token_config",
        "it said which attestation tokens are trusted",
        "move its keys to [attestation_token] and remove it",
    ),
    (
        "",
        "attestation_token_type",
        "it chose how attestation tokens are verified",
        "set `trusted_certs_paths` or `trusted_jwk_sets` of [attestation_token] and remove it",
    ),
    (
        "",
        "insecure_key",
        "false demanded that the key of an attestation token is endorsed; it is called `insecure_header_jwk` now",
        "set `trusted_certs_paths` of [attestation_token] and remove it",
    ),
    (
        "admin",
        "type",
        "it said who may administer; it is called `authorization_mode` now",
        "set `admin.authorization_mode` and remove it",
    ),
    (
        "attestation_service",
        "policy_engine",
        "it chose the engine of attestation policies",
        "remove it; policies are Rego",
    ),
    (
        "attestation_service",
        "work_dir",
        "it held attestation policies and reference values",
        "store them through the admin API and remove it",
    ),
    (
        "attestation_service.attestation_token_broker",
        "policy_dir",
        "it held the attestation policies",
        "store them through the admin API and remove it",
    ),
    (
        "attestation_service.attestation_token_broker",
        "type",
        "it chose the token's form, and with `Simple` the policies behind it",
        "remove it; tokens are EAR",
    ),
    (
        "attestation_service.rvps_config",
        "store_type",
        "it said where reference values are kept; ignored, they are lost at exit and old ones are missing",
        "set [storage_backend] and remove it",
    ),
    (
        "attestation_service.rvps_config",
        "store_config",
        "it said where reference values are kept; ignored, they are lost at exit and old ones are missing",
        "set [storage_backend] and remove it",
    ),
    (
        "attestation_service.rvps_config",
        "storage",
        "it said where reference values are kept; ignored, they are lost at exit and old ones are missing",
        "set [storage_backend] and remove it",
    ),
    (
        "attestation_service.rvps_config",
        "remote_addr",
        "it named the server that reference values come from",
        "register the reference values here and remove it",
    ),
    (
        "",
        "rvps_config",
        "it said where reference values come from",
        "move it to [attestation_service.rvps_config]",
    ),
    ("", "repository_config", "it said where secrets are kept", "set [storage_backend] and remove it"),
    ("", "grpc_config", "it named the attestation service", "set `attestation_service.type` and remove it"),
    ("", "as_config", "it configured the attestation service", "move its keys to [attestation_service]"),
    (
        "",
        "intel_trust_authority_config",
        "it named the attestation service",
        "set `attestation_service.type` and remove it",
    ),
    ("", "insecure_http", "it belongs to [http_server] now", "move it there"),
    ("", "private_key", "it was the TLS key", "move it to [http_server]"),
    ("", "certificate", "it was the TLS certificate", "move it to [http_server]"),
    ("", "sockets", "it belongs to [http_server] now", "move it there"),
];

/// What is known of an obsolete key: what it did and what to do now.
pub(super) fn look_up(section: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let rows = || ROWS.iter().filter(|row| row.1 == name);
    rows()
        .find(|row| row.0 == section)
        .or_else(|| rows().find(|row| row.0.is_empty()))
        .map(|row| (row.2, row.3))
}

//! Schemas of what the API takes and gives.

use serde_json::{Map, Value, json};

/// An object with these required and optional members.
fn object(required: &[(&str, Value)], optional: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        required.iter().chain(optional).map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

fn text(meaning: &str) -> Value {
    json!({"type": "string", "description": meaning})
}

fn number(meaning: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": meaning})
}

fn flag(meaning: &str) -> Value {
    json!({"type": "boolean", "description": meaning})
}

fn nullable(kind: &str, meaning: &str) -> Value {
    json!({"type": [kind, "null"], "description": meaning})
}

fn of(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn map(values: Value) -> Value {
    json!({"type": "object", "additionalProperties": values})
}

fn expiry() -> Value {
    nullable("integer", "when it ends, in seconds since 1970; absent or null: never")
}

/// All schemas by name.
pub(super) fn all() -> Value {
    let status = json!({"type": "string", "enum": ["affirming", "warning"], "description": "least appraisal; default affirming"});
    let simulated = flag("whether a simulated TEE is good enough; default false");
    let version = [
        ("id", text("`default_cpu`, …, or `resource-policy`")),
        ("kind", json!({"type": "string", "enum": ["attestation", "resource"]})),
        ("version", number("from 1")),
        ("sha256", text("of the text, hex")),
        ("size", number("bytes")),
        ("author", text("who stored it")),
        ("note", text("for people")),
        ("created_unix", number("when")),
        ("active", flag("whether it is in force")),
    ];
    let schemas: Vec<(&str, Value)> = vec![
        (
            "ErrorInformation",
            object(
                &[("type", text("kind of refusal, a URI")), ("detail", text("code, request id and reason"))],
                &[],
            ),
        ),
        ("Backup", json!({"type": "string", "format": "binary"})),
        ("Bytes", json!({"type": "string", "format": "binary", "maxLength": 1_048_576})),
        ("Pem", text("a public key or an authority's certificate in PEM")),
        ("Paths", list(text("repository/type/tag"))),
        ("Removed", object(&[("removed", number("how many records"))], &[])),
        ("KeyId", object(&[("kid", text("id of the new key: its RFC 7638 thumbprint"))], &[])),
        (
            "Status",
            object(
                &[
                    ("version", text("of the program")),
                    ("tenant", nullable("string", "which tenant this is")),
                    ("issuer", text("`iss` of tokens")),
                    ("public_url", nullable("string", "where clients reach it")),
                    ("shared_store", flag("whether other replicas use the same state")),
                    ("accepts", json!({"type": "object", "description": "which evidence is accepted"})),
                    ("counts", map(number("how many"))),
                    ("plugins", list(text("name"))),
                ],
                &[],
            ),
        ),
        (
            "Registration",
            object(
                &[("name", text("for people, up to 128 characters"))],
                &[
                    ("secrets", map(text("the value, standard base64; the path is the member's name"))),
                    ("allow", list(text("path of a shared secret it may have"))),
                    ("min_status", status.clone()),
                    ("accept_simulated", simulated.clone()),
                    ("expires_unix", expiry()),
                ],
            ),
        ),
        (
            "Workload",
            object(
                &[
                    ("digest_hex", text("initdata digest")),
                    ("name", text("for people")),
                    ("secrets", list(text("path of one of its own secrets"))),
                    ("allow", list(text("path of a shared secret it may have"))),
                    ("min_status", status.clone()),
                    ("accept_simulated", simulated.clone()),
                    ("registered_unix", number("when")),
                    ("expires_unix", expiry()),
                ],
                &[],
            ),
        ),
        ("Workloads", list(of("Workload"))),
        (
            "Rule",
            object(
                &[
                    ("workload", text("`any`, `name:NAME` of a registered workload, or `digest:HEX`")),
                    ("path", text("repository/type/tag, each part may end in `*`")),
                ],
                &[
                    ("id", text("the path's, 1–64 of a-z, 0-9, -")),
                    ("min_status", status),
                    ("accept_simulated", simulated),
                    ("expires_unix", expiry()),
                    ("note", text("for people, up to 512 characters")),
                ],
            ),
        ),
        ("Rules", list(of("Rule"))),
        ("PolicyText", object(&[("policy", text("Rego, package policy"))], &[("note", text("for people"))])),
        ("PolicyTexts", map(text("Rego"))),
        ("PolicyVersion", object(&version, &[])),
        ("Policy", object(&[&version[..], &[("policy", text("Rego, package policy"))]].concat(), &[])),
        ("PolicyVersions", list(of("PolicyVersion"))),
        ("Policies", list(of("PolicyVersion"))),
        ("VersionChoice", object(&[("version", number("which"))], &[])),
        (
            "DryRuns",
            object(
                &[(
                    "runs",
                    list(object(
                        &[("request_id", text("of the verdict whose evidence was used"))],
                        &[
                            ("status", text("none, affirming, warning or contraindicated")),
                            ("trustworthiness-vector", json!({"type": "object"})),
                            ("extensions", json!({"type": "object"})),
                            ("path", text("of the secret asked for")),
                            ("allow", flag("whether the resource policy would allow it")),
                            ("code", text("why the policy failed")),
                            ("reason", text("in words")),
                        ],
                    )),
                )],
                &[],
            ),
        ),
        (
            "ReferenceValue",
            object(
                &[
                    ("name", text("as policies know it")),
                    ("values", list(json!({}))),
                    ("source", text("who registered it")),
                    ("registered_unix", number("when")),
                    ("version", number("how often it was registered")),
                    ("set", text("the set it belongs to")),
                ],
                &[
                    ("expires_unix", expiry()),
                    ("signed_by", text("key or certificate that signed its document")),
                    ("single", flag("a single value, not a list")),
                ],
            ),
        ),
        ("ReferenceValues", list(of("ReferenceValue"))),
        (
            "SourceValues",
            object(
                &[("source", text("who registers them")), ("values", map(list(json!({}))))],
                &[("expires_unix", expiry())],
            ),
        ),
        (
            "ReferenceImport",
            object(
                &[(
                    "message",
                    json!({"type": "object", "description": "{version, type: sample|swid|corim|in-toto|cocoon, payload: base64}"}),
                )],
                &[
                    ("set", text("name of the set")),
                    ("source", text("who made it")),
                    ("expires_unix", expiry()),
                    ("unsigned", flag("take it although nobody trusted signed it")),
                    ("allow_older", flag("take an older version than the present one")),
                ],
            ),
        ),
        (
            "ReferenceSet",
            json!({"type": "object", "description": "name, version, source, times, signer, digest and count"}),
        ),
        ("ReferenceSets", list(of("ReferenceSet"))),
        (
            "Changes",
            list(object(
                &[("name", text("which")), ("added", list(json!({}))), ("removed", list(json!({})))],
                &[],
            )),
        ),
        ("TrustAnchors", map(text("PEM"))),
        (
            "Step",
            object(
                &[
                    ("name", text("stable dotted name")),
                    ("expected", text("what the check asks for")),
                    ("got", text("what it found")),
                    ("source", text("who asks for it")),
                ],
                &[("code", text("why it failed")), ("skipped", flag("not looked at"))],
            ),
        ),
        (
            "Explanation",
            object(
                &[
                    ("request_id", text("as given to the guest")),
                    ("at_unix", number("when")),
                    ("kind", json!({"type": "string", "enum": ["attest", "release", "guest"]})),
                    ("code", nullable("string", "the refusal's code; null: granted")),
                    ("simulated", flag("whether the evidence is simulated")),
                    ("steps", list(of("Step"))),
                ],
                &[
                    ("tee", text("which TEE attested")),
                    ("path", text("which secret was asked for")),
                    ("stage", text("at which stage the guest failed")),
                    ("reason", text("one sentence")),
                    ("init_data", text("bound initdata digest, hex")),
                    ("workload", text("name of the registered workload")),
                    ("inputs", json!({"type": "array", "description": "what policies were asked"})),
                ],
            ),
        ),
        ("Explanations", list(of("Explanation"))),
        (
            "SignedHead",
            object(
                &[
                    ("log_id", text("which log")),
                    ("size", number("entries")),
                    ("root_hex", text("Merkle tree hash, RFC 9162")),
                    ("at_unix", number("when it was signed")),
                    ("key_id", text("by which key")),
                    ("signature_b64", text("signature")),
                ],
                &[],
            ),
        ),
        (
            "AuditKey",
            object(&[("key_id", text("its id")), ("public_key", text("`ed25519:` or `p256:` and hex"))], &[]),
        ),
        ("AuditEntries", list(json!({"type": "object", "description": "index and entry"}))),
        (
            "InclusionProof",
            object(
                &[
                    ("index", number("of the entry")),
                    ("size", number("of the tree")),
                    ("path", list(text("hash, hex"))),
                ],
                &[],
            ),
        ),
        (
            "ConsistencyProof",
            object(
                &[
                    ("from", number("smaller size")),
                    ("to", number("larger size")),
                    ("path", list(text("hash, hex"))),
                ],
                &[],
            ),
        ),
        (
            "Tenant",
            object(
                &[
                    ("name", text("1–40 of a-z, 0-9, -")),
                    ("created_unix", number("when")),
                    ("quota", of("Quota")),
                ],
                &[],
            ),
        ),
        ("Tenants", list(of("Tenant"))),
        (
            "Quota",
            object(
                &[],
                &[
                    ("secrets", number("shared secrets")),
                    ("workloads", number("registered workloads")),
                    ("rules", number("release rules")),
                    ("reference_values", number("records of reference values")),
                    ("policies", number("policies")),
                ],
            ),
        ),
        (
            "TenantCreated",
            object(
                &[
                    ("name", text("the tenant")),
                    ("quota", of("Quota")),
                    ("path", text("prefix of its paths")),
                    (
                        "admin_token",
                        nullable(
                            "string",
                            "its administrator's token, given once; null where it was there before",
                        ),
                    ),
                ],
                &[],
            ),
        ),
        ("TenantToken", object(&[("admin_token", text("the new token, given once"))], &[])),
    ];
    Value::Object(schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect())
}

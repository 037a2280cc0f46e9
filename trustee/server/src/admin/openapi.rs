//! The OpenAPI document of the API, made of the table of operations; a copy is checked in as `docs/openapi.json`.

use serde_json::{Map, Value, json};

use super::{Operation, operations};

#[path = "schemas.rs"]
mod schemas;

/// The document (OpenAPI 3.1).
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for operation in operations::all() {
        let path = format!("/cocoon/v0{}", operation.path.replace("{*name}", "{name}"));
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(operation.method.as_str().to_ascii_lowercase(), described(&operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Cocoon Trustee: administration",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Needs an administrator: a bearer token, or a client certificate. A tenant's administration has \
                            the same paths below /t/NAME. Refusals are ErrorInformation with the headers x-cocoon-code \
                            and x-request-id.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
            "schemas": schemas::all(),
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut out = json!({
        "summary": operation.summary,
        "operationId": operation_id(operation),
        "parameters": parameters(operation),
        "responses": {
            "200": done(operation),
            "400": refused("The request is malformed, or what it sets is not valid."),
            "401": refused("No administrator's credentials, or wrong ones."),
            "403": refused("These credentials do not allow this."),
            "404": refused("There is none."),
        },
    });
    if let (Some(schema), Some(members)) = (operation.takes, out.as_object_mut()) {
        members.insert("requestBody".into(), json!({"required": true, "content": content(schema)}));
    }
    out
}

fn operation_id(operation: &Operation) -> String {
    let words: Vec<&str> = operation.path.split(['/', '-']).filter(|w| !w.is_empty()).collect();
    let mut id = operation.method.as_str().to_ascii_lowercase();
    for word in words {
        let word = word.trim_matches(['{', '}', '*']);
        let (first, rest) = word.split_at(word.len().min(1));
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    id
}

fn parameters(operation: &Operation) -> Value {
    let path = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*');
        Some(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
    });
    let query = operation.query.iter().map(|(name, meaning)| {
        json!({"name": name, "in": "query", "required": false, "description": meaning, "schema": {"type": "string"}})
    });
    path.chain(query).collect()
}

fn done(operation: &Operation) -> Value {
    match operation.gives {
        Some(schema) => json!({"description": "Done.", "content": content(schema)}),
        None => json!({"description": "Done."}),
    }
}

fn refused(description: &str) -> Value {
    json!({"description": description, "content": content("ErrorInformation")})
}

fn content(schema: &str) -> Value {
    let kind = match schema {
        "Bytes" | "Backup" => "application/octet-stream",
        "Pem" => "application/x-pem-file",
        _ => "application/json",
    };
    json!({ (kind): {"schema": {"$ref": format!("#/components/schemas/{schema}")}} })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_is_described_once_with_schemas_that_exist() {
        let document = openapi();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut ids = BTreeSet::new();
        for operation in operations::all() {
            assert!(ids.insert(operation_id(&operation)), "{}", operation.path);
            for schema in operation.takes.into_iter().chain(operation.gives) {
                assert!(schemas.contains_key(schema), "{schema}");
            }
        }
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        for name in schemas.keys() {
            assert!(text.contains(&format!("#/components/schemas/{name}\"")), "{name} is not used");
        }
    }

    #[test]
    fn the_checked_in_document_is_this_one() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let wanted = serde_json::to_string_pretty(&openapi()).unwrap() + "\n";
        if std::env::var_os("COCOON_BLESS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == wanted,
            "docs/openapi.json differs: run this test with COCOON_BLESS=1 and look at the change"
        );
    }
}

//! `cocoon reference`.

use cocoon_reference::{Format, SetDocument, message, sign_set};
use cocoon_stage::{Code, Failure};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::{content, note, print, say, text, text_of, usage};
use crate::args::{DocumentArgs, FormatArg, ReferenceCommand, TrustCommand};
use crate::client::{AdminClient, segment};
use crate::embedded::now;
use crate::moments::expiry;

pub async fn reference(command: ReferenceCommand) -> Result<(), Failure> {
    match command {
        ReferenceCommand::List { common } => {
            print(&AdminClient::open(&common)?.get("reference-values", "reference values").await?, &common)
        }
        ReferenceCommand::Set { name, values, source, expires, common } => {
            let values: Vec<Value> = values.iter().map(|value| typed(value)).collect();
            let mut body = json!({"source": source, "values": {name: values}});
            if let (Some(end), Some(body)) = (expiry(expires.as_deref(), now())?, body.as_object_mut()) {
                body.insert("expires_unix".into(), end.into());
            }
            AdminClient::open(&common)?.put("reference-values", &body, "reference values").await.map(drop)
        }
        ReferenceCommand::Rm { name, source, common } => {
            let query = source.map(|s| format!("?source={}", segment(&s))).unwrap_or_default();
            let path = format!("reference-values/{}{query}", segment(&name));
            AdminClient::open(&common)?.delete(&path, &format!("reference value {name}")).await.map(drop)
        }
        ReferenceCommand::Import { document, common } => {
            let body = import(&document)?;
            let client = AdminClient::open(&common)?;
            let set = client.post("reference-values/import", Some(&body), "document").await?;
            note(
                &common,
                &format!("set {:?} from {:?} is in force", text(&set, "name"), text(&set, "source")),
            );
            print(&set, &common)
        }
        ReferenceCommand::Diff { document, common } => {
            let body = import(&document)?;
            let client = AdminClient::open(&common)?;
            let changes = client.post("reference-values/preview", Some(&body), "document").await?;
            if common.json {
                return print(&changes, &common);
            }
            changes.as_array().into_iter().flatten().for_each(show_change);
            if changes.as_array().is_none_or(Vec::is_empty) {
                note(&common, "nothing would change");
            }
            Ok(())
        }
        ReferenceCommand::Sets { common } => {
            print(&AdminClient::open(&common)?.get("reference-sets", "sets").await?, &common)
        }
        ReferenceCommand::Show { set, common } => {
            let path = format!("reference-sets/{}", segment(&set));
            print(&AdminClient::open(&common)?.get(&path, &format!("set {set}")).await?, &common)
        }
        ReferenceCommand::RmSet { set, common } => {
            let path = format!("reference-sets/{}", segment(&set));
            AdminClient::open(&common)?.delete(&path, &format!("set {set}")).await.map(drop)
        }
        ReferenceCommand::Sign { file, key, set, version, source, expires, key_id } => {
            let values: Map<String, Value> = serde_json::from_slice(&content(&file)?).map_err(|e| {
                Failure::new(Code::ReferenceInvalid, format!("{}: not a JSON object: {e}", file.display()))
            })?;
            let set = SetDocument {
                set,
                source,
                version,
                expires_unix: expiry(expires.as_deref(), now())?,
                values,
            };
            let pem = content(&key)?;
            let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)
                .map_err(|_| usage(format!("{}: no PKCS#8 private key in PEM", key.display())))?;
            say(&sign_set(&set, &key_id, key.secret_pkcs8_der()).map_err(Failure::from)?);
            Ok(())
        }
        ReferenceCommand::Trust(command) => trust(command).await,
    }
}

/// Numbers stay numbers, because TCB components are compared as such; what stands in double quotes is text.
fn typed(value: &str) -> Value {
    let quoted = value.starts_with('"').then(|| serde_json::from_str::<String>(value).ok()).flatten();
    match (quoted, value.parse::<u64>()) {
        (Some(text), _) => text.into(),
        (None, Ok(number)) => number.into(),
        (None, Err(_)) => value.into(),
    }
}

fn show_change(change: &Value) {
    let values = |name: &str| change.get(name).and_then(Value::as_array).into_iter().flatten();
    for value in values("added") {
        say(&format!("+ {} {value}", text(change, "name")));
    }
    for value in values("removed") {
        say(&format!("- {} {value}", text(change, "name")));
    }
}

/// The body of an import or a preview.
fn import(args: &DocumentArgs) -> Result<Value, Failure> {
    let document = content(&args.file)?;
    let format = match args.format {
        FormatArg::Auto => detect(&document)
            .ok_or_else(|| usage(format!("{}: its format is not clear; give --type", args.file.display())))?,
        FormatArg::Sample => Format::Sample,
        FormatArg::Swid => Format::Swid,
        FormatArg::Corim => Format::Corim,
        FormatArg::InToto => Format::InToto,
        FormatArg::Cocoon => Format::Cocoon,
    };
    let message: Value = serde_json::from_str(&message(format, &document))
        .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    let mut body = Map::new();
    body.insert("message".into(), message);
    if let Some(set) = &args.set {
        body.insert("set".into(), set.as_str().into());
    }
    if let Some(source) = &args.source {
        body.insert("source".into(), source.as_str().into());
    }
    if let Some(end) = expiry(args.expires.as_deref(), now())? {
        body.insert("expires_unix".into(), end.into());
    }
    body.insert("unsigned".into(), args.unsigned.into());
    body.insert("allow_older".into(), args.allow_older.into());
    Ok(Value::Object(body))
}

/// The format of a document by its beginning: XML, CBOR, or JSON with or without a DSSE envelope.
fn detect(document: &[u8]) -> Option<Format> {
    let start = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document).trim_ascii_start();
    match start.first()? {
        b'<' => Some(Format::Swid),
        b'{' => {
            let json: Value = serde_json::from_slice(start).ok()?;
            match json.get("payloadType").and_then(Value::as_str) {
                Some(kind) if kind.contains("in-toto") => Some(Format::InToto),
                Some(_) => Some(Format::Cocoon),
                None => Some(Format::Sample),
            }
        }
        // A CBOR tag (CoRIM's own, or COSE_Sign1's) or an array, as COSE_Sign1 without its tag.
        0xc0..=0xdb | 0x80..=0x9f => Some(Format::Corim),
        _ => None,
    }
}

async fn trust(command: TrustCommand) -> Result<(), Failure> {
    let at = |id: &str| format!("trust-anchors/{}", segment(id));
    match command {
        TrustCommand::List { common } => {
            print(&AdminClient::open(&common)?.get("trust-anchors", "trusted keys").await?, &common)
        }
        TrustCommand::Add { id, file, common } => {
            let pem = text_of(&file)?;
            let client = AdminClient::open(&common)?;
            client.put_bytes(&at(&id), pem.into(), &format!("trusted key {id}")).await
        }
        TrustCommand::Rm { id, common } => {
            AdminClient::open(&common)?.delete(&at(&id), &format!("trusted key {id}")).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_types() {
        for (text, value) in
            [("7", json!(7)), ("\"7\"", json!("7")), ("ab", json!("ab")), ("\"", json!("\""))]
        {
            assert_eq!(typed(text), value);
        }
    }

    #[test]
    fn formats_are_told_by_content() {
        for (document, format) in [
            (&b"\xef\xbb\xbf <?xml"[..], Some(Format::Swid)),
            (b" {\"a\": 1}", Some(Format::Sample)),
            (br#"{"payloadType": "application/vnd.in-toto+json"}"#, Some(Format::InToto)),
            (br#"{"payloadType": "application/vnd.cocoon"}"#, Some(Format::Cocoon)),
            (b"\xd2\x84", Some(Format::Corim)),
            (b"{", None),
            (b"", None),
            (b"hello", None),
        ] {
            assert_eq!(detect(document), format, "{document:?}");
        }
    }
}

//! Shared secrets, under their own path and under upstream's.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use cocoon_release::ResourcePath;
use http::{StatusCode, Uri};

use super::{Answer, Call, Head, bad, refusal};
use crate::Trustee;
use crate::reply::Variant::PluginInternalError;
use crate::router::resource_path;

/// `POST|PUT /kbs/v0/resource/{repo}/{type}/{tag}`: the body is the secret.
pub(crate) async fn put_resource(
    State(trustee): State<Trustee>,
    uri: Uri,
    head: Head,
    request: Request,
) -> Response {
    let work = move |t: &Trustee, call: &Call| set(t, call, &resource_path(&uri)?);
    trustee.administer(head, BTreeMap::new(), BTreeMap::new(), request, false, work).await
}

/// `DELETE /kbs/v0/resource/…`.
pub(crate) async fn delete_resource(
    State(trustee): State<Trustee>,
    uri: Uri,
    head: Head,
    request: Request,
) -> Response {
    let work = move |t: &Trustee, call: &Call| remove(t, call, &resource_path(&uri)?);
    trustee.administer(head, BTreeMap::new(), BTreeMap::new(), request, false, work).await
}

fn set(t: &Trustee, call: &Call, path: &ResourcePath) -> Answer {
    t.inner.shared.metrics.writes.inc();
    t.put_secret(path, &call.body).map_err(|e| refusal(PluginInternalError, e))?;
    tracing::info!(request_id = %call.id, %path, "secret set");
    call.done()
}

fn remove(t: &Trustee, call: &Call, path: &ResourcePath) -> Answer {
    t.inner.shared.metrics.deletes.inc();
    let there = t.delete_secret(path).map_err(|e| refusal(PluginInternalError, e))?;
    tracing::info!(request_id = %call.id, %path, there, "secret removed");
    call.done_if(there)
}

fn path(call: &Call) -> Result<ResourcePath, super::Refusal> {
    let text = ["repository", "type", "tag"].map(|name| call.param(name)).join("/");
    text.parse().map_err(|e: cocoon_release::Error| bad(e.to_string()))
}

pub(super) fn put(t: &Trustee, call: &Call) -> Answer {
    let path = path(call)?;
    match call.query.get("if_absent").map(String::as_str) {
        None | Some("false") => set(t, call, &path),
        Some("true") => create(t, call, &path),
        Some(_) => Err(bad("if_absent is true or false")),
    }
}

/// Sets a secret only where there is none: of several that do so at once, one is told that it did.
fn create(t: &Trustee, call: &Call, path: &ResourcePath) -> Answer {
    t.inner.shared.metrics.writes.inc();
    if !t.put_secret_if_absent(path, &call.body).map_err(|e| refusal(PluginInternalError, e))? {
        return Err(bad("there is one already").with_status(StatusCode::PRECONDITION_FAILED));
    }
    tracing::info!(request_id = %call.id, %path, "secret created");
    call.done()
}

pub(super) fn delete(t: &Trustee, call: &Call) -> Answer {
    remove(t, call, &path(call)?)
}

pub(super) fn list(t: &Trustee, call: &Call) -> Answer {
    call.ok(&t.secrets().map_err(|e| refusal(PluginInternalError, e))?)
}

//! Administration under upstream's paths (trustee.md §1.2), for its clients.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use cocoon_policy::RESOURCE_POLICY_ID;
use cocoon_protocol::b64;
use cocoon_reference::ImportOptions;
use cocoon_stage::Code;
use http::Method;
use serde::Deserialize;

use super::{Answer, Call, Head, Refusal, bad, policies, refusal};
use crate::Trustee;
use crate::reply::Variant::{PolicyEngineError, RvpsError};

/// `POST /attestation-policy`; `type` is ignored, as upstream does.
#[derive(Deserialize)]
struct AttestationPolicy {
    policy_id: String,
    policy: String,
}

/// `POST /resource-policy`.
#[derive(Deserialize)]
struct ResourcePolicy {
    policy: String,
}

/// Source of reference values that upstream's clients register.
const SOURCE: &str = "admin";

pub(crate) async fn kbs(
    State(trustee): State<Trustee>,
    Path(params): Path<BTreeMap<String, String>>,
    Query(query): Query<BTreeMap<String, String>>,
    head: Head,
    request: Request,
) -> Response {
    let get = head.method == Method::GET;
    let after = head.path.split("/kbs/v0/").nth(1).unwrap_or_default();
    let (work, quiet): (fn(&Trustee, &Call) -> Answer, bool) = match (after.split('/').next(), get) {
        (Some("attestation-policy"), _) => (set_attestation_policy, false),
        (Some("resource-policy"), true) => (resource_policies, true),
        (Some("resource-policy"), false) => (set_resource_policy, false),
        (_, true) => (reference_value, true),
        (_, false) => (register, false),
    };
    trustee.administer(head, params, query, request, quiet, work).await
}

fn text(policy: &str) -> Result<String, Refusal> {
    let bytes =
        b64::url_decode(policy.trim_end_matches('=')).map_err(|_| bad("the policy is not base64url"))?;
    String::from_utf8(bytes).map_err(|_| policies::invalid("the policy is not UTF-8"))
}

fn set_attestation_policy(t: &Trustee, call: &Call) -> Answer {
    let wire: AttestationPolicy = call.json()?;
    if wire.policy_id == RESOURCE_POLICY_ID {
        return Err(bad("this id is the resource policy's"));
    }
    let stored = t.put_policy(&wire.policy_id, &text(&wire.policy)?, &call.admin.name, "");
    stored.map_err(|e| refusal(PolicyEngineError, e))?;
    call.done()
}

fn set_resource_policy(t: &Trustee, call: &Call) -> Answer {
    let wire: ResourcePolicy = call.json()?;
    let stored = t.put_policy(RESOURCE_POLICY_ID, &text(&wire.policy)?, &call.admin.name, "");
    stored.map_err(|e| refusal(PolicyEngineError, e))?;
    call.done()
}

/// The ids of resource policies, of which there is one or none.
fn resource_policies(t: &Trustee, call: &Call) -> Answer {
    let there =
        !t.policies().history(RESOURCE_POLICY_ID).map_err(|e| refusal(PolicyEngineError, e))?.is_empty();
    call.ok(&if there { vec![RESOURCE_POLICY_ID] } else { Vec::new() })
}

/// A message of upstream's form. An administrator sends it, which is what upstream asks for; what is signed is checked
/// all the same.
fn register(t: &Trustee, call: &Call) -> Answer {
    let options =
        ImportOptions { source: Some(SOURCE.into()), unsigned_ok: true, ..ImportOptions::default() };
    t.import_references(&call.body, options).map_err(|e| refusal(RvpsError, e))?;
    call.done()
}

/// The value of a name as policies get it. Upstream's clients expect 401 where there is none.
fn reference_value(t: &Trustee, call: &Call) -> Answer {
    let value = t.references().lookup(call.param("name"), call.now).map_err(|e| refusal(RvpsError, e))?;
    match value {
        Some(value) => call.ok(&value),
        None => Err(Refusal::coded(RvpsError, Code::UsageInvalid, "no such reference value")),
    }
}

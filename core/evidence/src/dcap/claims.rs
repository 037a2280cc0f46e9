//! Claims that every verified quote gives.

use aws_lc_rs::digest::{SHA384, digest};
use serde_json::{Map, Value, json};

use super::chain::PckChain;
use super::endorse::Endorsed;
use super::identity::QeIdentity;
use super::pck::SgxType;
use super::tcb::Appraised;
use super::tcb_info::{SvnLevel, TcbInfo};
use super::time;
use crate::x509::{PublicKey, Validity};

/// The claims, by upstream's names; `fmspc`, `pce_svn`, `tdx_module_*` and `qe_*` are more.
#[allow(clippy::too_many_arguments)]
pub(super) fn claims(
    chain: &PckChain,
    endorsed: &Endorsed,
    info: &TcbInfo,
    identity: &QeIdentity,
    appraised: &Appraised,
    current: Option<&Appraised>,
    qe: &SvnLevel,
    now: u64,
) -> Map<String, Value> {
    let certificates = [&chain.leaf, &chain.authority, &chain.root].map(|c| c.validity());
    let all = || endorsed.dated.iter().map(|d| d.validity).chain(certificates);
    let date = |unix: Option<u64>| unix.map(time::format);
    let expired = |v: Validity| v.not_after < now;
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| {
        claims.insert(name.to_owned(), value);
    };
    put("tcb_status", json!(appraised.status.name()));
    put("tcb_date", json!(time::format(appraised.date)));
    put("advisory_ids", json!(appraised.advisories));
    if let Some(current) = current {
        put("tcb_status_current", json!(current.status.name()));
        put("tcb_date_current", json!(time::format(current.date)));
        put("advisory_ids_current", json!(current.advisories));
    }
    put("collateral_expiration_status", json!(if all().any(expired) { "1" } else { "0" }));
    put("earliest_issue_date", json!(date(all().map(|v| v.not_before).min())));
    put("latest_issue_date", json!(date(all().map(|v| v.not_before).max())));
    put("earliest_expiration_date", json!(date(all().map(|v| v.not_after).min())));
    put("pck_crl_num", json!(endorsed.pck_crl.as_ref().and_then(|crl| crl.number())));
    put("root_ca_crl_num", json!(endorsed.root_crl.as_ref().and_then(|crl| crl.number())));
    put("tcb_eval_num", json!(info.evaluation_data_number.min(identity.evaluation_data_number)));
    put("platform_provider_id", json!(hex::encode(chain.pck.ppid)));
    put("sgx_type", json!(chain.pck.sgx_type.name()));
    if chain.pck.sgx_type != SgxType::Standard {
        let configuration = chain.pck.configuration;
        put("is_dynamic_platform", json!(configuration.dynamic_platform.unwrap_or_default()));
        put("is_cached_keys", json!(configuration.cached_keys.unwrap_or_default()));
        put("is_smt_enabled", json!(configuration.smt_enabled.unwrap_or_default()));
    }
    if let Ok(PublicKey::Ec(_, point)) = chain.root.key() {
        put("root_key_id", json!(hex::encode(digest(&SHA384, &point))));
    }
    if let Some(id) = chain.pck.platform_instance_text() {
        put("platform_instance_id", json!(id));
    }
    put("fmspc", json!(hex::encode(chain.pck.fmspc)));
    put("pce_svn", json!(chain.pck.pce_svn));
    put("qe_tcb_status", json!(qe.status.name()));
    put("qe_tcb_date", json!(time::format(qe.date)));
    if let Some((status, date)) = appraised.module {
        put("tdx_module_tcb_status", json!(status.name()));
        put("tdx_module_tcb_date", json!(time::format(date)));
    }
    put("simulated", json!(chain.simulated));
    claims
}

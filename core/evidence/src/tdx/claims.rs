//! Claims of a TD, by upstream's names and in its forms.

use serde_json::{Map, Value, json};

use super::evidence::Evidence;
use crate::dcap::{Body, Header, Quote, TdReport};
use crate::eventlog::Algorithm;

/// ATTRIBUTES of a TD that have a name (Intel TDX module base specification, ATTRIBUTES).
pub(super) mod attribute {
    /// The host may debug the TD.
    pub const DEBUG: u64 = 1;
    /// Indirect and conditional branch speculation is off.
    pub const ICSSD: u64 = 1 << 16;
    /// Linear address space separation.
    pub const LASS: u64 = 1 << 27;
    /// EPT violations of private memory do not become #VE.
    pub const SEPT_VE_DISABLE: u64 = 1 << 28;
    /// Service TDs may migrate the TD.
    pub const MIGRATABLE: u64 = 1 << 29;
    /// Supervisor protection keys.
    pub const PKS: u64 = 1 << 30;
    /// Key Locker.
    pub const KEY_LOCKER: u64 = 1 << 31;
    /// TD is a TDX Connect provisioning agent.
    pub const TPA: u64 = 1 << 62;
    /// Performance monitoring.
    pub const PERFMON: u64 = 1 << 63;
    /// The bits of the group TUD: with one of them set the TD is not protected from the host.
    pub const UNTRUSTED: u64 = 0xff;
    /// All that have a name.
    pub const KNOWN: u64 =
        DEBUG | ICSSD | LASS | SEPT_VE_DISABLE | MIGRATABLE | PKS | KEY_LOCKER | TPA | PERFMON;
}

/// What a TD's quote says, as claims. Nothing of it is verified here.
pub fn claims(quote: &Quote, td: &TdReport) -> Map<String, Value> {
    let mut body = json!({
        "tcb_svn": hex::encode(td.tee_tcb_svn),
        "mr_seam": hex::encode(td.mr_seam),
        "mrsigner_seam": hex::encode(td.mrsigner_seam),
        "seam_attributes": hex::encode(td.seam_attributes),
        "td_attributes": hex::encode(td.td_attributes),
        "xfam": hex::encode(td.xfam),
        "mr_td": hex::encode(td.mr_td),
        "mr_config_id": hex::encode(td.mr_config_id),
        "mr_owner": hex::encode(td.mr_owner),
        "mr_owner_config": hex::encode(td.mr_owner_config),
        "report_data": hex::encode(td.report_data),
    });
    if let Value::Object(body) = &mut body {
        for (n, rtmr) in td.rtmr.iter().enumerate() {
            body.insert(format!("rtmr_{n}"), json!(hex::encode(rtmr)));
        }
        if let Some(tdx15) = &td.tdx15 {
            body.insert("tee_tcb_svn2".to_owned(), json!(hex::encode(tdx15.tee_tcb_svn2)));
            body.insert("mr_servicetd".to_owned(), json!(hex::encode(tdx15.mr_servicetd)));
        }
    }
    let mut of_quote = Map::new();
    of_quote.insert("header".to_owned(), header(&quote.header));
    of_quote.insert("body".to_owned(), body);
    if let Some((kind, size)) = quote.body_descriptor() {
        of_quote.insert("type".to_owned(), json!(hex::encode(kind.to_le_bytes())));
        of_quote.insert("size".to_owned(), json!(hex::encode(size.to_le_bytes())));
    }
    let mut claims = Map::new();
    claims.insert("quote".to_owned(), Value::Object(of_quote));
    claims.insert("td_attributes".to_owned(), attributes(td));
    claims.insert("report_data".to_owned(), json!(hex::encode(td.report_data)));
    claims.insert("init_data".to_owned(), json!(hex::encode(td.mr_config_id)));
    claims
}

/// What the evidence says, with its event log; **nothing of it is verified**.
pub fn unverified(evidence: &Evidence) -> Value {
    let mut claims = match &evidence.quote.body {
        Body::Td(td) => claims(&evidence.quote, td),
        Body::Enclave(_) => Map::new(),
    };
    if let Some(log) = &evidence.event_log {
        claims.insert("uefi_event_logs".to_owned(), log.claims(Algorithm::Sha384));
    }
    Value::Object(claims)
}

fn header(header: &Header) -> Value {
    json!({
        "version": hex::encode(header.version.to_le_bytes()),
        "att_key_type": "0200",
        "tee_type": "81000000",
        "reserved": hex::encode(header.reserved),
        "vendor_id": hex::encode(header.vendor_id),
        "user_data": hex::encode(header.user_data),
    })
}

/// The five that upstream names, and three more.
fn attributes(td: &TdReport) -> Value {
    let bits = u64::from_le_bytes(td.td_attributes);
    let is = |bit| bits & bit != 0;
    json!({
        "debug": is(attribute::DEBUG),
        "septve_disable": is(attribute::SEPT_VE_DISABLE),
        "protection_keys": is(attribute::PKS),
        "key_locker": is(attribute::KEY_LOCKER),
        "perfmon": is(attribute::PERFMON),
        "lass": is(attribute::LASS),
        "migratable": is(attribute::MIGRATABLE),
        "tdx_connect_agent": is(attribute::TPA),
    })
}

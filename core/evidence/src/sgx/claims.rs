//! Claims of an enclave, by upstream's names and in its forms.

use serde_json::{Map, Value, json};

use super::evidence::Evidence;

/// ATTRIBUTES of an enclave (Intel SDM, volume 3D, ATTRIBUTES).
pub(super) mod attribute {
    /// The enclave is initialised.
    pub const INIT: u64 = 1;
    /// The host may debug it.
    pub const DEBUG: u64 = 1 << 1;
    /// It runs in 64-bit mode.
    pub const MODE64BIT: u64 = 1 << 2;
    /// It may have the provisioning key.
    pub const PROVISION_KEY: u64 = 1 << 4;
    /// It may have the launch key.
    pub const EINITTOKEN_KEY: u64 = 1 << 5;
    /// Control-flow enforcement.
    pub const CET: u64 = 1 << 6;
    /// Key separation and sharing: CONFIGID and its kin mean something.
    pub const KSS: u64 = 1 << 7;
    /// It is told of asynchronous exits.
    pub const AEX_NOTIFY: u64 = 1 << 10;
    /// All that have a name.
    pub const KNOWN: u64 = INIT | DEBUG | MODE64BIT | PROVISION_KEY | EINITTOKEN_KEY | CET | KSS | AEX_NOTIFY;
}

/// What an enclave's quote says, as claims. Nothing of it is verified here. `attributes` is more than upstream has.
pub fn claims(evidence: &Evidence) -> Map<String, Value> {
    let (header, report) = (&evidence.quote().header, evidence.report());
    let [qe_svn, qe_svn_high, pce_svn, pce_svn_high] = header.reserved;
    let zeros = |count: usize| "00".repeat(count);
    let number = |n: u16| hex::encode(n.to_le_bytes());
    let header = json!({
        "version": number(header.version),
        "att_key_type": "0200",
        "att_key_data_0": zeros(4),
        "qe_svn": hex::encode([qe_svn, qe_svn_high]),
        "pce_svn": hex::encode([pce_svn, pce_svn_high]),
        "vendor_id": hex::encode(header.vendor_id),
        "user_data": hex::encode(header.user_data),
    });
    let body = json!({
        "cpu_svn": hex::encode(report.cpu_svn),
        "misc_select": hex::encode(report.misc_select),
        "reserved1": zeros(12),
        "isv_ext_prod_id": hex::encode(report.isv_ext_prod_id),
        "attributes.flags": hex::encode(report.flags),
        "attributes.xfrm": hex::encode(report.xfrm),
        "mr_enclave": hex::encode(report.mr_enclave),
        "reserved2": zeros(32),
        "mr_signer": hex::encode(report.mr_signer),
        "reserved3": zeros(32),
        "config_id": hex::encode(report.config_id),
        "isv_prod_id": number(report.isv_prod_id),
        "isv_svn": number(report.isv_svn),
        "config_svn": number(report.config_svn),
        "reserved4": zeros(42),
        "isv_family_id": hex::encode(report.isv_family_id),
        "report_data": hex::encode(report.report_data),
    });
    let flags = u64::from_le_bytes(report.flags);
    let is = |bit| flags & bit != 0;
    let attributes = json!({
        "debug": is(attribute::DEBUG),
        "mode64bit": is(attribute::MODE64BIT),
        "provision_key": is(attribute::PROVISION_KEY),
        "einittoken_key": is(attribute::EINITTOKEN_KEY),
        "cet": is(attribute::CET),
        "kss": is(attribute::KSS),
        "aex_notify": is(attribute::AEX_NOTIFY),
    });
    let mut claims = Map::new();
    claims.insert("header".to_owned(), header);
    claims.insert("body".to_owned(), body);
    claims.insert("attributes".to_owned(), attributes);
    claims.insert("report_data".to_owned(), json!(hex::encode(report.report_data)));
    claims.insert("init_data".to_owned(), json!(hex::encode(report.config_id)));
    claims
}

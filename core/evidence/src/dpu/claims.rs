//! Claims of a device, under the names and types that CoCo's policies read, and more.

use aws_lc_rs::digest::{SHA384, digest};
use serde_json::{Map, Value, json};

use super::evidence::Evidence;
use super::tcb_info::TcbInfo;

/// The claims. Upstream's: `device_serial` (the DeviceID certificate's serial number, hex), `device_class` (its common name),
/// `firmware_layers_count` and `accumulated_fwid` (number of its FWIDs, SHA-384 over all of them), `alias_timestamp` (the alias
/// certificate's first second). Ours: `layers`, every FWID of both certificates with what stands beside it.
pub(super) fn claims(evidence: &Evidence) -> Map<String, Value> {
    let Evidence { device_id, alias, device_tcb, alias_tcb, .. } = evidence;
    let fwids: Vec<&[u8]> =
        device_tcb.iter().flat_map(|tcb| &tcb.fwids).map(|fwid| fwid.digest.as_slice()).collect();
    let class = match device_id.subject() {
        name if name.is_empty() => "unknown".to_owned(),
        name => name,
    };
    let serial = hex::encode(device_id.serial());
    let serial = serial.trim_start_matches('0');
    let layers =
        layers("device-id", device_tcb.as_ref()).into_iter().chain(layers("alias", alias_tcb.as_ref()));
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    put("device_serial", json!(if serial.is_empty() { "0" } else { serial }));
    put("device_class", json!(class));
    put("firmware_layers_count", json!(fwids.len()));
    put("accumulated_fwid", json!(hex::encode(digest(&SHA384, &fwids.concat()))));
    put("alias_timestamp", json!(alias.validity().not_before));
    put("layers", layers.collect());
    map
}

/// What the certificates say; **nothing of it is verified**.
pub fn unverified(evidence: &Evidence) -> Value {
    Value::Object(claims(evidence))
}

fn layers(certificate: &str, tcb: Option<&TcbInfo>) -> Vec<Value> {
    let Some(tcb) = tcb else { return Vec::new() };
    let hex = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(hex::encode);
    tcb.fwids
        .iter()
        .enumerate()
        .map(|(i, fwid)| {
            json!({
                "certificate": certificate,
                "name": format!("layer_{i}"),
                "fwid": hex::encode(&fwid.digest),
                "hash_algorithm": fwid.algorithm,
                "vendor": tcb.vendor,
                "model": tcb.model,
                "version": tcb.version,
                "svn": tcb.svn,
                "layer": tcb.layer,
                "index": tcb.index,
                "vendor_info": hex(&tcb.vendor_info),
                "type": hex(&tcb.kind),
            })
        })
        .collect()
}

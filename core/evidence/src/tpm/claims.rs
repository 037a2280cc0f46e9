//! Claims of a generic TPM, under the names and types that CoCo's policies read, and more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::evidence::Evidence;
use super::quote::Quote;
use super::verify::{Known, event_bank};
use crate::x509::Hash;

/// What the evidence says, as claims. Nothing of it is verified, the key least of all.
pub fn unverified(evidence: &Evidence) -> Value {
    claims(evidence, &Known::No)
}

/// Upstream's: `ak_public` (base64), `report_data` (the quote's qualifying data, hex), `init_data` (register 8, hex),
/// `pcr00` … Ours: whether the key is known, the bank, the TPM's version, clock and counters, the boot's events.
///
/// Of a key that a known TPM proved: `tpm_simulated`, `ek_sha256`, `ek_certificate_sha256`, `tpm_manufacturer`, `tpm_model`, `tpm_version`.
pub(super) fn claims(evidence: &Evidence, known: &Known<'_>) -> Value {
    let (quote, registers) = (evidence.quoted.quote(), evidence.quoted.registers());
    let mut map = Map::new();
    map.insert("ak_public".into(), STANDARD.encode(&evidence.ak_public).into());
    map.insert("ak_trusted".into(), (!matches!(known, Known::No)).into());
    if let Known::Activated(key) = known {
        let said = [
            ("ek_sha256", &key.ek_sha256),
            ("ek_certificate_sha256", &key.ek_certificate_sha256),
            ("tpm_manufacturer", &key.manufacturer),
            ("tpm_model", &key.model),
            ("tpm_version", &key.version),
        ];
        map.insert("tpm_simulated".into(), key.simulated.into());
        map.extend(said.map(|(name, text)| (name.to_owned(), text.as_str().into())));
    }
    map.insert("report_data".into(), hex::encode(&quote.extra_data).into());
    map.insert("init_data".into(), registers.init_data_claim().into());
    registers.claims().for_each(|(name, value)| {
        map.insert(name, value.into());
    });
    let bank = if registers.bank() == Hash::Sha384 { "sha384" } else { "sha256" };
    map.insert("pcr_bank".into(), bank.into());
    if let Value::Object(tpm) = tpm_state(quote) {
        map.extend(tpm);
    }
    if let Some(public) = &evidence.ak_tpm_public {
        map.insert("ak_name".into(), hex::encode(public.name()).into());
    }
    if let (Some((_, log)), Some(bank)) = (&evidence.event_log, event_bank(registers.bank())) {
        map.insert("uefi_event_logs".into(), log.claims(bank));
    }
    Value::Object(map)
}

/// What a quote says of the TPM itself.
pub(crate) fn tpm_state(quote: &Quote) -> Value {
    json!({
        "firmware_version": format!("{:016x}", quote.firmware_version),
        "clock": quote.clock.milliseconds,
        "clock_safe": quote.clock.safe,
        "reset_count": quote.clock.resets,
        "restart_count": quote.clock.restarts,
        "qualified_signer": hex::encode(&quote.qualified_signer),
    })
}

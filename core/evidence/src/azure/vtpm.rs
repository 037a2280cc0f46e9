//! What must hold of every Azure guest: hardware vouches for the paravisor's data, that names the vTPM's key, and that key
//! signed a quote for this challenge.

use cocoon_stage::Code;
use serde_json::{Map, Value};

use super::evidence::Version;
use super::hcl::{Hardware, HclReport, RuntimeData};
use crate::expectation::padded;
use crate::tpm::{Quoted, tpm_state};
use crate::{Check, Error, Expectation};

const HCL: &str = "OpenHCL attestation protocol, IgvmAttestRequestBase";
const CALLER: &str = "the challenge";

/// Checks of report and quote, apart from those of the hardware's report itself. `reported` is its REPORTDATA, `None` where
/// there is no such report.
pub(super) fn checks(
    (version, hardware): (Version, Hardware),
    report: &HclReport,
    reported: Option<&[u8; 64]>,
    quoted: &Quoted,
    expectation: &Expectation<'_>,
) -> (Vec<Check>, Option<RuntimeData>) {
    let name = |hardware| match hardware {
        Hardware::Snp => "SNP",
        Hardware::Tdx => "TDX",
    };
    let measured = report.report_data();
    let mut checks = vec![
        Check::new(
            "hcl.hardware",
            report.hardware() == hardware,
            Code::AttestEvidenceMalformed,
            name(hardware),
            name(report.hardware()),
            HCL,
        ),
        Check::new(
            "hcl.runtime-data",
            reported == Some(&measured),
            Code::AttestSignatureInvalid,
            format!("REPORTDATA {}", hex::encode(measured)),
            reported.map_or("no hardware report".to_owned(), hex::encode),
            HCL,
        ),
    ];
    let data = RuntimeData::parse(report.data());
    checks.push(Check::new(
        "hcl.attestation-key",
        data.is_ok(),
        Code::AttestEvidenceMalformed,
        "an RSA key HCLAkPub",
        data.as_ref().map_or_else(Error::to_string, |_| "one".to_owned()),
        HCL,
    ));
    let data = data.ok();
    checks.extend(quoted.checks(data.as_ref().map(|data| &data.attestation_key)));
    if let Some(report_data) = expectation.report_data {
        checks.push(quoted.check_nonce(Some(report_data).filter(|bytes| !bytes.is_empty())));
        if version == Version::V2 {
            checks.push(user_data(data.as_ref(), report_data));
        }
    }
    if let Some(digest) = expectation.init_data_digest {
        checks.push(quoted.registers().check_init_data(digest));
    }
    (checks, data)
}

/// The challenge, zero-padded, is what the guest had put into the paravisor's data.
fn user_data(data: Option<&RuntimeData>, report_data: &[u8]) -> Check {
    let expected = padded::<64>(report_data).filter(|_| report_data.len() <= 64);
    let got = data.map(|data| data.user_data.as_slice());
    let ok = expected.is_some() && expected.as_ref().map(<[u8; 64]>::as_slice) == got;
    let text = |bytes: &[u8]| if bytes.is_empty() { "nothing".to_owned() } else { hex::encode(bytes) };
    Check::new(
        "hcl.user-data",
        ok,
        Code::AttestReportDataMismatch,
        expected.map_or("a challenge of 1 to 64 bytes".to_owned(), |bytes| text(&bytes)),
        got.map_or("no data".to_owned(), text),
        CALLER,
    )
}

/// Claims that replace or join those of the hardware: `report_data` is the quote's challenge, `init_data` register 8, `tpm` all
/// registers; ours are the VM's configuration as the paravisor vouches for it, and the vTPM's state.
pub(super) fn claims(map: &mut Map<String, Value>, quoted: &Quoted, data: Option<&RuntimeData>) {
    let registers = quoted.registers();
    let tpm: Map<String, Value> = registers.claims().map(|(name, value)| (name, value.into())).collect();
    map.insert("tpm".into(), Value::Object(tpm));
    map.insert("report_data".into(), hex::encode(&quoted.quote().extra_data).into());
    map.insert("init_data".into(), registers.init_data_claim().into());
    map.insert("vm_configuration".into(), data.map(|data| data.configuration.clone()).unwrap_or_default());
    map.insert("tpm_state".into(), tpm_state(quoted.quote()));
}

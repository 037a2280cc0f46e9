//! One line about evidence: its kind, form and version.

use cocoon_evidence::azure::HclReport;
use cocoon_evidence::dcap::{Body, Quote};
use cocoon_evidence::x509::Hash;
use cocoon_evidence::{Evidence, csv, snp};
use serde_json::Value;

/// Such as `snp evidence (JSON, report version 3, Genoa)`.
pub fn describe(evidence: &Evidence, form: &str) -> String {
    let details = match evidence {
        Evidence::Snp(evidence) => snp(&evidence.report),
        Evidence::Tdx(evidence) => {
            let log = if evidence.event_log.is_some() { "with an event log" } else { "no event log" };
            format!("{}, {log}", quote(&evidence.quote))
        }
        Evidence::Sgx(evidence) => quote(evidence.quote()),
        Evidence::AzureSnp(evidence) => azure(&evidence.to_json(), evidence.hcl()),
        Evidence::AzureTdx(evidence) => {
            format!("{}, {}", azure(&evidence.to_json(), evidence.hcl()), quote(evidence.td_quote()))
        }
        Evidence::Tpm(evidence) => {
            let registers = evidence.quoted().registers();
            let bank = if registers.bank() == Hash::Sha384 { "SHA-384" } else { "SHA-256" };
            format!("TPM 2.0 quote, {} registers of {bank}", registers.values().len())
        }
        Evidence::Cca(evidence) => format!("platform {}", evidence.platform().profile.name()),
        Evidence::Se(evidence) => format!("{} bytes of user data", evidence.user_data.len()),
        Evidence::Csv(evidence) => match evidence.report.version {
            csv::Version::V1 { .. } => "report version 1".to_owned(),
            csv::Version::V2(_) => "report version 2".to_owned(),
        },
        Evidence::Dcu(evidence) => counted(evidence.reports.len(), "report"),
        Evidence::Nvidia(evidence) => {
            let names = evidence.devices.iter().map(|device| device.architecture.name());
            let mut names: Vec<&str> = names.collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            format!("SPDM 1.1, {}: {}", counted(count, "device"), names.join(", "))
        }
        Evidence::Dpu(_) => "device and alias certificate".to_owned(),
        Evidence::Sample(_) | Evidence::SampleDevice(_) => "proves nothing".to_owned(),
    };
    format!("{} evidence ({form}, {details})", evidence.tee())
}

/// `1 device`, `2 devices`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A report's version, and the processor that it names.
pub fn snp(report: &snp::Report) -> String {
    let processor = report.generation().map_or("processor not named", snp::Generation::name);
    format!("report version {}, {processor}", report.version)
}

fn quote(quote: &Quote) -> String {
    let version = quote.header.version;
    match &quote.body {
        Body::Enclave(_) => format!("quote version {version}"),
        Body::Td(td) if td.tdx15.is_some() => format!("quote version {version}, TDX 1.5 body"),
        Body::Td(_) => format!("quote version {version}, TDX 1.0 body"),
    }
}

fn azure(evidence: &Value, hcl: &HclReport) -> String {
    let version = evidence.get("version").and_then(Value::as_u64).unwrap_or(0);
    format!("version {version}, HCL report version {}", hcl.version())
}

//! `cocoon collateral`: what vendors publish, at hand before it is needed.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use cocoon_collateral::{
    Bounds, Config, Endpoint, Entry, Folder, Gathered, MAX_NEEDS, Online, Policy, Service, Sources, State,
    Update, bundle,
};
use cocoon_evidence::collateral::{IntelTee, Need, PckCa};
use cocoon_evidence::{Evidence, snp};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::admin::{content, say, text_of, usage};
use crate::args::{CollateralCommand, CollateralPlace, FetchArgs, TeeArg, UpdateArg};
use crate::dirs;
use crate::embedded::{make_folder, now};
use crate::moments::shown;

/// AMD gives an address one certificate in ten seconds, so many of them take their time.
const FETCH: Duration = Duration::from_secs(1800);

pub async fn main(command: CollateralCommand) -> Result<(), Failure> {
    match command {
        CollateralCommand::Status { place } => status(&place),
        CollateralCommand::Fetch(args) => fetch(&args).await,
        CollateralCommand::Export { file, place } => {
            let entries = open(&place)?.list();
            let bytes = bundle::export(&entries, now())?;
            std::fs::write(&file, bytes).map_err(|e| usage(format!("{}: {e}", file.display())))?;
            if place.json {
                say(&json!({ "documents": entries.len() }).to_string());
            } else {
                eprintln!("cocoon: {} documents are in {}", entries.len(), file.display());
            }
            Ok(())
        }
        CollateralCommand::Import { file, intel, place } => import(&file, intel, &place),
    }
}

fn open(place: &CollateralPlace) -> Result<Folder, Failure> {
    let folder = match &place.dir {
        Some(dir) => dir.clone(),
        None => {
            let state = dirs::data_dir()?.join("trustee");
            make_folder(&state)?;
            state.join("collateral")
        }
    };
    Ok(Folder::open(&folder, Bounds::default())?)
}

fn status(place: &CollateralPlace) -> Result<(), Failure> {
    let (policy, now) = (Policy::default(), now());
    let entries = open(place)?.list();
    if place.json {
        let shown = |e: &Entry| {
            json!({
                "need": e.need,
                "vendor": e.need.vendor(),
                "state": e.state(now, &policy),
                "from": e.from,
                "fetched_unix": e.fetched_unix,
                "age_seconds": now.saturating_sub(e.fetched_unix),
                "valid_from_unix": e.validity.map(|v| v.not_before),
                "valid_until_unix": e.validity.map(|v| v.not_after),
                "bytes": e.size(),
            })
        };
        say(&Value::from_iter(entries.iter().map(shown)).to_string());
        return Ok(());
    }
    for entry in &entries {
        let until =
            entry.validity.map_or_else(|| "no end".to_owned(), |v| format!("until {}", shown(v.not_after)));
        let state = match entry.state(now, &policy) {
            State::Fresh => "fresh",
            State::Due => "due",
            State::Expired => "EXPIRED",
        };
        let age = age(now.saturating_sub(entry.fetched_unix));
        say(&format!("{state:<8} {:<72} {until:<26} {age:>4} old {:>8} bytes", entry.need, entry.size()));
    }
    if entries.is_empty() {
        eprintln!("cocoon: no collateral is at hand");
    }
    Ok(())
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn import(file: &Path, intel: bool, place: &CollateralPlace) -> Result<(), Failure> {
    let bytes = large(file)?;
    let folder = open(place)?;
    let imported = if intel {
        bundle::import_intel(&bytes, Update::Early, &folder, now())?
    } else {
        bundle::import(&bytes, &folder, now())?
    };
    if place.json {
        say(&json!(imported).to_string());
    } else {
        for refused in &imported.refused {
            eprintln!("cocoon: refused: {}: {}", refused.need, refused.reason);
        }
        let (stored, kept) = (imported.stored.len(), imported.kept.len());
        eprintln!("cocoon: {stored} documents taken over, {kept} left as newer ones are at hand");
    }
    match imported.refused.len() {
        0 => Ok(()),
        count => Err(Failure::new(
            Code::AttestCollateralInvalid,
            format!("{count} documents of {} are not what they should be", file.display()),
        )),
    }
}

fn large(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| usage(format!("{}: {e}", file.display()));
    let most = u64::try_from(bundle::MAX_BUNDLE).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(file).and_then(|f| f.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    }
    Ok(bytes)
}

async fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let needs = needs(args)?;
    let folder = open(&args.place)?;
    let service = Service::new(Config {
        patience: FETCH,
        ..Config::new(Some(folder), Sources::online(&online(args)?)?)
    });
    let mut missing = 0;
    let mut notes = Vec::new();
    for some in needs.chunks(MAX_NEEDS) {
        let Gathered { notes: these, .. } = service.gather(some, FETCH).await;
        for note in these {
            let good = matches!(note.state, Some(State::Fresh | State::Due));
            missing += usize::from(!good);
            if !args.place.json {
                let word = if good { "ok" } else { "MISSING" };
                let reason = note.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
                say(&format!("{word:<8} {}{reason}", note.need));
            }
            notes.push(note);
        }
    }
    if args.place.json {
        say(&json!(notes).to_string());
    }
    match missing {
        0 => Ok(()),
        count => Err(Failure::new(
            Code::AttestCollateralMissing,
            format!("{count} documents could not be fetched"),
        )),
    }
}

fn online(args: &FetchArgs) -> Result<Online, Failure> {
    let usual = Online::default();
    let endpoint = |url: &Option<String>, usual: Endpoint| url.clone().map_or(usual, Endpoint::new);
    let roots = args.intel_cert.as_deref().map(text_of).transpose()?;
    let intel = Endpoint { roots, ..endpoint(&args.intel_url, usual.intel) };
    Ok(Online {
        amd: endpoint(&args.amd_url, usual.amd),
        intel,
        update: match args.update {
            UpdateArg::Standard => Update::Standard,
            UpdateArg::Early => Update::Early,
        },
        nvidia: endpoint(&args.nvidia_url, usual.nvidia),
        hygon: endpoint(&args.hygon_url, usual.hygon),
        times: usual.times,
    })
}

fn needs(args: &FetchArgs) -> Result<Vec<Need>, Failure> {
    let mut needs = Vec::new();
    for file in &args.evidence {
        needs.extend(
            needs_of(&content(file)?)
                .map_err(|f| Failure::new(f.code, format!("{}: {}", file.display(), f.reason)))?,
        );
    }
    if let Some(product) = &args.amd_product {
        needs.extend([false, true].map(|vlek| Need::AmdCrl { product: product.clone(), vlek }));
        if let (Some(chip_id), Some(tcb)) = (&args.chip_id, &args.tcb) {
            let (chip_id, tcb) = (chip_id.to_ascii_lowercase(), levels(tcb)?);
            needs.push(Need::AmdVcek { product: product.clone(), chip_id, tcb });
        }
    }
    let tee = match args.tee {
        TeeArg::Sgx => IntelTee::Sgx,
        TeeArg::Tdx => IntelTee::Tdx,
    };
    for fmspc in &args.fmspc {
        needs.extend([
            Need::IntelTcbInfo { tee, fmspc: fmspc.to_ascii_lowercase() },
            Need::IntelQeIdentity { tee },
            Need::IntelPckCrl { ca: PckCa::Processor },
            Need::IntelPckCrl { ca: PckCa::Platform },
            Need::IntelRootCrl,
        ]);
    }
    needs.extend(args.rim.iter().map(|id| Need::NvidiaRim { id: id.clone() }));
    needs.extend(args.hygon_chip.iter().map(|chip_id| Need::HygonCertificates { chip_id: chip_id.clone() }));
    needs.sort();
    needs.dedup();
    if needs.is_empty() {
        return Err(usage("name evidence, or what to fetch: --amd-product, --fmspc, --rim, --hygon-chip"));
    }
    for need in &needs {
        need.check().map_err(|e| usage(format!("{}: {e}", need.kind())))?;
    }
    Ok(needs)
}

/// What verification of this evidence needs; of an SNP chip also the certificate that the evidence brought along, which other
/// evidence of the same chip may lack.
fn needs_of(evidence: &[u8]) -> Result<Vec<Need>, Failure> {
    let evidence = Evidence::detect(evidence)?;
    let mut needs = evidence.needs();
    if let Evidence::Snp(snp) = &evidence {
        let bare = snp::Evidence { report: snp.report.clone(), cert_chain: Vec::new() };
        needs.extend(snp::needs(&bare).into_iter().filter(|need| matches!(need, Need::AmdVcek { .. })));
        needs.dedup();
    }
    Ok(needs)
}

/// `3.0.8.115`, with the FMC's level before them on Turin.
fn levels(text: &str) -> Result<snp::Tcb, Failure> {
    let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some(&[bootloader, tee, snp, microcode]) => {
            Ok(snp::Tcb { fmc: None, bootloader, tee, snp, microcode })
        }
        Some(&[fmc, bootloader, tee, snp, microcode]) => {
            Ok(snp::Tcb { fmc: Some(fmc), bootloader, tee, snp, microcode })
        }
        _ => Err(usage("--tcb is four levels of 0 to 255, such as 3.0.8.115, on Turin five")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read() {
        let tcb = levels("3.0.8.115").unwrap();
        assert_eq!((tcb.fmc, tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode), (None, 3, 0, 8, 115));
        assert_eq!(levels("1.3.0.8.115").unwrap().fmc, Some(1));
        for bad in ["", "3.0.8", "3.0.8.256", "1.2.3.4.5.6", "a.b.c.d", "3.0.8.-1"] {
            assert!(levels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn evidence_says_what_it_needs() {
        let mut builder = snp::ReportBuilder::new(0x19, 0x01, 1);
        builder.fields.chip_id = [7; 64];
        builder.fields.reported_tcb = levels("3.0.8.115").unwrap();
        let report = builder.sign_with(|_| Ok::<_, cocoon_evidence::Error>(([1; 48], [1; 48]))).unwrap();
        let evidence = snp::Evidence { report, cert_chain: Vec::new() }.to_json().to_string();
        let needs = needs_of(evidence.as_bytes()).unwrap();
        assert_eq!(needs.len(), 2);
        assert!(needs.iter().all(|need| need.check().is_ok()), "{needs:?}");
        assert!(needs_of(b"{}").is_err());
    }
}

//! Evidence verified and shown, offline: every recorded vector gives what it must, by the command and by the library.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "evidence/expected.rs"]
mod expected;
#[path = "evidence/forms.rs"]
mod forms;
#[path = "evidence/hostile.rs"]
mod hostile;
#[path = "evidence/library.rs"]
mod library;
mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use expected::{GENOA, OTHER, SHOWN, VERDICTS};
use serde_json::{Value, json};
use support::{Home, Said};

/// The instant of all verdicts that name no other: 2026-11-01.
const AT: u64 = 1_793_491_200;
/// All of Intel's collateral in the vectors is good on that day.
const JUNE_2025: &str = "--at=2025-06-25";
const FOLDERS: [&str; 10] =
    ["snp", "tdx", "sgx", "tpm", "az-snp-vtpm", "az-tdx-vtpm", "cca", "csv", "nvidia", "eventlog"];

/// The vectors' folder, or `None` (and a note) where it is not at hand.
fn vectors() -> Option<PathBuf> {
    let named = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors").into());
    if !folder.is_dir() {
        println!("skipped: no vectors at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Runs `cocoon evidence …` among the vectors.
fn run(home: &Home, words: &[&str]) -> Said {
    let mut command = home.command(&[&["evidence"], words].concat());
    let output = command.current_dir(vectors().unwrap()).output().unwrap();
    Said {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What `verify --json` says, and its exit status.
fn verdict(home: &Home, words: &str) -> (Value, Option<i32>) {
    let mut words: Vec<&str> = words.split_whitespace().collect();
    let at = format!("--at={AT}");
    if !words.iter().any(|word| word.starts_with("--at")) {
        words.push(&at);
    }
    let said = run(home, &[&["verify", "--json"], words.as_slice()].concat());
    let value = serde_json::from_str(&said.stdout);
    (value.unwrap_or_else(|e| panic!("{words:?}: {e}: {}{}", said.stdout, said.stderr)), said.status)
}

/// Names and codes of all checks that failed.
fn failed(verdict: &Value) -> Vec<(String, String)> {
    let checks = verdict["verdicts"].as_array().unwrap().iter().flat_map(|v| v["checks"].as_array().unwrap());
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    checks.filter(|c| !c["code"].is_null()).map(|c| (text(&c["name"]), text(&c["code"]))).collect()
}

#[test]
fn every_vector_gets_its_verdict() {
    if vectors().is_none() {
        return;
    }
    let home = Home::new();
    for (words, expected) in VERDICTS {
        let (verdict, status) = verdict(&home, &words.replace("GENOA", GENOA));
        let failed: Vec<String> = failed(&verdict)
            .iter()
            .map(|(name, code)| format!("{name} {}", &code["ATTEST-".len()..]))
            .collect();
        let mut wanted: Vec<&str> = expected.split(", ").filter(|name| !name.is_empty()).collect();
        if wanted.pop_if(|last| *last == "…").is_some() {
            assert_eq!(failed.first().map(String::as_str), wanted.first().copied(), "{words}");
            assert!(wanted.iter().all(|name| failed.iter().any(|f| f == name)), "{words}: {failed:?}");
        } else {
            assert_eq!(failed, wanted, "{words}");
        }
        let ok = expected.is_empty();
        assert_eq!((&verdict["ok"], status), (&json!(ok), Some(i32::from(!ok))), "{words}");
        for v in verdict["verdicts"].as_array().unwrap() {
            assert_eq!(v["claims"].is_null(), !ok, "{words}");
            assert_eq!(v["check"].as_str(), failed.first().map(|f| f.split(' ').next().unwrap()), "{words}");
            assert_eq!(v["simulated"], false);
        }
        assert_eq!(verdict["report_data_compared"], words.contains("--report-data"), "{words}");
        assert_eq!(verdict["init_data_compared"], words.contains("--init-data"), "{words}");
    }
}

#[test]
fn every_vector_is_shown_or_refused() {
    let Some(folder) = vectors() else { return };
    let home = Home::new();
    for (file, kind, format) in SHOWN {
        let shown: Value = serde_json::from_str(&run(&home, &["show", "--json", file]).stdout).unwrap();
        assert_eq!((&shown["kind"], &shown["format"]), (&json!(kind), &json!(format)), "{file}");
        assert_eq!(shown["verified"], false, "{file}");
        let said = run(&home, &["show", file]);
        assert_eq!(said.status, Some(0), "{file}");
        assert!(said.stdout.starts_with(&format!("{format}\nnothing of this is verified\n")), "{file}");
        assert!(said.stdout.lines().count() > 5, "{file}: {}", said.stdout);
        // A part is no evidence, and the command says what to do with it.
        if *kind != "evidence" {
            let said = run(&home, &["verify", file]);
            assert_eq!(said.status, Some(2), "{file}");
            assert!(said.stderr.contains("USAGE-INVALID") && said.stderr.contains(format), "{}", said.stderr);
        }
    }
    for file in OTHER {
        let said = run(&home, &["show", file]);
        assert_eq!((said.status, said.stdout.as_str()), (Some(125), ""), "{file}");
        assert!(said.stderr.contains("ATTEST-EVIDENCE-MALFORMED"), "{file}: {}", said.stderr);
        let (verdict, status) = verdict(&home, file);
        assert_eq!((status, &verdict["ok"]), (Some(1), &json!(false)), "{file}");
        assert_eq!(verdict["failure"]["code"], "ATTEST-EVIDENCE-MALFORMED", "{file}");
    }
    let listed = |name: &str| SHOWN.iter().any(|(file, ..)| *file == name) || OTHER.contains(&name);
    let judged = |name: &str| VERDICTS.iter().any(|(words, _)| words.split(' ').next() == Some(name));
    for entry in FOLDERS.iter().flat_map(|name| std::fs::read_dir(folder.join(name)).unwrap()) {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
        assert!(listed(name), "nothing is expected of {name}");
        let evidence = SHOWN.iter().any(|(file, kind, _)| *file == name && *kind == "evidence");
        assert!(judged(name) || !evidence, "{name} is not verified");
    }
}

/// Event logs are shown as upstream's verifier tells them.
#[test]
fn event_logs_are_shown_as_recorded() {
    let Some(folder) = vectors() else { return };
    let home = Home::new();
    for name in ["CCEL_data", "CCEL_data_ovmf", "CCEL_data_grub", "CCEL_data_grub_gke", "CCEL_data_csv"] {
        let expected = std::fs::read(folder.join(format!("eventlog/{name}_out.json"))).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let shown = run(&home, &["show", "--json", &format!("eventlog/{name}")]).stdout;
        let events = serde_json::from_str::<Value>(&shown).unwrap()["contents"]["events"].take();
        let known =
            |v: &Value| v.as_array().unwrap().iter().map(|e| e["digests"].clone()).collect::<Vec<_>>();
        assert_eq!(known(&events), known(&expected["uefi_event_logs"]), "{name}");
    }
}

/// What programs may rely on, as docs/verify-evidence.md lists it.
#[test]
fn json_has_the_members_that_are_documented() {
    if vectors().is_none() {
        return;
    }
    let home = Home::new();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |names: &str| names.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let members =
        "ok tee format at_unix report_data_compared init_data_compared collateral_missing failure verdicts";
    let (genuine, _) = verdict(&home, "snp/genoa-v3-evidence.json");
    let (wrong, _) = verdict(&home, "snp/genoa-v3-evidence.json --report-data 00");
    let (unreadable, _) = verdict(&home, "cca/cpak-pub.json");
    for said in [&genuine, &wrong, &unreadable] {
        assert_eq!(names(said), set(members));
        assert_eq!(said["at_unix"], AT);
    }
    for said in [&genuine["verdicts"][0], &wrong["verdicts"][0]] {
        assert_eq!(names(said), set("class ok simulated check failure checks claims init_data"));
        assert_eq!(names(&said["checks"][0]), set("name expected got source code"));
    }
    for failure in [&wrong["verdicts"][0]["failure"], &unreadable["failure"]] {
        assert_eq!(names(failure), set("code what reason next"));
    }
    assert!(genuine["failure"].is_null() && genuine["verdicts"][0]["failure"].is_null());
    assert_eq!(genuine["collateral_missing"][0]["kind"], "amd-crl");
    let page = page();
    for value in
        [&genuine, &genuine["verdicts"][0], &genuine["verdicts"][0]["checks"][0], &unreadable["failure"]]
    {
        names(value).iter().for_each(|name| assert!(page.contains(&format!("`{name}`")), "{name}"));
    }
    for (_, kind, _) in SHOWN {
        assert!(page.contains(&format!("`{kind}`")), "{kind}");
    }
    let shown = run(&home, &["show", "--json", "tdx/tdx_quote", "--tee=tdx"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(names(&shown), set("kind format tee verified collateral_needed contents"));
    assert_eq!(shown["contents"]["certificates"].as_array().unwrap().len(), 3);
}

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verify-evidence.md")).unwrap()
}

/// The page's program is the one that the library's documentation compiles, and its flags are those that there are.
#[test]
fn the_page_tells_what_there_is() {
    let page = page();
    let program = page.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/evidence/src/lib.rs");
    let library = std::fs::read_to_string(library).unwrap();
    let lines = library.lines().filter_map(|line| line.strip_prefix("//!"));
    let documented: String =
        lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
    assert!(documented.contains(program), "{program}");
    let home = Home::new();
    let help = home.ok(&["evidence", "verify", "--help"]) + &home.ok(&["collateral", "fetch", "--help"]);
    let word = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    for flag in page.split(word).filter(|word| word.starts_with("--") && !word.starts_with("---")) {
        assert!(flag == "--release" || help.contains(flag), "{flag}");
    }
}

#[test]
fn people_are_told_the_reason_and_the_next_step() {
    if vectors().is_none() {
        return;
    }
    let home = Home::new();
    let said =
        run(&home, &["verify", "tdx/tdx_quote", "--collateral", "tdx/tdx_quote_collateral.json", JUNE_2025]);
    let text = said.stdout;
    assert!(
        text.starts_with("tdx evidence (binary, quote version 4, TDX 1.0 body, no event log)\n"),
        "{text}"
    );
    assert!(text.contains("judged as of 2025-06-25T00:00:00Z\n") && text.ends_with("\nGENUINE\n"), "{text}");
    assert!(text.contains("not compared: report data") && text.contains("\n  ✔ quote.signature "), "{text}");
    let said = run(&home, &["verify", "tdx/tdx_quote", JUNE_2025]);
    for part in [
        "  ✘ root-crl.document ",
        "code      ATTEST-COLLATERAL-MISSING: ",
        "  next, for ATTEST-COLLATERAL-MISSING: ",
        "not at hand: intel-qe-identity tdx, intel-root-crl, ",
        "  fetch by: cocoon collateral fetch --fmspc b0c06f000000 --tee tdx\n",
        "\nNOT GENUINE, or not proven to be: root-crl.document: ",
    ] {
        assert!(said.stdout.contains(part), "no {part:?} in {}", said.stdout);
    }
    assert_eq!((said.status, said.stderr.as_str()), (Some(1), ""));
    let help = home.ok(&["evidence", "verify", "--help"]);
    assert!(help.contains("Exit status: 0 genuine, 1 not genuine"), "{help}");
    assert!(home.ok(&["evidence", "--help"]).contains("Verifies nothing"));
}

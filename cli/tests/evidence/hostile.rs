//! Files made to mislead, to hang, to exhaust memory or to speak to the terminal; and wrong command lines.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cocoon_evidence::eventlog::{Algorithm, Builder, EventType};
use serde_json::{Value, json};

use super::support::{Home, Said};
use super::{AT, failed, vectors, verdict};

pub fn vector(name: &str) -> Option<Vec<u8>> {
    vectors().map(|folder| std::fs::read(folder.join(name)).unwrap())
}

pub fn json_vector(name: &str) -> Option<Value> {
    vector(name).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// Runs a command that must end by itself soon, with this on standard input.
pub fn soon(command: &mut Command, input: &[u8]) -> Said {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let pid = rustix::process::Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(60)).is_err() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    let _ = done.send(());
    watchdog.join().unwrap();
    writer.join().unwrap();
    Said {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The command in an address space of 1 GiB.
fn confined(home: &Home, args: &[&str]) -> Command {
    let program = home.command(&[]).get_program().to_owned();
    let mut command = home.command(&[]);
    let envs: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    command = Command::new("/bin/sh");
    command.env_clear().envs(envs.into_iter().filter_map(|(name, value)| Some((name, value?))));
    command.args(["-c", "ulimit -v 1048576; exec \"$0\" \"$@\""]).arg(program).args(args);
    command
}

#[test]
fn altered_evidence_is_not_genuine() {
    let home = Home::new();
    let (Some(genoa), Some(azure)) =
        (json_vector("snp/genoa-v3-evidence.json"), json_vector("az-snp-vtpm/evidence-v1.json"))
    else {
        return;
    };
    let mut measurement = genoa.clone();
    let byte = &mut measurement["attestation_report"]["measurement"][0];
    *byte = json!(byte.as_u64().unwrap() ^ 1);
    let mut no_chain = genoa.clone();
    no_chain["cert_chain"] = Value::Null;
    let mut version = genoa.clone();
    version["attestation_report"]["version"] = json!(9);
    let mut register = azure.clone();
    register["tpm_quote"]["pcrs"][7] = json!("00".repeat(32));
    let mut signature = azure;
    signature["tpm_quote"]["signature"] = json!("00".repeat(256));
    for (value, check, code) in [
        (measurement, "report.signature", "ATTEST-SIGNATURE-INVALID"),
        (no_chain, "certificate.chain", "ATTEST-COLLATERAL-MISSING"),
        (version, "", "ATTEST-EVIDENCE-MALFORMED"),
        (register, "tpm.pcr-digest", "ATTEST-SIGNATURE-INVALID"),
        (signature, "tpm.signature", "ATTEST-SIGNATURE-INVALID"),
    ] {
        let file = home.file("altered.json", value.to_string());
        let (verdict, status) = verdict(&home, &file);
        assert_eq!((status, &verdict["ok"]), (Some(1), &json!(false)), "{check}");
        match check {
            "" => assert_eq!(verdict["failure"]["code"], code),
            _ => assert_eq!(failed(&verdict)[0], (check.to_owned(), code.to_owned())),
        }
    }
    // A quote's bits in header, body, signature data and certificates; a token's in both of its parts.
    for (name, at, flags) in [
        (
            "tdx/tdx_quote",
            [20, 200, 700, 1500, 2500],
            "--collateral tdx/tdx_quote_collateral.json --at 2025-06-25",
        ),
        (
            "sgx/sgx_quote",
            [30, 100, 500, 1300, 2500],
            "--collateral sgx/sgx_quote_collateral.json --at 2025-06-25",
        ),
        (
            "cca/cca-example-token.cbor",
            [100, 500, 1100, 1700, 2200],
            "--cca-trust-anchors cca/tastore.json --cca-references cca/rvstore.json",
        ),
    ] {
        let whole = vector(name).unwrap();
        let file = home.file("whole", &whole);
        assert_eq!(verdict(&home, &format!("{file} {flags}")).1, Some(0), "{name}");
        for at in at {
            let mut altered = whole.clone();
            altered[at] ^= 4;
            let file = home.file("altered", altered);
            assert_eq!(verdict(&home, &format!("{file} {flags}")).1, Some(1), "{name} at {at}");
            let file = home.file("cut", &whole[..at]);
            assert_eq!(verdict(&home, &format!("{file} {flags}")).1, Some(1), "{name} cut at {at}");
        }
    }
}

#[test]
fn wrong_command_lines_are_told_from_wrong_evidence() {
    let Some(folder) = vectors() else { return };
    let home = Home::new();
    let path = |name: &str| folder.join(name).display().to_string();
    let (genoa, quote, tpm) =
        (path("snp/genoa-v3-evidence.json"), path("tdx/tdx_quote"), path("tpm/tpm_evidence.json"));
    let text = home.file("text", "hello");
    let vcek = path("snp/test-vcek.der");
    for more in [
        &[&genoa, "--tee", "snp2"][..],
        &[&genoa, "--report-data", "0"],
        &[&genoa, "--report-data", "xy"],
        &[&genoa, "--report-data", ""],
        &[&genoa, "--at", "yesterday"],
        &[&genoa, "--at", "2026-02-30"],
        &[&genoa, "--max-vmpl", "4"],
        &[&genoa, "--init-data", &text],
        &[&genoa, "--init-data", "/nonexistent"],
        &[&genoa, "--init-data", &text, "--init-data-digest", "00"],
        &[&genoa, "--collateral", &text],
        &[&genoa, "--collateral", "/nonexistent"],
        &[&genoa, "--collateral", &path("tdx/tdx_quote_collateral.json")],
        &[&genoa, "--event-log", &path("eventlog/CCEL_data")],
        &[&genoa, "--trusted-ak", &text],
        &[&genoa, "--dpu-root", &text],
        &[&genoa, "--cca-trust-anchors", &path("cca/tastore.json")],
        &[&genoa, "--cca-trust-anchors", &text, "--cca-references", &text],
        &[
            &genoa,
            "--cca-trust-anchors",
            &path("cca/rvstore.json"),
            "--cca-references",
            &path("cca/tastore.json"),
        ],
        &[&quote, "--event-log", &text],
        &[&quote, "--certificate", &vcek],
        &[&tpm, "--certificate", &vcek],
        &[&path("nvidia/hopper_coco_report1.txt")],
        &[&path("nvidia/hopper_coco_report1.txt"), "--certificate", "/nonexistent"],
        &[&genoa, &genoa],
        &[],
    ] {
        let said = home.run(&[&["evidence", "verify"], more].concat());
        assert_eq!((said.status, said.stdout.as_str()), (Some(2), ""), "{more:?}: {}", said.stderr);
        assert!(!said.stderr.is_empty());
    }
}

#[test]
fn files_that_are_none_neither_hang_nor_fill_memory() {
    let home = Home::new();
    let fifo = home.path("fifo").display().to_string();
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = home.path("socket").display().to_string();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let folder = home.path("").display().to_string();
    let huge = home.file("huge", "");
    std::fs::File::options().write(true).open(&huge).unwrap().set_len(1 << 36).unwrap();
    let large = home.file("large", vec![b' '; (16 << 20) + 1]);
    let empty = home.file("empty", "");
    for (file, reason) in [
        ("/dev/zero", "no regular file"),
        ("/dev/null", "no regular file"),
        (&fifo, "no regular file"),
        (&socket, ""),
        (&folder, "it is a directory"),
        (&huge, "longer than 16 MiB"),
        (&large, "longer than 16 MiB"),
        (&empty, "it is empty"),
        ("/nonexistent", "No such file"),
    ] {
        for command in ["verify", "show"] {
            let started = Instant::now();
            let said = soon(&mut confined(&home, &["evidence", command, file]), b"");
            assert_eq!((said.status, said.stdout.as_str()), (Some(2), ""), "{file}: {}", said.stderr);
            assert!(said.stderr.contains("USAGE-INVALID") && said.stderr.contains(reason), "{}", said.stderr);
            assert!(started.elapsed() < Duration::from_secs(30), "{file}");
        }
    }
    for flag in ["--certificate", "--event-log", "--collateral", "--trusted-ak", "--dpu-root", "--init-data"]
    {
        let Some(folder) = vectors() else { return };
        let quote = folder.join("tdx/tdx_quote").display().to_string();
        for file in [fifo.as_str(), "/dev/zero", &huge] {
            let said = soon(&mut confined(&home, &["evidence", "verify", &quote, flag, file]), b"");
            assert_eq!(said.status, Some(2), "{flag} {file}: {}", said.stderr);
        }
    }
    // More than a file may hold, without an end.
    let said = soon(&mut confined(&home, &["evidence", "show", "-"]), &vec![b'x'; 17 << 20]);
    assert!(said.stderr.contains("longer than 16 MiB"), "{}", said.stderr);
}

#[test]
fn garbage_is_malformed_and_cheap() {
    let home = Home::new();
    let noise: Vec<u8> = (0..9000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let first = |prefix: &[u8]| [prefix, &noise].concat();
    let repeated = |text: &str| text.repeat((15 << 20) / text.len());
    for (name, content) in [
        ("noise", noise.clone()),
        ("one byte", vec![0]),
        ("snp", [&[3, 0, 0, 0], &noise[..1180]].concat()),
        ("tdx", first(&[4, 0, 2, 0, 0x81, 0, 0, 0])),
        ("sgx", first(&[3, 0, 2, 0])),
        ("cca", first(&[0xd9, 1, 0x8f])),
        ("hcl", first(b"HCLA")),
        ("tpm", first(b"\xffTCG")),
        ("spdm", first(&[0x11, 0xe0, 1, 0xff])),
        ("der", first(&[0x30, 0x82])),
        ("log", first(&[0, 0, 0, 0, 3, 0, 0, 0])),
        ("bincode", [&[0; 16], &24u64.to_le_bytes()[..], &[0; 768]].concat()),
        ("pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
        ("key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec()),
        ("json", b"{\"td_quote\": 1}".to_vec()),
        ("half", b"{\"td_quote\": ".to_vec()),
        ("numbers", format!("[{}0]", repeated("0,")).into_bytes()),
        ("members", format!("{{\"token\":[{}0]}}", repeated("0,")).into_bytes()),
        ("deep", repeated("[").into_bytes()),
        ("objects", format!("[{}{{}}]", repeated("{\"\":[]},")).into_bytes()),
        ("hex", repeated("0").into_bytes()),
        ("text", repeated("Zm9v").into_bytes()),
    ] {
        let file = home.file("garbage", content);
        let said = soon(&mut confined(&home, &["evidence", "verify", "--json", &file]), b"");
        assert_eq!(said.status, Some(1), "{name}: {}{}", said.stdout, said.stderr);
        let value: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!((&value["ok"], &value["verdicts"]), (&json!(false), &json!([])), "{name}");
        let code = value["failure"]["code"].as_str().unwrap();
        assert!(["ATTEST-EVIDENCE-MALFORMED", "ATTEST-TEE-UNSUPPORTED"].contains(&code), "{name}: {code}");
        let said = soon(&mut confined(&home, &["evidence", "show", &file]), b"");
        assert_eq!((said.status, said.stdout.as_str()), (Some(125), ""), "{name}: {}", said.stderr);
    }
}

/// Nothing of a file may be obeyed by a terminal: no control character, and none that turns the order of text.
#[test]
fn terminals_are_told_nothing() {
    let home = Home::new();
    let bad = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\u{202e}\r\u{7f}\u{200f}";
    let log = Builder::new(&[Algorithm::Sha384])
        .measure_data(1, EventType::from_id(5).unwrap(), bad.as_bytes())
        .finish(0);
    let tcb = json!({ "tcbInfo": { "id": bad, "version": bad, "fmspc": bad, "issueDate": bad, bad: [bad] } });
    let files = [
        home.file("log", log),
        home.file("tcb.json", tcb.to_string()),
        home.file("sample.json", json!({ "svn": bad, "report_data": "" }).to_string()),
        home.file("snp.json", json!({ "attestation_report": { "version": bad } }).to_string()),
        home.file("tpm.json", json!({ "ak_public": bad, "tpm_quote": bad }).to_string()),
        home.file("gpu.json", json!({ "device_evidence_list": [{ "arch": bad }] }).to_string()),
        home.file("bundle.json", json!({ "format": "cocoon-collateral", bad: bad }).to_string()),
        home.file(&format!("named{bad}"), "{}"),
        home.file("raw", bad),
    ];
    let mut escaped = 0;
    for file in &files {
        for words in [
            &["show"][..],
            &["verify", "--accept-sample"],
            &["verify", "--cca-references", file, "--cca-trust-anchors", file],
        ] {
            for json in [false, true] {
                let mut args = [&["evidence"], words, &[file.as_str()]].concat();
                args.extend(json.then_some("--json"));
                let said = home.run(&args);
                let text = said.stdout + &said.stderr;
                let obeyed =
                    |c: &char| (c.is_control() && *c != '\n') || ('\u{200b}'..='\u{206f}').contains(c);
                assert_eq!(text.chars().find(obeyed), None, "{args:?}: {text:?}");
                assert!(!json || text.is_ascii() || !text.starts_with('{'), "{text}");
                escaped += usize::from(text.contains("\\u{1b}") || text.contains("\\u001b"));
            }
        }
    }
    assert!(escaped >= 6, "the characters are shown as their numbers: {escaped}");
}

/// A reader that has seen enough is no failure, and changes no exit status.
#[test]
fn a_closed_pipe_is_no_failure() {
    let Some(folder) = vectors() else { return };
    let home = Home::new();
    let path = |name: &str| folder.join(name).display().to_string();
    let at = format!("--at={AT}");
    for (args, status) in [
        (vec!["verify", &path("snp/genoa-v3-evidence.json"), &at], 0),
        (vec!["verify", &path("snp/genoa-v3-evidence.json"), &at, "--json"], 0),
        (vec!["verify", &path("csv/csv_evidence.json"), &at], 1),
        (vec!["show", &path("eventlog/CCEL_data_grub")], 0),
    ] {
        let mut child = home.command(&[&["evidence"], args.as_slice()].concat());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = child.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{args:?}");
    }
    // A full disk is one: what was found reached nobody.
    if Path::new("/dev/full").exists() {
        let mut command = home.command(&["evidence", "verify", &path("snp/genoa-v3-evidence.json"), &at]);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
    }
}

//! What goes in and out of a pod's containers: programs with a terminal or pipes, attach, forwarded ports, logs, figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::{SystemTime, UNIX_EPOCH};

use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::{Evidence, Expectation, Trust, Verifier};
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::{PROOF_PATH, PROOF_PORT, Proof, b64, proof_report_data};
use cocoon_tests::containerd::{ANNOTATION, ContainerWish, Machine, Pod, PodWish, Story, Version, cri};

const WORK: &str = r#"
mkdir -p /www; echo content >/www/index.html; busybox httpd -p 8080 -h /www; busybox httpd -p 8081 -h /www
echo ready
while :; do sleep 0.1; done
"#;
/// Lines of the flood, each of 1024 bytes with its line break.
const FLOOD: usize = 10 * 1024;

async fn programs_run_with_streams(pod: &Pod, work: &str) {
    let asked = ["/bin/sh", "-c", "echo a; echo b >&2; exit 7"];
    assert_eq!(pod.exec(work, &asked).await.unwrap(), ("a\n".into(), "b\n".into(), 7));
    assert!(pod.exec_within(work, &["/bin/sleep", "600"], 1).await.is_err());
    assert!(!pod.sh(work, "ps").await.unwrap().contains("sleep 600"), "what took too long still runs");
    assert!(pod.exec(work, &["/bin/nothing"]).await.is_err());

    let mut shell = pod.exec_stream(work, &["/bin/sh"], true, true).await.unwrap();
    shell.resize(123, 45).await.unwrap();
    shell.write(b"until busybox stty size | grep '45 123'; do sleep 0.1; done; exit 4\n").await.unwrap();
    assert_eq!(shell.finish().await.unwrap(), 4, "{}", String::from_utf8_lossy(&shell.stdout));

    let mut pipe =
        pod.exec_stream(work, &["/bin/sh", "-c", "head -c 6; echo oh >&2"], false, true).await.unwrap();
    pipe.write(b"abcdef").await.unwrap();
    assert_eq!(pipe.finish().await.unwrap(), 0);
    assert_eq!((pipe.stdout.as_slice(), pipe.stderr.as_slice()), (b"abcdef".as_slice(), b"oh\n".as_slice()));
}

async fn ports_are_forwarded(pod: &Pod) {
    let mut web = pod.forward(8080).await.unwrap();
    web.write(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
    web.wait_for("content\n").await.unwrap();
    // Somebody listens there, but the plan does not name it.
    let mut other = pod.forward(8081).await.unwrap();
    let _ = other.write(b"GET /index.html HTTP/1.0\r\n\r\n").await;
    assert!(other.wait_for("content\n").await.is_err());
}

/// The guest's evidence over a nonce of ours, for whoever asks.
async fn the_pod_proves_itself(machine: &Machine, pod: &Pod) {
    let prove = async |nonce: &[u8]| {
        let mut guest = pod.forward(PROOF_PORT).await.unwrap();
        let request =
            format!("GET {PROOF_PATH}?nonce={} HTTP/1.1\r\nHost: pod\r\n\r\n", b64::url_encode(nonce));
        guest.write(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(guest.wait_for("}}").await.unwrap()).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Proof>(body).unwrap()
    };
    let proof = prove(&[7; 32]).await;
    let judge = |nonce: &[u8], digest: &[u8]| {
        let trust = Trust { snp: machine.owner().unwrap().simulated_roots().unwrap(), ..Trust::default() };
        let evidence = Evidence::from_json(proof.tee, &proof.evidence).unwrap();
        let data = proof_report_data(nonce);
        let expected = Expectation {
            report_data: Some(&data),
            init_data_digest: Some(digest),
            now_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        };
        let verdicts = Verifier::new(trust).verify(&evidence, &Collateral::none(), &expected, &[]).unwrap();
        verdicts.iter().all(|v| v.verdict.ok())
    };
    let plan = InitData::from_annotation(pod.annotation(ANNOTATION).unwrap()).unwrap().digest();
    assert!(judge(&[7; 32], &plan));
    // Neither is it the answer to another nonce, nor a proof of another plan.
    assert!(!judge(&[8; 32], &plan));
    assert!(!judge(&[7; 32], &[0; 32]));
    let mut guest = pod.forward(PROOF_PORT).await.unwrap();
    guest.write(b"GET /aa/token?token_type=kbs HTTP/1.1\r\nHost: pod\r\n\r\n").await.unwrap();
    guest.wait_for("404 Not Found").await.unwrap();
}

async fn figures_are_those_of_the_guest(pod: &Pod, work: &str) {
    let before = pod.container_stats(work).await.unwrap().cpu.usage_core_nano_seconds.value;
    pod.sh(work, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").await.unwrap();
    let stats = pod.container_stats(work).await.unwrap();
    assert!(stats.cpu.usage_core_nano_seconds.value > before, "{stats:?}");
    assert!(stats.memory.working_set_bytes.value > 100_000, "{stats:?}");
    let stats = pod.stats().await.unwrap();
    let linux = &stats.linux;
    assert!(
        linux.cpu.usage_core_nano_seconds.value > 0 && linux.memory.working_set_bytes.value > 0,
        "{stats:?}"
    );
    assert_eq!(linux.network.default_interface.name, "eth0", "{stats:?}");
    assert!(linux.network.default_interface.rx_bytes.value > 0, "{stats:?}");
    assert_eq!(linux.containers.len(), 3, "{stats:?}");
}

async fn streams(machine: Machine) -> Machine {
    let image = &machine.image;
    let work = ContainerWish::script("work", image, WORK);
    let mut echo = ContainerWish::script("echo", image, "read line; echo \"got $line\"; sleep 100000");
    echo.stdin = true;
    let mut screen = ContainerWish::script("screen", image, "test -t 0 && test -t 1 && echo tty; cat");
    (screen.stdin, screen.tty) = (true, true);
    let flood = format!("yes $(busybox printf '%01023d' 7) | head -n {FLOOD}");
    let flood = ContainerWish::script("flood", image, &flood);
    let pod = machine
        .planned(PodWish::new("streams", "cocoon"), &[&work, &echo, &screen, &flood], &[], |plan| {
            plan.forward_ports = vec![8080];
        })
        .await
        .unwrap();

    // All of the flood, whole lines in CRI's format, although each exceeds no buffer and all of it many.
    let flooding = pod.container(&flood).await.unwrap();
    assert_eq!(pod.wait(&flooding).await.unwrap().code, 0);
    let log = pod.log("flood", 0, "stdout").unwrap();
    assert_eq!(log.len(), FLOOD << 10);
    assert!(log.lines().all(|l| l.len() == 1023 && l.ends_with("0007")));
    pod.remove_container(&flooding).await.unwrap();

    let working = pod.container(&work).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();
    programs_run_with_streams(&pod, &working).await;
    ports_are_forwarded(&pod).await;
    the_pod_proves_itself(&machine, &pod).await;

    let echoing = pod.container(&echo).await.unwrap();
    let mut attached = pod.attach(&echoing, false, true).await.unwrap();
    attached.write(b"words\n").await.unwrap();
    attached.wait_for("got words").await.unwrap();
    drop(attached);
    let showing = pod.container(&screen).await.unwrap();
    let mut attached = pod.attach(&showing, true, true).await.unwrap();
    attached.write(b"typed\n").await.unwrap();
    attached.wait_for("typed").await.unwrap();
    // The terminal echoes before the script has its turn.
    pod.wait_for_log("screen", 0, "tty\n").await.unwrap();

    figures_are_those_of_the_guest(&pod, &working).await;

    // A log that was moved away goes on in a new file.
    let file = pod.log_file("echo", 0);
    std::fs::rename(&file, file.with_extension("old")).unwrap();
    pod.reopen_log(&echoing).await.unwrap();
    assert!(file.exists());

    // Less memory than it has: the kernel of the guest keeps to it.
    let limit = cri::LinuxContainerResources { memory_limit_in_bytes: 48 << 20, ..Default::default() };
    pod.update(&working, limit).await.unwrap();
    let max = pod.sh(&working, "cat /sys/fs/cgroup/memory.max").await.unwrap();
    assert_eq!(max, (48 << 20).to_string());
    pod.remove().await.unwrap();
    machine
}

#[test]
fn words_programs_ports_and_figures() {
    Story::Cocoon(|_| {}).tell(Version::V2, streams);
}

//! What a host asks of a pod beyond its plan is refused, with a code in what kubelet hears, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use cocoon_plan::SecretPlan;
use cocoon_stage::Code;
use cocoon_tests::containerd::{ANNOTATION, ContainerWish, Machine, Pod, PodWish, Story, Version};

fn refused<T>(result: anyhow::Result<T>, code: Code, more: &str) -> String {
    let Err(error) = result else { panic!("it was not refused: {code}") };
    let text = format!("{error:#}");
    assert!(text.contains(code.as_str()) && text.contains(more), "{code}, {more:?}: {text}");
    text
}

/// Runs a pod and a container in it; which of the two is refused is the runtime's to choose.
async fn run(machine: &Machine, wish: PodWish, container: &ContainerWish) -> anyhow::Result<String> {
    let pod = machine.pod(wish).await?;
    let made = pod.container(container).await;
    pod.remove().await?;
    made
}

async fn pods(machine: Machine) -> Machine {
    let owner = machine.owner().unwrap();
    let work = ContainerWish::script("work", &machine.image, "sleep 100000");
    let wish = |name: &str, annotations: &[(&str, &str)]| {
        let mut wish = PodWish::new(name, "cocoon");
        wish.annotations.extend(annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        wish
    };
    let mut plan = owner.plan("refused", vec![owner.container(&work).unwrap()]).unwrap();
    let good = owner.register(&plan, &[]).await.unwrap();

    refused(run(&machine, wish("bare", &[]), &work).await, Code::InitdataMissing, "");
    refused(
        run(&machine, wish("noise", &[(ANNOTATION, "bm9pc2U=")]), &work).await,
        Code::InitdataMalformed,
        "",
    );
    let kernel = ("io.katacontainers.config.hypervisor.kernel_params", "init=/bin/sh");
    let error = run(&machine, wish("kernel", &[(ANNOTATION, &good), kernel]), &work).await.unwrap_err();
    assert!(format!("{error:#}").contains("kernel_params"), "{error:#}");
    let mut host = wish("host", &[(ANNOTATION, &good)]);
    host.host_network = true;
    let error = run(&machine, host, &work).await.unwrap_err();
    assert!(format!("{error:#}").to_lowercase().contains("network"), "{error:#}");

    // A plan that Trustee was never told of: it wants a secret and does not get it.
    plan.instance = "00".into();
    plan.secrets = vec![SecretPlan { uri: "kbs:///default/secret/token".into(), file: None }];
    let unknown = owner.register(&plan, &[]).await.unwrap();
    owner.unregister(&unknown).await.unwrap();
    refused(
        run(&machine, wish("unknown", &[(ANNOTATION, &unknown)]), &work).await,
        Code::ReleaseWorkloadUnknown,
        "",
    );
    machine
}

#[test]
fn pods_without_a_plan_that_holds() {
    Story::Cocoon(|_| {}).tell(Version::V2, pods);
}

async fn asks(machine: Machine) -> Machine {
    let work = ContainerWish::script("work", &machine.image, "echo the plan\\'s; sleep 100000");
    let pod: Pod = machine
        .planned(PodWish::new("asks", "cocoon"), &[&work], &[], |plan| {
            let exec = &mut plan.containers[0].exec;
            exec.any = false;
            exec.commands = vec![vec!["/bin/echo".into(), "healthy".into()]];
        })
        .await
        .unwrap();
    // A container that the plan does not know.
    let stranger = ContainerWish::script("stranger", &machine.image, "cat /run/secrets/*");
    refused(pod.container(&stranger).await, Code::PlanRequestRefused, "");
    // Another image and another program under a name that it knows: the plan's run all the same.
    let mut other = work.clone();
    other.image = machine.registry.reference("other:1");
    let source = format!("docker://{}", machine.image);
    let target = format!("docker://{}", other.image);
    let flags = ["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    cocoon_tests::run("skopeo", flags.iter().copied().chain([source.as_str(), target.as_str()])).unwrap();
    other.command = ["/bin/sh", "-c", "echo the host\\'s"].map(str::to_owned).to_vec();
    let working = pod.container(&other).await.unwrap();
    pod.wait_for_log("work", 0, "the plan's\n").await.unwrap();
    assert!(!pod.log("work", 0, "stdout").unwrap().contains("host"));
    // It runs once.
    let mut again = work.clone();
    again.attempt = 1;
    refused(pod.container(&again).await, Code::PlanRequestRefused, "");

    assert_eq!(pod.exec(&working, &["/bin/echo", "healthy"]).await.unwrap().0, "healthy\n");
    for command in [&["/bin/echo", "healthy", "too"][..], &["/bin/echo"], &["/bin/sh", "-c", "echo healthy"]]
    {
        refused(pod.exec(&working, command).await, Code::PlanRequestRefused, "");
    }
    // Allowed as a probe, but not with a terminal.
    if let Ok(mut stream) = pod.exec_stream(&working, &["/bin/echo", "healthy"], true, true).await {
        let refusal = stream.finish().await.unwrap_err().to_string();
        assert!(refusal.contains(Code::PlanRequestRefused.as_str()), "{refusal}");
        assert_eq!(stream.stdout, b"");
    }
    // No port is forwarded.
    if let Ok(mut port) = pod.forward(8006).await {
        let _ = port.write(b"GET /cdh/resource/default/secret/token HTTP/1.0\r\n\r\n").await;
        assert!(port.wait_for("HTTP/").await.is_err());
    }
    pod.remove().await.unwrap();
    machine
}

#[test]
fn containers_and_programs_that_the_plan_does_not_allow() {
    Story::Cocoon(|_| {}).tell(Version::V2, asks);
}

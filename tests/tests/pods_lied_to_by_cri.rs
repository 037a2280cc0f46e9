//! A kubelet that lies: containers asked for with another image, program, environment, mount, device, user, right, annotation
//! or name than the plan's. Each is refused with a code, or what runs is the plan's own, to the last line of what it sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use cocoon_plan::{Restart, SecretPlan};
use cocoon_stage::Code;
use cocoon_tests::containerd::{ANNOTATION, ContainerWish, Machine, Pod, PodWish, Story, Version, cri};
use protobuf::MessageField;

const SECRET: &str = "a secret that no kubelet sees 5b77";
/// What a container can know of itself that a host might have changed.
const FACTS: &str = "echo \"$0 $*\"; pwd; busybox env | busybox sort; busybox id; \
    busybox grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; busybox ls / /dev /run /run/secrets; \
    busybox cut -d' ' -f2,3 /proc/self/mounts; busybox hostname; cat /proc/sys/kernel/core_pattern; \
    test -w / && echo writable; test -s /run/secrets/token && echo told";

type Change = fn(&mut cri::ContainerConfig, &Lied);

/// What lies are made of.
struct Lied {
    other_image: String,
    folder: String,
    other_pod: String,
}

fn rights(config: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerSecurityContext {
    config.linux.mut_or_insert_default().security_context.mut_or_insert_default()
}

fn annotated(config: &mut cri::ContainerConfig, name: &str, value: &str) {
    config.annotations.insert(name.into(), value.into());
}

fn number(value: i64) -> MessageField<cri::Int64Value> {
    MessageField::some(cri::Int64Value { value, ..Default::default() })
}

fn mount(config: &mut cri::ContainerConfig, target: &str, source: &str) {
    let mount = cri::Mount { container_path: target.into(), host_path: source.into(), ..Default::default() };
    config.mounts.push(mount);
}

fn variable(config: &mut cri::ContainerConfig, key: &str, value: &str) {
    config.envs.push(cri::KeyValue { key: key.into(), value: value.into(), ..Default::default() });
}

fn device(config: &mut cri::ContainerConfig, host: &str, at: &str) {
    let device = cri::Device {
        host_path: host.into(),
        container_path: at.into(),
        permissions: "rwm".into(),
        ..Default::default()
    };
    config.devices.push(device);
}

/// One line a lie: whether it must be refused (else it must do no harm), and how it changes kubelet's request.
const LIES: &[(&str, bool, Change)] = &[
    ("image", false, |c, l| c.image.mut_or_insert_default().image.clone_from(&l.other_image)),
    ("command", false, |c, _| c.command = vec!["/bin/cat".into(), "/run/secrets/token".into()]),
    ("arguments", false, |c, _| c.args = vec!["; cat /run/secrets/token".into()]),
    ("working folder", false, |c, _| c.working_dir = "/run/secrets".into()),
    ("environment", false, |c, _| variable(c, "LD_PRELOAD", "/evil.so")),
    ("path", false, |c, _| variable(c, "PATH", "/evil")),
    ("much environment", false, |c, _| {
        (0..3000).for_each(|n| variable(c, &format!("V{n}"), &"x".repeat(100)))
    }),
    ("a folder", true, |c, l| mount(c, "/host", &l.folder)),
    ("the root", true, |c, l| mount(c, "/bin", &l.folder)),
    ("the secrets", true, |c, l| mount(c, "/run/secrets", &l.folder)),
    ("a path that climbs", true, |c, l| mount(c, "/a/../../run/secrets", &l.folder)),
    ("a device", false, |c, _| device(c, "/dev/zero", "/dev/evil")),
    ("user", false, |c, _| rights(c).run_as_user = number(0)),
    ("another user", false, |c, _| rights(c).run_as_user = number(1234)),
    ("user name", false, |c, _| rights(c).run_as_username = "root".into()),
    ("group", false, |c, _| {
        rights(c).run_as_user = number(1);
        rights(c).run_as_group = number(0);
    }),
    ("groups", false, |c, _| rights(c).supplemental_groups = vec![0, 42]),
    ("capabilities", false, |c, _| {
        rights(c).capabilities.mut_or_insert_default().add_capabilities = vec!["ALL".into()];
    }),
    ("no capabilities", false, |c, _| {
        rights(c).capabilities.mut_or_insert_default().drop_capabilities = vec!["ALL".into()];
    }),
    ("read-only root", false, |c, _| rights(c).readonly_rootfs = true),
    ("no new privileges", false, |c, _| rights(c).no_new_privs = true),
    ("nothing masked", false, |c, _| rights(c).masked_paths = vec!["/proc/kcore".into()]),
    ("privileged", false, |c, _| rights(c).privileged = true),
    ("seccomp", false, |c, _| {
        let profile = cri::security_profile::ProfileType::Unconfined;
        rights(c).seccomp.mut_or_insert_default().profile_type = protobuf::EnumOrUnknown::new(profile);
    }),
    ("terminal", true, |c, _| c.tty = true),
    ("input", true, |c, _| c.stdin = true),
    ("container name", true, |c, _| c.metadata.mut_or_insert_default().name = "stranger".into()),
    ("a name that climbs", true, |c, _| c.metadata.mut_or_insert_default().name = "../work".into()),
    ("no initdata", false, |c, _| annotated(c, ANNOTATION, "")),
    ("other initdata", false, |c, _| annotated(c, ANNOTATION, "bm9pc2U=")),
    ("kernel parameters", false, |c, _| {
        annotated(c, "io.katacontainers.config.hypervisor.kernel_params", "init=/bin/sh");
    }),
    ("type", false, |c, _| annotated(c, "io.kubernetes.cri.container-type", "sandbox")),
    ("sandbox", false, |c, l| annotated(c, "io.kubernetes.cri.sandbox-id", &l.other_pod)),
    ("labels", false, |c, _| {
        c.labels.insert("io.kubernetes.container.name".into(), "stranger".into());
    }),
    ("no memory", true, |c, _| {
        c.linux.mut_or_insert_default().resources.mut_or_insert_default().memory_limit_in_bytes = 1;
    }),
];

/// Makes a container as kubelet asks for it, and runs it to its end; gives what it says.
async fn told(
    pod: &Pod,
    work: &ContainerWish,
    attempt: u32,
    change: impl FnOnce(&mut cri::ContainerConfig),
) -> anyhow::Result<String> {
    let mut work = work.clone();
    work.attempt = attempt;
    let id = pod.create_changed(&work, change).await?;
    if let Err(error) = pod.start(&id).await {
        pod.remove_container(&id).await?;
        return Err(error);
    }
    let ended = pod.wait(&id).await?;
    anyhow::ensure!(ended.code == 0, "{ended:?}");
    let said = pod.log("work", attempt, "stdout")?;
    pod.remove_container(&id).await?;
    Ok(said)
}

async fn lies(machine: Machine) -> Machine {
    let mut work = ContainerWish::script("work", &machine.image, FACTS);
    work.command.push("the plan's".into());
    let stays = ContainerWish::script("stays", &machine.image, "echo ready; sleep 100000");
    let change = |plan: &mut cocoon_plan::Plan| {
        plan.containers[0].restart = Restart::Always;
        plan.containers[1].exec.any = false;
        plan.containers[1].exec.commands = vec![vec!["/bin/echo".into(), "healthy".into()]];
        let file = Some("/run/secrets/token".to_owned());
        plan.secrets = vec![SecretPlan { uri: "kbs:///default/secret/token".into(), file }];
    };
    let secrets = [("default/secret/token", SECRET)];
    let pod =
        machine.planned(PodWish::new("lied", "cocoon"), &[&work, &stays], &secrets, change).await.unwrap();
    let other = machine.planned(PodWish::new("other", "cocoon"), &[&stays], &[], |_| {}).await.unwrap();
    let honest_one = pod.container(&stays).await.unwrap();
    pod.wait_for_log("stays", 0, "ready\n").await.unwrap();

    let folder = machine.node.folder().join("lie");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("evil"), "evil").unwrap();
    let other_image = machine.registry.reference("other:1");
    let (source, target) = (format!("docker://{}", machine.image), format!("docker://{other_image}"));
    let flags = ["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    cocoon_tests::run("skopeo", flags.iter().copied().chain([source.as_str(), target.as_str()])).unwrap();
    let lied = Lied { other_image, folder: folder.display().to_string(), other_pod: other.id.clone() };

    let honest = told(&pod, &work, 0, |_| {}).await.unwrap();
    assert!(honest.contains("the plan's") && honest.contains("told") && !honest.contains(SECRET), "{honest}");
    for (number, (what, refused, change)) in LIES.iter().enumerate() {
        let attempt = u32::try_from(number + 1).unwrap();
        match told(&pod, &work, attempt, |config| change(config, &lied)).await {
            Ok(said) => {
                assert!(!refused, "{what}: it was not refused");
                assert_eq!(said, honest, "{what}");
                println!("{what}: the plan's own ran");
            }
            Err(error) => {
                let error = format!("{error:#}");
                assert!(!error.contains(SECRET), "{what}: {error}");
                println!("{what}: {error}");
                // Some never leave containerd, which knows them for nonsense.
                let coded = error.contains(Code::PlanRequestRefused.as_str()) || error.contains("START-");
                assert!(coded || !error.contains("transport"), "{what}: {error}");
            }
        }
        // The honest one does not notice.
        let probe = pod.exec(&honest_one, &["/bin/echo", "healthy"]).await.unwrap();
        assert_eq!(probe, ("healthy\n".into(), String::new(), 0), "after {what}");
    }
    // A container of one pod, asked of another.
    let strange = told(&other, &work, 0, |_| {}).await.unwrap_err().to_string();
    assert!(strange.contains(Code::PlanRequestRefused.as_str()), "{strange}");
    assert_eq!(told(&pod, &work, 1000, |_| {}).await.unwrap(), honest);
    other.remove().await.unwrap();
    pod.remove().await.unwrap();
    machine
}

#[test]
fn about_every_field_of_a_container() {
    Story::Cocoon(|_| {}).tell(Version::V2, lies);
}

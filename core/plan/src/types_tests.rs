//! Plans that are read, written and refused.

use super::*;

pub(crate) fn sample() -> Plan {
    Plan {
        exact: false,
        version: 1,
        name: "demo".into(),
        instance: "00ff".into(),
        containers: vec![ContainerPlan {
            name: "main".into(),
            kind: ContainerKind::App,
            image: ImagePlan {
                reference: "localhost:5000/busybox:1".into(),
                digest: format!("sha256:{}", "a".repeat(64)),
                signature: None,
                layers: None,
            },
            args: vec!["/bin/true".into()],
            env: vec!["A=b".into()],
            host_env: Vec::new(),
            cwd: "/".into(),
            user: String::new(),
            groups: Vec::new(),
            run_as_non_root: false,
            capabilities: vec!["CAP_CHOWN".into()],
            no_new_privileges: true,
            read_only_root: false,
            seccomp: Seccomp::RuntimeDefault,
            seccomp_profile: None,
            unmasked: false,
            devices: Vec::new(),
            exec: ExecRules::default(),
            termination_message: None,
            mounts: vec![MountPlan::Tmpfs { target: "/scratch".into(), size: 1 << 20 }],
            terminal: false,
            stdin: true,
            logs: true,
            restart: Restart::Never,
            stop_signal: 15,
        }],
        secrets: vec![SecretPlan {
            uri: "kbs:///default/secret/token".into(),
            file: Some("/run/secrets/token".into()),
        }],
        secret_env: Vec::new(),
        sealed: Vec::new(),
        attestation_api: false,
        registry_auth: None,
        images: ImageSettings::default(),
        volumes: Vec::new(),
        sysctls: BTreeMap::new(),
        share_process_namespace: false,
        forward_ports: Vec::new(),
    }
}

#[test]
fn canonical_form_round_trips_and_is_stable() {
    let bytes = sample().to_canonical().unwrap();
    let again = Plan::parse(&bytes).unwrap();
    assert_eq!(again, sample());
    assert_eq!(again.to_canonical().unwrap(), bytes);
}

#[test]
fn a_reference_holds_no_other_digest() {
    let mut plan = sample();
    let digest = plan.containers[0].image.digest.clone();
    let mut with = |reference: String| {
        plan.containers[0].image.reference = reference;
        plan.to_canonical().map_err(|e| e.to_string())
    };
    with(format!("localhost:5000/busybox:1@{digest}")).unwrap();
    for other in [
        format!("sha256:{}", "b".repeat(64)),
        digest.to_uppercase(),
        format!("sha512:{}", "a".repeat(128)),
        String::new(),
        format!("{digest}@{digest}"),
    ] {
        let e = with(format!("localhost:5000/busybox@{other}")).unwrap_err();
        assert!(e.contains("another digest"), "{e}");
    }
}

#[test]
fn a_newer_version_is_named_as_such() {
    let mut value = serde_json::to_value(sample()).unwrap();
    value["version"] = 2.into();
    value["quantum"] = true.into();
    let err = Plan::parse(value.to_string().as_bytes()).unwrap_err();
    assert!(matches!(err, Error::Version { found: 2, supported: 1 }), "{err}");
}

#[test]
fn unknown_fields_are_refused() {
    let mut value = serde_json::to_value(sample()).unwrap();
    value["containers"][0]["privileged"] = true.into();
    assert!(matches!(Plan::parse(value.to_string().as_bytes()), Err(Error::Malformed(_))));
}

#[test]
fn bad_values_are_refused() {
    type Spoil = fn(&mut Plan);
    let spoils: &[(&str, Spoil)] = &[
        ("name", |p| p.name = "Bad Name".into()),
        ("containers", |p| p.containers.clear()),
        ("args", |p| p.containers[0].args.clear()),
        ("cwd", |p| p.containers[0].cwd = "/a/../../b".into()),
        ("digest", |p| p.containers[0].image.digest = "sha256:zz".into()),
        ("env", |p| p.containers[0].env.push("=x".into())),
        ("uri", |p| p.secrets[0].uri = "http://x".into()),
        ("file", |p| p.secrets[0].file = Some("relative".into())),
        ("target", |p| p.containers[0].mounts = vec![MountPlan::Tmpfs { target: "/".into(), size: 1 }]),
        ("name", |p| p.containers.push(p.containers[0].clone())),
    ];
    for (field, spoil) in spoils {
        let mut plan = sample();
        spoil(&mut plan);
        let err = plan.to_canonical().unwrap_err().to_string();
        assert!(err.contains(field), "{field}: {err}");
    }
}

#[test]
fn a_huge_plan_is_refused() {
    let mut plan = sample();
    plan.containers[0].env.push(format!("X={}", "y".repeat(MAX_PLAN_BYTES)));
    assert!(matches!(plan.to_canonical(), Err(Error::TooLarge(_))));
    assert!(matches!(Plan::parse(&vec![b' '; MAX_PLAN_BYTES + 1]), Err(Error::TooLarge(_))));
}

//! What is taken of the documents in the host's requests: each is bounded, and all else in them is ignored.

use cocoon_plan::{ContainerPlan, host_env};
use cocoon_sandbox_api::CONTAINER_OPTIONS;
use cocoon_sandbox_api::sandbox::ContainerOptions;
use cocoon_stage::Failure;
use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use protobuf::Message;
use serde::Deserialize;

use crate::Error;
use crate::container::{ExecSpec, HostPart, Resources};

/// Longest `/etc/hosts`, in bytes.
const MAX_HOSTS: usize = 64 * 1024;
/// Longest document of a further process, in bytes: its arguments and the container's environment.
const MAX_PROCESS: usize = 2 << 20;
/// Longest arguments of a further process, in number and in bytes.
const MAX_ARGS: (usize, usize) = (4096, 128 * 1024);
/// Longest working directory, in bytes.
const MAX_PATH: usize = 4096;

fn refused(reason: impl Into<String>) -> Failure {
    Error::Refused(reason.into()).into()
}

/// The options of a creation; without them, or with those of another runtime, the empty ones.
///
/// # Errors
/// A refusal of what cannot be read.
pub(super) fn options(req: &CreateTaskRequest) -> Result<ContainerOptions, Failure> {
    match req.options.as_ref().filter(|any| any.type_url == CONTAINER_OPTIONS) {
        None => Ok(ContainerOptions::new()),
        Some(any) => ContainerOptions::parse_from_bytes(&any.value)
            .map_err(|_| refused("the container's options are malformed")),
    }
}

/// The name of the plan's container that is asked for.
pub(super) fn name<'a>(req: &'a CreateTaskRequest, options: &'a ContainerOptions) -> &'a str {
    if options.name.is_empty() { &req.id } else { &options.name }
}

/// What of the options the plan takes.
///
/// # Errors
/// A refusal of what is too large or malformed.
pub(super) fn host_part(
    id: &str,
    options: &ContainerOptions,
    plan: &ContainerPlan,
) -> Result<HostPart, Failure> {
    if options.hosts.len() > MAX_HOSTS {
        return Err(refused(format!("/etc/hosts of {} bytes", options.hosts.len())));
    }
    let resources = (!options.resources.is_empty()).then(|| Resources::parse(&options.resources));
    Ok(HostPart {
        id: id.to_owned(),
        env: host_env::allowed(plan, &options.env)?,
        sealed: Vec::new(),
        hosts: (!options.hosts.is_empty()).then(|| options.hosts.clone()),
        resources: resources.transpose()?,
    })
}

/// The runtime-spec's `process`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Process {
    args: Vec<String>,
    env: Option<Vec<String>>,
    cwd: String,
    terminal: bool,
    console_size: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Size {
    width: u64,
    height: u64,
}

/// What is to run, and the size of its terminal to begin with. User, capabilities and all else are the container's.
///
/// # Errors
/// A refusal of what is too large or malformed.
pub(super) fn process(
    req: &ExecProcessRequest,
    plan: &ContainerPlan,
) -> Result<(ExecSpec, Option<(u16, u16)>), Failure> {
    let json = &req.spec.value;
    if json.len() > MAX_PROCESS {
        return Err(refused(format!("exec with a document of {} bytes", json.len())));
    }
    let process: Process =
        serde_json::from_slice(json).map_err(|_| refused("exec with a document that is no process"))?;
    let bytes: usize = process.args.iter().map(String::len).sum();
    let (most, most_bytes) = MAX_ARGS;
    if process.args.is_empty() || process.args.len() > most || bytes > most_bytes {
        return Err(refused(format!("exec with {} arguments of {bytes} bytes", process.args.len())));
    }
    if process.args.iter().any(|a| a.contains('\0')) {
        return Err(refused("exec with an argument that holds a NUL character"));
    }
    // The folder is one more thing to choose: for those alone who may choose everything.
    let usable = process.cwd.starts_with('/') && process.cwd.len() <= MAX_PATH && !process.cwd.contains('\0');
    let spec = ExecSpec {
        env: host_env::allowed(plan, process.env.as_deref().unwrap_or_default())?,
        cwd: (plan.exec.any && usable).then_some(process.cwd),
        terminal: req.terminal || process.terminal,
        args: process.args,
    };
    let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = process.console_size.filter(|s| spec.terminal && s.width > 0 && s.height > 0);
    Ok((spec, size.map(|s| (cells(s.width), cells(s.height)))))
}

#[cfg(test)]
pub(super) mod tests {
    use protobuf::well_known_types::any::Any;

    use super::*;

    /// A container without a terminal or standard input, whose output the host may have.
    pub(in crate::task_service) fn plan() -> ContainerPlan {
        serde_json::from_value(serde_json::json!({
            "name": "main", "image": {"reference": "x", "digest": "sha256:0"}, "args": ["x"], "cwd": "/",
            "no_new_privileges": true, "seccomp": "runtime-default", "logs": true, "restart": "never",
            "stop_signal": 15, "host_env": ["POD_*"]
        }))
        .unwrap()
    }

    fn create(id: &str, type_url: &str, value: Vec<u8>) -> CreateTaskRequest {
        let options = Any { type_url: type_url.into(), value, ..Any::default() };
        CreateTaskRequest { id: id.into(), options: Some(options).into(), ..CreateTaskRequest::default() }
    }

    #[test]
    fn the_name_is_in_the_options_and_else_the_id() {
        let named = ContainerOptions { name: "main".into(), ..ContainerOptions::default() };
        let bytes = named.write_to_bytes().unwrap();
        let of = |req: &CreateTaskRequest| options(req).map(|o| name(req, &o).to_owned());
        assert_eq!(of(&create("0f", CONTAINER_OPTIONS, bytes.clone())).unwrap(), "main");
        assert_eq!(of(&create("0f", "runtimeoptions.v1.Options", bytes)).unwrap(), "0f");
        assert_eq!(of(&create("0f", CONTAINER_OPTIONS, Vec::new())).unwrap(), "0f");
        assert!(of(&create("0f", CONTAINER_OPTIONS, vec![0xff; 40])).is_err());
        assert_eq!(of(&CreateTaskRequest { id: "x".into(), ..CreateTaskRequest::default() }).unwrap(), "x");
    }

    #[test]
    fn what_the_host_says_is_bounded_and_chosen_by_the_plan() {
        let mut options = ContainerOptions {
            env: vec!["POD_IP=10.0.0.1".into(), "PATH=/evil".into()],
            hosts: "127.0.0.1 localhost\n".into(),
            resources: br#"{"memory":{"limit":1048576}}"#.to_vec(),
            spec: b"{not even json".to_vec(),
            ..ContainerOptions::default()
        };
        let part = host_part("0f", &options, &plan()).unwrap();
        assert_eq!((part.env, part.id.as_str()), (vec!["POD_IP=10.0.0.1".to_owned()], "0f"));
        assert!(part.hosts.is_some() && part.resources.is_some());
        options.hosts = "x".repeat(MAX_HOSTS + 1);
        assert!(host_part("0f", &options, &plan()).is_err());
        options.hosts.clear();
        options.resources = b"{".to_vec();
        assert!(host_part("0f", &options, &plan()).is_err());
    }

    fn exec(json: &str) -> ExecProcessRequest {
        let spec = Any { value: json.as_bytes().to_vec(), ..Any::default() };
        ExecProcessRequest { spec: Some(spec).into(), ..ExecProcessRequest::default() }
    }

    #[test]
    fn of_a_process_only_what_the_plan_leaves_open_is_taken() {
        let json = r#"{"terminal":true,"user":{"uid":0},"args":["sh","-i"],"env":["POD_X=1","LD_PRELOAD=/x"],
            "cwd":"/tmp","capabilities":{"bounding":["CAP_SYS_ADMIN"]},"consoleSize":{"height":43,"width":132}}"#;
        let mut plan = plan();
        let (spec, size) = process(&exec(json), &plan).unwrap();
        assert_eq!(spec.args, ["sh", "-i"]);
        assert_eq!((spec.env, spec.cwd, spec.terminal), (vec!["POD_X=1".to_owned()], None, true));
        assert_eq!(size, Some((132, 43)));
        plan.exec.any = true;
        assert_eq!(process(&exec(json), &plan).unwrap().0.cwd.as_deref(), Some("/tmp"));
        let relative = process(&exec(r#"{"args":["ls"],"cwd":"../x","env":null}"#), &plan).unwrap().0;
        assert_eq!((relative.cwd, relative.terminal), (None, false));
    }

    #[test]
    fn hostile_processes_are_refused() {
        let many = format!(r#"{{"args":[{}"x"]}}"#, r#""x","#.repeat(5000));
        let long = format!(r#"{{"args":["{}"]}}"#, "x".repeat(200 * 1024));
        let huge = " ".repeat(MAX_PROCESS + 1);
        let deep = "[".repeat(100_000);
        let bad = ["", "[]", "{", "{}", r#"{"args":[]}"#, r#"{"args":"sh"}"#, r#"{"args":["a\u0000b"]}"#];
        for json in bad.into_iter().chain([many.as_str(), &long, &huge, &deep]) {
            assert!(process(&exec(json), &plan()).is_err(), "{}", json.get(..40).unwrap_or(json));
        }
    }
}

//! The open guest: a developer's image without a plan takes the host's word for what to run.
//!
//! Contract: only an image that was built for it ([`is_developer`]) does this, and only without a plan in initdata. Such
//! an image has another measurement, so that a Trustee which has not registered it gives it nothing.

use std::collections::BTreeMap;
use std::path::Path;

use cocoon_plan::ContainerPlan;
use cocoon_plan::open::{OpenContainer, OpenMount, OpenRequest};
use cocoon_sandbox_api::sandbox::ContainerOptions;
use cocoon_stage::{Code, Failure, Stage};

use crate::Error;
use crate::pod::Pod;
use crate::sysctls;

/// What a developer's image has in its initrd.
const MARK: &str = "/developer";

/// Whether this guest's image may run open.
pub(crate) fn is_developer() -> bool {
    Path::new(MARK).is_file()
}

/// What the host says of an open pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostSettings {
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) share_process_namespace: bool,
}

impl Pod {
    /// Takes a container from the host's options, where this guest runs open. Where it has a plan, they are at most held
    /// against it.
    ///
    /// # Errors
    /// A refusal with what of them cannot be done, or is not the plan's.
    pub(crate) fn admit(&self, name: &str, options: &ContainerOptions) -> Result<(), Failure> {
        if !self.is_open() {
            return self.compare(name, options);
        }
        let mounts: Vec<_> = options
            .mounts
            .iter()
            .map(|m| OpenMount {
                target: m.target.clone(),
                volume: m.volume.clone(),
                sub_path: m.sub_path.clone(),
                read_only: m.read_only,
                kind: m.kind.clone(),
            })
            .collect();
        let request = OpenRequest { name, image: &options.image, spec: &options.spec, mounts: &mounts };
        let OpenContainer { container, volumes, sysctls, shares_pids } =
            cocoon_plan::open::container(&request)?;
        let (of_ipc, others) = sysctls::by_namespace(sysctls);
        if let Some(name) = of_ipc.keys().next() {
            let why = format!("{name} for one container: it is the pod's, and comes with its configuration");
            return Err(Failure::new(Code::PlanRequestRefused, why).at(Stage::Start));
        }
        self.volumes()?.add(&volumes)?;
        if shares_pids {
            // The host says so with the first container, not with the pod.
            self.with(|running| {
                running.shared.share_pids();
                Ok(())
            })?;
        }
        self.take(container)?;
        sysctls::apply(Path::new(sysctls::ROOT), &others).map_err(Error::into)
    }

    /// Takes a container of a guest that runs open.
    ///
    /// # Errors
    /// A refusal; see [`cocoon_plan::decide::Sandbox::add`].
    fn take(&self, container: ContainerPlan) -> Result<(), Failure> {
        self.with(|running| {
            running.sandbox.add(container.clone())?;
            running.preparation.add(container);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(developer: bool) -> Pod {
        let settings = crate::container::Settings {
            exe: std::fs::File::open("/dev/null").unwrap().into(),
            work: "/nowhere".into(),
            etc: "/nowhere".into(),
            cgroups: None,
            reaper: std::sync::Arc::default(),
        };
        let connect: crate::pod::Connect = Box::new(|initdata, plan, _| {
            assert!(initdata.is_none() && plan.containers.is_empty());
            Box::pin(async { Err(Failure::new(Code::ImageNotFound, "nobody delivers images here")) })
        });
        let (events, _) = crate::events::Events::channel();
        let missing = Err(Failure::new(Code::InitdataMissing, "none"));
        Pod::new(settings, "/nowhere".into(), events, connect, missing, developer)
    }

    fn options(spec: &serde_json::Value) -> ContainerOptions {
        ContainerOptions {
            image: "docker.io/library/busybox:1".into(),
            spec: spec.to_string().into_bytes(),
            mounts: vec![cocoon_sandbox_api::sandbox::Mount {
                target: "/etc/app".into(),
                volume: "config".into(),
                kind: "files".into(),
                ..Default::default()
            }],
            ..ContainerOptions::default()
        }
    }

    #[tokio::test]
    async fn an_open_pod_takes_containers_and_a_production_one_none() {
        use crate::forward::Ports;
        let spec = serde_json::json!({"process": {"args": ["/bin/app"], "cwd": "/"}});
        let production = pod(false);
        assert_eq!(production.refusal().unwrap().code, Code::InitdataMissing);
        production.admit("app", &options(&spec)).unwrap();
        assert_eq!(production.named("app").unwrap_err().code, Code::InitdataMissing);
        assert!(!production.allows(80) && !production.proves());

        let open = pod(true);
        assert!(open.refusal().is_none());
        assert!(open.admit("app", &options(&spec)).is_err(), "not configured yet");
        let host = |name: &str| HostSettings {
            sysctls: BTreeMap::from([(name.to_owned(), "1".to_owned())]),
            share_process_namespace: false,
        };
        let refused = open.configure(String::new(), None, host("kernel.modprobe"), || Ok(()));
        assert_eq!(refused.unwrap_err().code, Code::PlanRequestRefused);
        open.configure(String::new(), None, HostSettings::default(), || Ok(())).unwrap();
        assert!(open.allows(80) && !open.proves() && open.named("app").is_err());
        open.admit("app", &options(&spec)).unwrap();
        let plan = open.named("app").unwrap();
        assert_eq!((plan.args, plan.exec.any, plan.mounts.len()), (vec!["/bin/app".to_owned()], true, 1));
        let bad = serde_json::json!({"process": {"args": [], "cwd": "/"}});
        assert_eq!(open.admit("other", &options(&bad)).unwrap_err().code, Code::PlanRequestRefused);
        assert!(open.named("other").is_err());
    }
}

//! How large a pod's VM is: once, at its start, from what the pod's containers may take together.

use cocoon_runtime::RuntimeConfig;
use cocoon_stage::{Code, Failure, Stage};

use crate::spec::Spec;

const MIB: u64 = 1 << 20;

/// A VM's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB, the guest's own included.
    pub memory_mib: u32,
}

/// The pod's size: its limits as containerd's CRI plugin sums them up, else those of its only container, else the
/// class's defaults. CPU requests count where there is no CPU limit.
///
/// # Errors
/// `HOST-UNSUPPORTED` for a pod that may take more memory than the class allows. Of CPUs it gets at most those allowed,
/// as it would of a machine that has no more.
pub fn size(spec: &Spec, config: &RuntimeConfig) -> Result<Size, Failure> {
    let resource = |pointer: &str| spec.linux.resources.as_ref()?.pointer(pointer)?.as_i64();
    let number = |name: &str, pointer: &str| {
        spec.number(&[name])
            .or_else(|| resource(pointer))
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| *n > 0)
    };
    let wish =
        |setting| spec.hypervisor(setting).and_then(|v| v.trim().parse::<u64>().ok()).filter(|n| *n > 0);

    let quota = number("io.kubernetes.cri.sandbox-cpu-quota", "/cpu/quota");
    let period = number("io.kubernetes.cri.sandbox-cpu-period", "/cpu/period").unwrap_or(100_000);
    let shares = number("io.kubernetes.cri.sandbox-cpu-shares", "/cpu/shares").unwrap_or(0);
    let default = u64::from(config.default_cpus);
    let cpus = match (wish("default_vcpus"), quota) {
        (Some(cpus), _) => cpus,
        (None, Some(quota)) => quota.div_ceil(period),
        // 1024 shares stand for one CPU.
        (None, None) => shares.div_ceil(1024).max(default),
    };
    let cpus = cpus.clamp(1, u64::from(config.max_cpus.max(1)));

    let limit = number("io.kubernetes.cri.sandbox-memory", "/memory/limit");
    let memory = match (wish("default_memory"), limit) {
        (Some(mib), _) => mib,
        (None, Some(bytes)) => bytes.div_ceil(MIB).saturating_add(u64::from(config.overhead_memory_mib)),
        (None, None) => u64::from(config.default_memory_mib),
    };
    let most = u64::from(config.max_memory_mib);
    if memory > most {
        let why =
            format!("the pod may take {memory} MiB of memory with the guest's own; this class allows {most}");
        return Err(Failure::new(Code::HostUnsupported, why).at(Stage::Boot));
    }
    // A guest does not boot with less.
    let memory = memory.max(128);
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(Size { cpus: number(cpus), memory_mib: number(memory) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(annotations: serde_json::Value, resources: serde_json::Value) -> Result<Size, Failure> {
        let json = serde_json::json!({"annotations": annotations, "linux": {"resources": resources}});
        let config = RuntimeConfig { max_cpus: 8, max_memory_mib: 4096, ..RuntimeConfig::default() };
        size(&serde_json::from_value(json).unwrap(), &config)
    }

    fn pod(quota: &str, shares: &str, memory: &str) -> (u32, u32) {
        let annotations = serde_json::json!({
            "io.kubernetes.cri.sandbox-cpu-quota": quota, "io.kubernetes.cri.sandbox-cpu-period": "100000",
            "io.kubernetes.cri.sandbox-cpu-shares": shares, "io.kubernetes.cri.sandbox-memory": memory
        });
        let size = sized(annotations, serde_json::json!({})).unwrap();
        (size.cpus, size.memory_mib)
    }

    #[test]
    fn limits_size_the_pod_and_the_guest_comes_on_top() {
        assert_eq!(pod("150000", "2", "268435456"), (2, 256 + 192));
        assert_eq!(pod("0", "3072", "0"), (3, 512));
        assert_eq!(pod("-1", "2", "-1"), (1, 512));
        assert_eq!(pod("9900000", "2", "1"), (8, 1 + 192));
        assert_eq!(pod("what", "", "1e9"), (1, 512));
    }

    #[test]
    fn a_single_container_has_its_own_limits() {
        let resources =
            serde_json::json!({"cpu": {"quota": 400_000, "period": 100_000}, "memory": {"limit": 1 << 30}});
        assert_eq!(
            sized(serde_json::json!({}), resources).unwrap(),
            Size { cpus: 4, memory_mib: 1024 + 192 }
        );
    }

    #[test]
    fn annotations_of_coco_size_it_too_and_too_much_is_refused() {
        let name = |n: &str| format!("io.katacontainers.config.hypervisor.{n}");
        let annotations = serde_json::json!({name("default_vcpus"): "3", name("default_memory"): "2048"});
        assert_eq!(sized(annotations, serde_json::json!({})).unwrap(), Size { cpus: 3, memory_mib: 2048 });
        let annotations = serde_json::json!({"io.kubernetes.cri.sandbox-memory": "9000000000000000000"});
        let refused = sized(annotations, serde_json::json!({})).unwrap_err();
        assert!(refused.code == Code::HostUnsupported && refused.reason.contains("4096"));
    }
}

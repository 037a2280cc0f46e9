//! The policies that come with Trustee.

/// Names of the resource policies that come with Trustee, as [`resource_sample`] takes them.
pub const RESOURCE_SAMPLES: [&str; 4] = ["default", "affirming", "allow_all", "deny_all"];

/// The text of the default attestation policy of a device class (`cpu`, `gpu`, `switch`, `ppcie`, `dcu`,
/// `nvidia-dpu`).
pub fn default_policy(class: &str) -> Option<&'static str> {
    Some(match class {
        "cpu" => include_str!("../policies/default_cpu.rego"),
        "gpu" => include_str!("../policies/default_gpu.rego"),
        "switch" => include_str!("../policies/default_switch.rego"),
        "ppcie" => include_str!("../policies/default_ppcie.rego"),
        "dcu" => include_str!("../policies/default_dcu.rego"),
        "nvidia-dpu" => include_str!("../policies/default_nvidia-dpu.rego"),
        _ => return None,
    })
}

/// The text of a resource policy: `default` (every device affirmed, none simulated), `affirming` (every device
/// affirmed), `allow_all`, `deny_all`.
pub fn resource_sample(name: &str) -> Option<&'static str> {
    Some(match name {
        "default" => include_str!("../policies/resource_default.rego"),
        "affirming" => include_str!("../policies/resource_affirming.rego"),
        "allow_all" => include_str!("../policies/resource_allow_all.rego"),
        "deny_all" => include_str!("../policies/resource_deny_all.rego"),
        _ => return None,
    })
}

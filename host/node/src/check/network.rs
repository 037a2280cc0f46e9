//! What a pod's network is made of: taps, redirects, the kernel's virtio backend.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Check;
use crate::program::run;

pub(crate) fn checks(root: &Path) -> Vec<Check> {
    vec![tun(root), vhost_net(root), redirect(&try_redirects())]
}

fn tun(root: &Path) -> Check {
    let name = "tap";
    if root.join("dev/net/tun").exists() {
        return Check::ok(name, "/dev/net/tun", "pods' VMs can be given a network device");
    }
    Check::missing(name, "no /dev/net/tun", "pods on the cluster's network cannot start").mend("modprobe tun")
}

fn vhost_net(root: &Path) -> Check {
    let name = "vhost-net";
    if root.join("dev/vhost-net").exists() {
        return Check::ok(name, "/dev/vhost-net", "packets of pods do not go through QEMU");
    }
    Check::warn(name, "no /dev/vhost-net", "packets go through QEMU: it works, slower")
        .mend("modprobe vhost_net")
}

/// Tries both kinds of filter in a network namespace of its own, which ends with the program that has it.
const TRY: &str = "ip link set lo up; ip tuntap add cocoon0 mode tap || exit 9; ip tuntap add cocoon1 mode tap || exit 9; \
     tc qdisc add dev cocoon0 ingress || exit 8; \
     f='filter add dev cocoon0 parent ffff: protocol all'; r='action mirred egress redirect dev cocoon1'; \
     tc $f matchall $r && echo matchall; tc $f u32 match u8 0 0 $r && echo u32; true";

/// What worked; or why nothing could be tried.
fn try_redirects() -> Result<Vec<String>, String> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", TRY]);
    match run(&mut command, Duration::from_secs(10)) {
        Ok(output) if output.success => Ok(output.stdout.lines().map(str::to_owned).collect()),
        Ok(output) => Err(output.complaint()),
        Err(e) => Err(format!("unshare: {e}")),
    }
}

fn redirect(tried: &Result<Vec<String>, String>) -> Check {
    let name = "tc";
    match tried {
        Ok(works) if works.is_empty() => {
            let mend = "modprobe act_mirred cls_matchall cls_u32 sch_ingress; else a kernel that has them";
            Check::missing(
                name,
                "neither matchall nor u32 with mirred",
                "pods on the cluster's network cannot start",
            )
            .mend(mend)
        }
        Ok(works) => {
            let found = format!("mirred redirects by {}", works.join(" and "));
            Check::ok(name, found, "pods' VMs can be connected to what the CNI plugin made")
        }
        Err(why) => {
            let means = "whether pods can be connected to the cluster's network shows with the first one";
            Check::warn(name, format!("not tried: {why}"), means)
                .mend("run as root, with ip and tc (package iproute2) installed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn devices_and_filters_are_judged() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((tun(root.path()).status, vhost_net(root.path()).status), (Status::Missing, Status::Warn));
        std::fs::create_dir_all(root.path().join("dev/net")).unwrap();
        std::fs::write(root.path().join("dev/net/tun"), "").unwrap();
        std::fs::write(root.path().join("dev/vhost-net"), "").unwrap();
        assert_eq!((tun(root.path()).status, vhost_net(root.path()).status), (Status::Ok, Status::Ok));
        assert_eq!(redirect(&Ok(vec!["u32".into()])).status, Status::Ok);
        assert_eq!(redirect(&Ok(vec![])).status, Status::Missing);
        assert_eq!(redirect(&Err("x".into())).status, Status::Warn);
    }

    #[test]
    fn trying_leaves_nothing_behind() {
        println!("{:?}", try_redirects());
        let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
        assert!(!devices.contains("cocoon0"), "{devices}");
    }
}

//! Variables of service discovery, which kubelet adds to every container
//! (`k8s.io/kubernetes/pkg/kubelet/envvars`).

use std::collections::BTreeSet;

use cocoon_plan::host_env::is_service;

use crate::settings::ServiceLinks;

/// The patterns by which the cluster may set variables of services (a plan's `host_env`).
pub(crate) fn patterns<'a>(
    links: ServiceLinks,
    enabled: bool,
    services: impl Iterator<Item = &'a str>,
) -> BTreeSet<String> {
    // Kubernetes' own service is there even where a pod wants no links.
    let mut patterns = BTreeSet::from(["KUBERNETES_PORT*".to_owned(), "KUBERNETES_SERVICE_*".to_owned()]);
    match links {
        _ if !enabled => {}
        ServiceLinks::None => {}
        ServiceLinks::Known => {
            for service in services {
                let prefix = prefix(service);
                patterns.insert(format!("{prefix}_SERVICE_*"));
                patterns.insert(format!("{prefix}_PORT*"));
            }
        }
        ServiceLinks::Any => {
            let ends =
                ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_TCP", "_UDP", "_SCTP", "_PROTO", "_ADDR"];
            patterns.extend(ends.map(|end| format!("*{end}")));
        }
    }
    patterns
}

/// `my-db` is `MY_DB`.
fn prefix(service: &str) -> String {
    service.to_ascii_uppercase().replace('-', "_")
}

/// Whether kubelet may set a variable of this name.
pub(crate) fn is_variable(name: &str, enabled: bool) -> bool {
    is_service(name) && (enabled || name.starts_with("KUBERNETES_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_of_the_services_that_are_known() {
        let of = |links, enabled| patterns(links, enabled, ["my-db"].into_iter());
        assert!(of(ServiceLinks::Known, true).contains("MY_DB_SERVICE_*"));
        assert_eq!(of(ServiceLinks::Known, false).len(), 2);
        assert_eq!(of(ServiceLinks::None, true).len(), 2);
        assert!(of(ServiceLinks::Any, true).contains("*_SERVICE_HOST"));
    }
}

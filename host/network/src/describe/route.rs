//! One route of the namespace as the guest is told it.

use std::net::IpAddr;

use cocoon_sandbox_api::sandbox::Route;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType, RouteVia,
};

use super::Device;
use crate::Error;

/// Of the main table (linux/rtnetlink.h, RT_TABLE_MAIN).
const MAIN: u32 = 254;

/// `None` for those that are not the pod's to set: of other tables, the kernel's own, and those through devices that the
/// VM does not take over.
///
/// # Errors
/// [`Error::Unsupported`] for what the guest could not do alike.
pub(super) fn route(devices: &[Device], message: &RouteMessage) -> Result<Option<Route>, Error> {
    let header = &message.header;
    let parts = Parts::of(message);
    if parts.table.unwrap_or(u32::from(header.table)) != MAIN || header.flags.contains(RouteFlags::Cloned) {
        return Ok(None);
    }
    let any = match header.address_family {
        AddressFamily::Inet => "0.0.0.0",
        AddressFamily::Inet6 => "::",
        _ => return Ok(None),
    };
    let destination = parts.destination.map_or_else(|| any.to_owned(), |ip| ip.to_string());
    let destination = format!("{destination}/{}", header.destination_prefix_length);
    let refuse = |reason: &str| Err(Error::unsupported(format!("the route to {destination}"), reason));
    let by_kernel = header.protocol == RouteProtocol::Kernel;
    let kind = match header.kind {
        RouteType::Unicast => "",
        // The kernel's last resort.
        _ if by_kernel => return Ok(None),
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        other => return refuse(&format!("is of kind {other:?}")),
    };
    let device = devices.iter().find(|d| Some(d.index) == parts.device);
    if kind.is_empty() && device.is_none() && (by_kernel || parts.device.is_none() && !parts.several) {
        return Ok(None);
    }
    if parts.several {
        return refuse("has several gateways");
    }
    if parts.encapsulated || header.tos != 0 || header.source_prefix_length != 0 {
        return refuse("encapsulates, or depends on more than the destination");
    }
    if kind.is_empty() && device.is_none() {
        return refuse("leads through a device that the VM does not take over");
    }
    let Some(scope) = scope(header) else { return refuse("has an unusual scope") };
    Ok(Some(Route {
        destination,
        gateway: parts.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
        device: device.filter(|_| kind.is_empty()).map(|d| d.name.clone()).unwrap_or_default(),
        metric: parts.metric,
        source: parts.source.map(|ip| ip.to_string()).unwrap_or_default(),
        scope: scope.to_owned(),
        on_link: header.flags.contains(RouteFlags::Onlink),
        kind: kind.to_owned(),
        mtu: parts.mtu,
        advmss: parts.advmss,
        ..Route::default()
    }))
}

/// IPv6 has no scopes of routes.
fn scope(header: &RouteHeader) -> Option<&'static str> {
    match (header.address_family, header.scope) {
        (AddressFamily::Inet6, _) => Some(""),
        (_, RouteScope::Universe) => Some("global"),
        (_, RouteScope::Link) => Some("link"),
        (_, RouteScope::Host) => Some("host"),
        _ => None,
    }
}

#[derive(Default)]
struct Parts {
    table: Option<u32>,
    destination: Option<IpAddr>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    device: Option<u32>,
    metric: u32,
    mtu: u32,
    advmss: u32,
    several: bool,
    encapsulated: bool,
}

impl Parts {
    fn of(message: &RouteMessage) -> Parts {
        let mut parts = Parts::default();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(table) => parts.table = Some(*table),
                RouteAttribute::Destination(address) => parts.destination = ip(address),
                RouteAttribute::Gateway(address) => parts.gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet(v4)) => parts.gateway = Some(IpAddr::V4(*v4)),
                RouteAttribute::Via(RouteVia::Inet6(v6)) => parts.gateway = Some(IpAddr::V6(*v6)),
                RouteAttribute::PrefSource(address) => parts.source = ip(address),
                RouteAttribute::Oif(index) => parts.device = Some(*index),
                RouteAttribute::Priority(metric) => parts.metric = *metric,
                RouteAttribute::MultiPath(_) => parts.several = true,
                RouteAttribute::Encap(_) => parts.encapsulated = true,
                RouteAttribute::Metrics(metrics) => parts.measure(metrics),
                _ => {}
            }
        }
        parts
    }

    fn measure(&mut self, metrics: &[RouteMetric]) {
        for metric in metrics {
            match metric {
                RouteMetric::Mtu(mtu) => self.mtu = *mtu,
                RouteMetric::Advmss(advmss) => self.advmss = *advmss,
                _ => {}
            }
        }
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

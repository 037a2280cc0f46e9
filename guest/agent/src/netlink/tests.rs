//! The kernel's bytes.

use super::*;

fn cidr(text: &str, prefix: u8) -> Cidr {
    Cidr { address: text.parse().unwrap(), prefix }
}

#[cfg(target_endian = "little")]
#[test]
fn requests_have_the_kernels_bytes() {
    assert_eq!(
        hex::encode(Request::link_up(2, Some(1500)).0),
        concat!(
            "28000000", "1000", "0500", "00000000", "00000000", "00000000", "02000000", "01000000",
            "01000000", "0800", "0400", "dc050000"
        )
    );
    assert_eq!(
        hex::encode(Request::address(2, cidr("10.0.2.15", 24), false).0),
        concat!(
            "30000000", "1400", "0505", "00000000", "00000000", "02180000", "02000000", "0800", "0200",
            "0a00020f", "0800", "0100", "0a00020f", "0800", "0800", "00020000"
        )
    );
    let gateway = Some("10.0.2.2".parse().unwrap());
    assert_eq!(
        hex::encode(Request::route(&RouteRequest { gateway, ..to("0.0.0.0", 0) }).0),
        concat!(
            "2c000000", "1800", "050c", "00000000", "00000000", "02000000", "fe030001", "00000000", "0800",
            "0500", "0a000202", "0800", "0400", "02000000"
        )
    );
    assert_eq!(
        hex::encode(Request::neighbour(2, "10.0.2.2".parse().unwrap(), [2, 0, 0, 0, 0, 1]).0),
        concat!(
            "30000000",
            "1c00",
            "0505",
            "00000000",
            "00000000",
            "02000000",
            "02000000",
            "80000000",
            "0800",
            "0100",
            "0a000202",
            "0a00",
            "0200",
            "0200000000010000"
        )
    );
    assert_eq!(
        hex::encode(Request::rename(2, "eth0").0),
        concat!(
            "2c000000",
            "1000",
            "0500",
            "00000000",
            "00000000",
            "00000000",
            "02000000",
            "00000000",
            "00000000",
            "0900",
            "0300",
            "6574683000000000"
        )
    );
}

fn to(destination: &str, prefix: u8) -> RouteRequest {
    RouteRequest {
        destination: cidr(destination, prefix),
        gateway: None,
        index: Some(2),
        metric: 0,
        source: None,
        scope: RT_SCOPE_UNIVERSE,
        kind: RTN_UNICAST,
        on_link: false,
        mtu: 0,
        advmss: 0,
    }
}

#[cfg(target_endian = "little")]
#[test]
fn routes_have_all_that_the_kernel_knows_of_them() {
    let route = RouteRequest {
        gateway: Some("fe80::1".parse().unwrap()),
        metric: 7,
        source: Some("192.0.2.1".parse().unwrap()),
        on_link: true,
        mtu: 1400,
        advmss: 1300,
        ..to("198.51.100.0", 24)
    };
    assert_eq!(
        hex::encode(Request::route(&route).0),
        concat!(
            "68000000",
            "1800",
            "050c",
            "00000000",
            "00000000",
            "02180000",
            "fe030001",
            "04000000", // rtmsg
            "0800",
            "0100",
            "c6336400", // destination
            "1600",
            "1200",
            "0a00",
            "fe800000000000000000000000000001",
            "0000", // via
            "0800",
            "0700",
            "c0000201", // source
            "0800",
            "0600",
            "07000000", // metric
            "1400",
            "0800",
            "0800",
            "0200",
            "78050000",
            "0800",
            "0800",
            "14050000", // MTU, MSS
            "0800",
            "0400",
            "02000000" // link
        )
    );
    let nowhere = RouteRequest { index: None, kind: RTN_BLACKHOLE, ..to("2001:db8::", 32) };
    assert_eq!(
        hex::encode(Request::route(&nowhere).0),
        concat!(
            "30000000",
            "1800",
            "050c",
            "00000000",
            "00000000",
            "0a200000",
            "fe030006",
            "00000000",
            "1400",
            "0100",
            "20010db8000000000000000000000000"
        )
    );
}

#[test]
fn answers_are_checked() {
    let answer = |kind: u16, error: i32| {
        let mut bytes = vec![36, 0, 0, 0];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(error.to_ne_bytes());
        bytes
    };
    acknowledged(&answer(NLMSG_ERROR, 0)).unwrap();
    assert_eq!(acknowledged(&answer(NLMSG_ERROR, -19)).unwrap_err().raw_os_error(), Some(19));
    assert!(acknowledged(&answer(NLMSG_ERROR, i32::MIN)).is_err());
    assert!(acknowledged(&answer(3, 0)).is_err());
    assert!(acknowledged(&[0; 7]).is_err());
}

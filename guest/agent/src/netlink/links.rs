//! The kernel's list of network devices (rtnetlink(7), RTM_GETLINK).

use std::io;

use super::{HEADER, IFLA_ADDRESS, IFLA_IFNAME, NLMSG_DONE, NLMSG_ERROR, RTM_NEWLINK, acknowledged};

/// Bytes of `ifinfomsg`.
const INFO: usize = 16;
/// linux/if_arp.h, ARPHRD_ETHER.
const ETHERNET: u16 = 1;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Of Ethernet devices; loopback is none.
    pub(crate) hardware: Option<[u8; 6]>,
}

/// Reads a datagram of the answer into `links`. `true` says that it was the last.
///
/// # Errors
/// The kernel's, or `InvalidData`.
pub(super) fn read(datagram: &[u8], links: &mut Vec<Link>) -> io::Result<bool> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "not a list of devices");
    let mut rest = datagram;
    while !rest.is_empty() {
        let length =
            u32_at(rest, 0).and_then(|l| usize::try_from(l).ok()).filter(|l| *l >= HEADER).ok_or_else(odd)?;
        let message = rest.get(..length).ok_or_else(odd)?;
        match u16_at(message, 4) {
            Some(NLMSG_DONE) => return Ok(true),
            Some(NLMSG_ERROR) => return acknowledged(message).and_then(|()| Err(odd())),
            Some(RTM_NEWLINK) => links.push(link(message).ok_or_else(odd)?),
            _ => return Err(odd()),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn link(message: &[u8]) -> Option<Link> {
    // ifinfomsg: family, pad, type, index, flags, change.
    let ethernet = u16_at(message, HEADER + 2)? == ETHERNET;
    let index = u32_at(message, HEADER + 4)?;
    let (mut name, mut hardware) = (None, None);
    let mut rest = message.get(HEADER + INFO..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        match u16_at(rest, 2)? {
            IFLA_IFNAME => name = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()),
            IFLA_ADDRESS if ethernet => hardware = value.try_into().ok(),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Link { index, name: name?, hardware })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn device(ethernet: u16, index: u32, name: &[u8], address: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend(ethernet.to_ne_bytes());
        body.extend(index.to_ne_bytes());
        body.extend([0; 8]);
        for (kind, value) in [(IFLA_IFNAME, name), (IFLA_ADDRESS, address)] {
            body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        message(RTM_NEWLINK, &body)
    }

    #[test]
    fn devices_are_listed() {
        let mut datagram = device(772, 1, b"lo\0", &[0; 6]);
        datagram.extend(device(ETHERNET, 7, b"eth0\0", &[2, 0, 0, 0, 0, 1]));
        let mut links = Vec::new();
        assert!(!read(&datagram, &mut links).unwrap());
        assert!(read(&message(NLMSG_DONE, &[0; 4]), &mut links).unwrap());
        let link = |index, name: &str, hardware| Link { index, name: name.into(), hardware };
        assert_eq!(links, [link(1, "lo", None), link(7, "eth0", Some([2, 0, 0, 0, 0, 1]))]);
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        let mut links = Vec::new();
        let good = device(ETHERNET, 7, b"eth0\0", &[2, 0, 0, 0, 0, 1]);
        for cut in 1..good.len() {
            assert!(read(&good[..cut], &mut links).is_err(), "{cut}");
        }
        assert!(read(&message(NLMSG_ERROR, &(-1_i32).to_ne_bytes()), &mut links).is_err());
        assert!(read(&message(99, &[]), &mut links).is_err());
        assert!(links.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read(&bytes, &mut Vec::new());
            let _ = read(&message(RTM_NEWLINK, &bytes), &mut Vec::new());
        }
    }
}

//! How much one address may take: handshakes by a token bucket, connections by count.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most addresses remembered; beyond it idle ones are forgotten, and if there are none all share one bucket.
const MAX_PEERS: usize = 65_536;

/// Limits per address. A /64 of IPv6 counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Handshakes begun in a minute; as many may come at once.
    pub handshakes_per_minute: u32,
    /// Connections at a time.
    pub connections: u32,
}

impl Default for PeerLimits {
    fn default() -> Self {
        // A node of 100 pods that all start at once is served; a flood is not.
        PeerLimits { handshakes_per_minute: 600, connections: 256 }
    }
}

/// What is known of the addresses that speak to this Trustee now.
pub(crate) struct Peers {
    limits: Mutex<PeerLimits>,
    by_address: Mutex<HashMap<IpAddr, Peer>>,
}

#[derive(Default)]
struct Peer {
    connections: u32,
    /// Handshakes used up, in 1/60 of one, as of `seen_unix`; they come back with time.
    used: u64,
    seen_unix: u64,
}

/// A connection counted for its address until it is dropped.
pub(crate) struct Counted {
    peers: Arc<Peers>,
    address: IpAddr,
}

impl Peers {
    pub fn new(limits: PeerLimits) -> Self {
        Peers { limits: Mutex::new(limits), by_address: Mutex::default() }
    }

    pub fn set_limits(&self, limits: PeerLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Counts a connection; `None` if its address has too many.
    pub fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let limits = self.limits();
        let address = network(address);
        let mut peers = self.peers();
        let peer = peers.entry(address).or_default();
        if peer.connections >= limits.connections {
            return None;
        }
        peer.connections += 1;
        Some(Counted { peers: self.clone(), address })
    }

    /// Whether this address may begin a handshake now.
    pub fn handshake(&self, address: IpAddr, now_unix: u64) -> bool {
        let limits = self.limits();
        let mut peers = self.peers();
        make_room(&mut peers, now_unix);
        let key = if peers.len() >= MAX_PEERS { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { network(address) };
        let peer = peers.entry(key).or_default();
        let passed = now_unix.saturating_sub(peer.seen_unix);
        let rate = u64::from(limits.handshakes_per_minute);
        peer.used = peer.used.saturating_sub(passed.saturating_mul(rate));
        peer.seen_unix = now_unix;
        if peer.used.saturating_add(60) > rate.saturating_mul(60) {
            return false;
        }
        peer.used += 60;
        true
    }

    fn limits(&self) -> PeerLimits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, Peer>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut peers = self.peers.peers();
        let Some(peer) = peers.get_mut(&self.address) else { return };
        peer.connections = peer.connections.saturating_sub(1);
        // Who began no handshake leaves nothing to remember.
        if peer.connections == 0 && peer.used == 0 {
            peers.remove(&self.address);
        }
    }
}

/// Forgets addresses without a connection whose bucket has filled up again.
fn make_room(peers: &mut HashMap<IpAddr, Peer>, now_unix: u64) {
    if peers.len() >= MAX_PEERS {
        peers.retain(|_, p| p.connections > 0 || now_unix.saturating_sub(p.seen_unix) < 60);
    }
}

/// The address, or the network that one customer of an IPv6 provider has to himself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mut bits = v6.to_bits();
            bits &= !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn handshakes_come_back_with_time() {
        let peers = Peers::new(PeerLimits { handshakes_per_minute: 6, connections: 1 });
        let ask = |peer: &str, now| peers.handshake(address(peer), now);
        assert_eq!((0..10).filter(|_| ask("192.0.2.1", 1000)).count(), 6);
        assert!(ask("192.0.2.2", 1000), "another address");
        assert!(!ask("192.0.2.1", 1009));
        assert!(ask("192.0.2.1", 1010), "one in ten seconds");
        assert_eq!((0..10).filter(|_| ask("192.0.2.1", 5000)).count(), 6, "never more than a minute's worth");
        assert_eq!((0..10).filter(|i| ask(&format!("2001:db8::{i}"), 1000)).count(), 6, "one network");
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let peers = Arc::new(Peers::new(PeerLimits { handshakes_per_minute: 6, connections: 2 }));
        let first = peers.connect(address("192.0.2.1")).unwrap();
        let _second = peers.connect(address("::ffff:192.0.2.1")).unwrap();
        assert!(peers.connect(address("192.0.2.1")).is_none());
        drop(first);
        assert!(peers.connect(address("192.0.2.1")).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let peers = Peers::new(PeerLimits::default());
        for i in 0..u32::try_from(MAX_PEERS + 1000).unwrap() {
            peers.handshake(IpAddr::V4(std::net::Ipv4Addr::from_bits(i)), u64::from(i / 1000));
        }
        assert!(peers.peers().len() <= MAX_PEERS + 1);
    }
}

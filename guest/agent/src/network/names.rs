//! Which device is meant, and how it comes by its name.

use std::collections::BTreeSet;

use crate::Error;
use crate::netlink::Link;

/// The device that the host means: by hardware address, or by the name that it has already.
///
/// # Errors
/// [`Error::Refused`] where there is none, or several.
pub(super) fn find(links: &[Link], name: &str, hardware: Option<[u8; 6]>) -> Result<u32, Error> {
    let meant = |link: &&Link| match hardware {
        Some(hardware) => link.hardware == Some(hardware),
        // Loopback has no hardware address here.
        None => link.name == name && link.hardware.is_some(),
    };
    let mut found = links.iter().filter(meant);
    match (found.next(), found.next()) {
        (Some(link), None) => Ok(link.index),
        (None, _) => Err(Error::Refused(format!("there is no network device for {name}"))),
        _ => Err(Error::Refused(format!("several network devices could be {name}"))),
    }
}

/// The renamings after which each device has its name: first everything that is in the way goes to a name that nobody has,
/// then each takes its own. So names can be exchanged.
pub(super) fn renamings(links: &[Link], wanted: &[(u32, &str)]) -> Vec<(u32, String)> {
    let is_named = |index: u32, name: &str| links.iter().any(|l| l.index == index && l.name == name);
    let pending: Vec<_> = wanted.iter().filter(|(index, name)| !is_named(*index, name)).collect();
    let mut taken: BTreeSet<String> = links
        .iter()
        .map(|l| l.name.clone())
        .chain(wanted.iter().map(|(_, name)| (*name).to_owned()))
        .collect();
    let mut steps = Vec::new();
    for link in links.iter().filter(|l| pending.iter().any(|(_, name)| *name == l.name)) {
        let mut free = (0_u32..).map(|n| format!("moved{n}")).filter(|n| !taken.contains(n));
        let Some(free) = free.next() else { continue };
        taken.insert(free.clone());
        steps.push((link.index, free));
    }
    steps.extend(pending.into_iter().map(|(index, name)| (*index, (*name).to_owned())));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Vec<Link> {
        let link = |index, name: &str, last: Option<u8>| Link {
            index,
            name: name.into(),
            hardware: last.map(|l| [2, 0, 0, 0, 0, l]),
        };
        vec![
            link(1, "lo", None),
            link(2, "eth0", Some(1)),
            link(3, "eth1", Some(2)),
            link(4, "moved0", Some(3)),
        ]
    }

    fn after(wanted: &[(u32, &str)]) -> Vec<(u32, String)> {
        let mut named: Vec<(u32, String)> = links().into_iter().map(|l| (l.index, l.name)).collect();
        for (index, name) in renamings(&links(), wanted) {
            assert!(named.iter().all(|(_, n)| *n != name), "{name} is taken: {named:?}");
            named.iter_mut().find(|(i, _)| *i == index).unwrap().1 = name;
        }
        named
    }

    #[test]
    fn a_device_is_found_by_its_address_or_name() {
        assert_eq!(find(&links(), "eth0", Some([2, 0, 0, 0, 0, 2])).unwrap(), 3);
        assert_eq!(find(&links(), "eth0", None).unwrap(), 2);
        for (name, hardware) in
            [("lo", None), ("eth9", None), ("eth0", Some([2, 0, 0, 0, 0, 9])), ("x", Some([0; 6]))]
        {
            assert!(find(&links(), name, hardware).is_err(), "{name}");
        }
        let mut twins = links();
        twins[2].hardware = twins[1].hardware;
        assert!(find(&twins, "eth0", twins[1].hardware).is_err());
    }

    #[test]
    fn names_are_exchanged() {
        let named = after(&[(2, "eth1"), (3, "eth0")]);
        assert_eq!((named[1].1.as_str(), named[2].1.as_str()), ("eth1", "eth0"));
    }

    #[test]
    fn a_circle_of_three_and_one_in_the_way() {
        let named = after(&[(2, "eth1"), (3, "moved0"), (4, "eth0")]);
        assert_eq!(named[1..].iter().map(|n| n.1.as_str()).collect::<Vec<_>>(), ["eth1", "moved0", "eth0"]);
        // Device 2 is not asked about; it makes room.
        let named = after(&[(3, "eth0")]);
        assert_eq!((named[1].1.as_str(), named[2].1.as_str()), ("moved1", "eth0"));
    }

    #[test]
    fn who_has_its_name_keeps_it() {
        assert!(renamings(&links(), &[(2, "eth0"), (3, "eth1")]).is_empty());
        assert_eq!(renamings(&links(), &[(2, "eth0"), (3, "net1")]), [(3, "net1".to_owned())]);
    }
}

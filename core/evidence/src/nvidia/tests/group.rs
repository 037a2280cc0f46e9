//! The group of all devices of a machine, of own devices.

use super::devices::*;
use super::*;

const CHALLENGE: [u8; 32] = [0x42; 32];

/// Eight GPUs and four switches, all connected. `change` may alter them before they report.
fn machine(vendor: &Vendor, change: impl FnOnce(&mut Vec<OwnDevice>)) -> Evidence {
    let pdi = |n: u8| [n, 2, 3, 4, 5, 6, 7, 8];
    let switches: Vec<u8> = (1..=4)
        .flat_map(|n| {
            let mut pdi = pdi(n);
            pdi.reverse();
            pdi
        })
        .collect();
    let gpus: Vec<u8> = (11..=18).flat_map(pdi).chain([0; 64]).collect();
    let mut devices: Vec<OwnDevice> = (0..12)
        .map(|n| {
            let mut device = vendor.device(if n < 8 { Architecture::Hopper } else { Architecture::Ls10 });
            if n < 8 {
                device.set(22, &switches);
            } else {
                device.set(22, &pdi(n - 7));
                device.set(26, &gpus);
            }
            device
        })
        .collect();
    change(&mut devices);
    Evidence { devices: devices.iter().map(|device| device.evidence(&CHALLENGE)).collect() }
}

fn group(evidence: &Evidence, vendor: &Vendor) -> Option<Verdict> {
    let mut all = verify(evidence, &vendor.trust(), &Collateral::none(), &expecting(Some(&CHALLENGE)));
    let places: Vec<_> = all.iter().filter_map(|device| device.index).collect();
    assert_eq!(places, (0..evidence.devices.len()).collect::<Vec<_>>());
    all.pop().filter(|last| last.class == "ppcie").map(|last| last.verdict)
}

#[test]
fn twelve_connected_devices_are_a_group() {
    let vendor = Vendor::new();
    let mut evidence = machine(&vendor, |_| {});
    let verdict = group(&evidence, &vendor).unwrap();
    assert_eq!(failed(&verdict), []);
    assert_eq!(verdict.claims, json!({ "switch_count": 4, "gpu_count": 8 }));
    assert!(verdict.simulated);
    evidence.devices.pop();
    assert_eq!(group(&evidence, &vendor), None);
}

#[test]
fn others_are_not() {
    let vendor = Vendor::new();
    let other = machine(&vendor, |devices| devices[3].set(22, &[9; 32]));
    assert_eq!(names(&group(&other, &vendor).unwrap()), ["ppcie.topology"]);
    let none = machine(&vendor, |devices| devices[3].opaque.retain(|(kind, _)| *kind != 22));
    assert_eq!(names(&group(&none, &vendor).unwrap()), ["ppcie.topology"]);
    let same = machine(&vendor, |devices| devices[9].set(22, &[1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(names(&group(&same, &vendor).unwrap()), ["ppcie.topology"]);
    let fewer = machine(&vendor, |devices| devices[8].set(26, &[1; 128]));
    assert_eq!(names(&group(&fewer, &vendor).unwrap()), ["ppcie.topology"]);
    let forged = machine(&vendor, |devices| devices[0].key = Vendor::new().device(Architecture::Hopper).key);
    assert_eq!(names(&group(&forged, &vendor).unwrap()), ["ppcie.devices"]);
    let mut copied = machine(&vendor, |_| {});
    copied.devices[1] = copied.devices[0].clone();
    assert_eq!(names(&group(&copied, &vendor).unwrap()), ["ppcie.devices"]);
}

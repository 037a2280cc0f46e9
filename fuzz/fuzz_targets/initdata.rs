//! Initdata as text, as a pod annotation and as the guest's disk: comes from the host.
#![no_main]

use cocoon_protocol::initdata::InitData;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(initdata) = InitData::parse(text) {
            // The digest is over these bytes: they must come back as they went in.
            assert_eq!(initdata.text(), text);
            let disk = initdata.to_disk().expect("what was accepted can be written");
            assert_eq!(InitData::from_disk(&disk[..]).expect("and read").digest(), initdata.digest());
        }
        let _ = InitData::from_annotation(text);
    }
    let _ = InitData::from_disk(bytes);
});

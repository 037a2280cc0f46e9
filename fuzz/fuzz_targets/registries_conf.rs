//! registries.conf: comes with the plan, names come from pods.
#![no_main]

use cocoon_image::Reference;
use cocoon_image::registries::Registries;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (conf, name) = text.split_once('\0').unwrap_or((text, "a.io/b/c:1"));
    let Ok(registries) = Registries::parse(conf) else { return };
    let _ = registries.qualify(name);
    for name in [name, "busybox", "a.io/b/c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] {
        let Ok(reference) = Reference::parse(name) else { continue };
        let Ok(sources) = registries.sources(&reference) else { continue };
        assert!(!sources.is_empty());
        for source in sources {
            let printed = source.reference.to_string();
            assert_eq!(Reference::parse(&printed).expect("a source is a name"), source.reference);
            assert_eq!((source.reference.tag, source.reference.digest), (reference.tag.clone(), reference.digest));
        }
    }
});

//! Signature policies: written by owners, but read inside the guest from what a host passed on.
#![no_main]

use cocoon_image::{Digest, Reference};
use cocoon_signature::policy::{Policy, decide, needs};
use cocoon_signature::{Found, Subject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Policy::paths(bytes);
    let Ok(policy) = Policy::parse_with(bytes, &|path| Ok(path.as_bytes().to_vec())) else { return };
    let inlined =
        Policy::inlined(bytes, &|path| Ok(path.as_bytes().to_vec())).expect("what was read can be inlined");
    let again = Policy::parse(inlined.to_string().as_bytes()).expect("what was inlined can be read");
    let digests = [Digest::sha256(b"")];
    for name in ["busybox", "a.example.com:5000/n/x:1", "localhost/x"] {
        let reference = Reference::parse(name).expect("a good name");
        let requirements = policy.for_image(&reference);
        assert!(!requirements.is_empty());
        assert_eq!(needs(requirements), needs(again.for_image(&reference)));
        let subject = Subject { reference: &reference, digests: &digests };
        let nothing = decide(requirements, &subject, &Found::default(), 0);
        // Without any signature only a list of nothing but the explicit word accepts.
        let open = requirements.iter().all(|r| r.kind() == "insecureAcceptAnything");
        assert_eq!(nothing.is_ok(), open);
    }
});

//! `kbs:///` URIs: come in plans, image annotations and requests.
#![no_main]

use cocoon_protocol::uri::ResourceUri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(uri) = text.parse::<ResourceUri>() {
        let printed = uri.to_string();
        assert_eq!(printed.parse::<ResourceUri>().expect("a printed URI is one").to_string(), printed);
        assert!(!uri.path().contains(".."));
    }
});

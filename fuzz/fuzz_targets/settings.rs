//! Settings files, Cocoon's and upstream's: an owner may be handed one.
#![no_main]

use std::path::Path;

use cocoon_config::{Format, Inputs, detect, from_upstream, parse, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for problem in [parse(text).err(), from_upstream(text, Format::Toml).err()].into_iter().flatten() {
        assert!(!problem.is_empty(), "refused without a reason");
        let _ = problem.iter().map(ToString::to_string).collect::<String>();
    }
    if let Ok((settings, _)) = from_upstream(text, Format::Json) {
        let _ = settings.show();
    }
    if let Ok(settings) = parse(text) {
        let shown = settings.show();
        let _ = format!("{settings:?}");
        assert!(!shown.is_empty());
    }
    let _ = detect(text);
    for name in ["trustee.toml", "trustee.json"] {
        let _ = read(text, Path::new(name), &Inputs::default());
    }
});

//! Kubernetes manifests: whatever they say, a plan comes out that guests take, or a reason; the same twice.
#![no_main]

use cocoon_plan::compile::ImageDefaults;
use cocoon_workload::{Examined, ImageFacts, Inputs, RuntimeClass, examine, images, read, to_yaml, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut documents) = read(bytes) else { return };
    let mut inputs = Inputs { namespace: "default".into(), ..Inputs::default() };
    let _ = inputs.learn(&documents);
    let digest = format!("sha256:{}", "a".repeat(64));
    for image in documents.iter().flat_map(|d| images(d, &Inputs::default())) {
        let defaults = ImageDefaults { entrypoint: vec!["/entry".into()], ..ImageDefaults::default() };
        let facts = ImageFacts { digest: digest.clone(), defaults };
        // As it will be written.
        if !image.contains('@') {
            inputs.images.insert(format!("{image}@{digest}"), facts.clone());
        }
        inputs.images.insert(image, facts);
    }
    let class = RuntimeClass { name: "cocoon".into(), always: false };
    for document in &mut documents {
        let Examined::Workload(workload) = examine(document, &inputs) else { continue };
        let _ = workload.explain();
        let Ok(plan) = workload.plan() else { continue };
        let first = plan.to_canonical().expect("a plan that was given out can be written");
        assert_eq!(cocoon_plan::Plan::parse(&first).expect("and read"), *plan);
        write(document, &inputs, "x", &class);
        let Examined::Workload(again) = examine(document, &inputs) else { panic!("it was a workload") };
        assert_eq!(again.plan().expect("what was written is a workload").to_canonical().unwrap(), first);
        let yaml = to_yaml(std::slice::from_ref(&document.value)).expect("a manifest can be written");
        assert_eq!(read(yaml.as_bytes()).expect("and read")[0].value, document.value);
    }
});

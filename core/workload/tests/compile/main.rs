//! Ordinary manifests, what they come to, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod asked;
mod charts;
mod contents;
mod encrypted;
mod environment;
mod fields;
mod hostile;
mod refused;
mod written;

use cocoon_plan::compile::ImageDefaults;
use cocoon_workload::{Examined, ImageFacts, Inputs, Workload, examine, images, read};
use serde_json::Value;

/// A digest of this letter.
pub fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

/// Inputs that know every image of the documents: each has an entrypoint `/entry`, a command `serve`, a variable and a user.
pub fn inputs(text: &str) -> Inputs {
    let documents = read(text.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut inputs = Inputs { namespace: "shop".into(), ..Inputs::default() };
    inputs.learn(&documents).unwrap();
    for image in documents.iter().flat_map(|d| images(d, &Inputs::default())) {
        let defaults = ImageDefaults {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["serve".into()],
            env: vec!["PATH=/image/bin".into(), "FROM_IMAGE=yes".into()],
            working_dir: "/srv".into(),
            user: "1000:2000".into(),
            stop_signal: String::new(),
        };
        inputs.images.insert(image, ImageFacts { digest: digest('a'), defaults });
    }
    inputs
}

/// The first workload of a text.
pub fn workload(text: &str) -> Workload {
    with(text, &inputs(text))
}

/// The first workload of a text with these inputs.
pub fn with(text: &str, inputs: &Inputs) -> Workload {
    let documents = read(text.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let found = documents.iter().find_map(|d| match examine(d, inputs) {
        Examined::Workload(workload) => Some(*workload),
        _ => None,
    });
    found.expect("a workload")
}

/// Its plan as JSON.
pub fn plan(text: &str) -> Value {
    plan_of(&workload(text), text)
}

/// The plan of a workload as JSON.
pub fn plan_of(workload: &Workload, text: &str) -> Value {
    let plan = workload.plan().unwrap_or_else(|e| panic!("{e}\n{text}"));
    serde_json::from_slice(&plan.to_canonical().unwrap()).unwrap()
}

/// A pod with one container, `app`, of which these lines are further fields.
pub fn pod(container: &str, spec: &str) -> String {
    let indent = |text: &str, by: usize| -> String {
        text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels: {{tier: web}}\n  annotations: {{note: hello}}\nspec:\n\
         {}  containers:\n  - name: app\n    image: registry.example/app:1\n{}",
        indent(spec, 2),
        indent(container, 4)
    )
}

//! Generates the ttrpc clients and servers of `proto/`, in pure Rust.

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

const FILES: [&str; 3] = ["attestation_agent", "api", "keyprovider"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = std::env::var("OUT_DIR")?;
    Codegen::new()
        .out_dir(&out_dir)
        .inputs(FILES.map(|name| format!("proto/{name}.proto")))
        .include("proto")
        .rust_protobuf()
        .customize(Customize { async_all: true, ..Default::default() })
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false))
        .run()?;
    // `include!` takes no inner attributes or inner docs, which generated files begin with.
    for name in FILES.iter().flat_map(|name| [format!("{name}.rs"), format!("{name}_ttrpc.rs")]) {
        let path = std::path::Path::new(&out_dir).join(name);
        let text = std::fs::read_to_string(&path)?;
        let kept = text.lines().filter(|l| !l.starts_with("#![") && !l.starts_with("//!"));
        std::fs::write(&path, kept.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(())
}

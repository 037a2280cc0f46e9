//! Generates the ttrpc client and server of `proto/sandbox.proto`, in pure Rust.

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/sandbox.proto");
    let out_dir = std::env::var("OUT_DIR")?;
    Codegen::new()
        .out_dir(&out_dir)
        .inputs(["proto/sandbox.proto"])
        .include("proto")
        .rust_protobuf()
        .customize(Customize { async_all: true, ..Default::default() })
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false))
        .run()?;
    // `include!` takes no inner attributes or inner docs, which generated files begin with.
    for name in ["sandbox.rs", "sandbox_ttrpc.rs"] {
        let path = std::path::Path::new(&out_dir).join(name);
        let text = std::fs::read_to_string(&path)?;
        let kept = text.lines().filter(|l| !l.starts_with("#![") && !l.starts_with("//!"));
        std::fs::write(&path, kept.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(())
}

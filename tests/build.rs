//! Generates the messages of `proto/cri.proto`, in pure Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/cri.proto");
    let out_dir = std::env::var("OUT_DIR")?;
    protobuf_codegen::Codegen::new()
        .pure()
        .out_dir(&out_dir)
        .include("proto")
        .input("proto/cri.proto")
        .customize(protobuf_codegen::Customize::default().gen_mod_rs(false))
        .run()?;
    // `include!` takes no inner attributes or inner docs, which generated files begin with.
    let path = std::path::Path::new(&out_dir).join("cri.rs");
    let text = std::fs::read_to_string(&path)?;
    let kept = text.lines().filter(|l| !l.starts_with("#![") && !l.starts_with("//!"));
    std::fs::write(&path, kept.collect::<Vec<_>>().join("\n"))?;
    Ok(())
}

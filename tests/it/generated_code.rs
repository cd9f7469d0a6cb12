//! The Rust types of the wire are those of `proto/`: whoever changes a `.proto` is told to regenerate.
//!
//! `DIATRIBE_REGENERATE=1 cargo test generated` writes the files anew. Neither `protoc` nor a build
//! script is needed, and nobody who merely builds the package pays for code generation.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Asks for the files to be written instead of compared.
const REGENERATE: &str = "DIATRIBE_REGENERATE";

#[test]
fn generated_code_is_what_the_proto_files_say() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/wire/generated");
    let fresh = generate(&root.join("proto"))?;

    if std::env::var_os(REGENERATE).is_some() {
        fs::create_dir_all(&committed)?;
        for (name, code) in &fresh {
            fs::write(committed.join(name), code)?;
        }
    }
    for (name, code) in &fresh {
        let found = fs::read_to_string(committed.join(name)).unwrap_or_default();
        assert!(
            found == *code,
            "src/wire/generated/{name} is not what proto/ says: run the tests once with {REGENERATE}=1"
        );
    }
    for name in names_in(&committed, "rs")? {
        assert!(
            fresh.contains_key(&name),
            "src/wire/generated/{name} belongs to no file of proto/"
        );
    }
    Ok(())
}

/// The code of every `.proto` in `folder`, by the name of its file.
fn generate(folder: &Path) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let protos = names_in(folder, "proto")?;
    assert!(!protos.is_empty(), "no .proto in {}", folder.display());
    let descriptors = protox::compile(&protos, [folder])?;
    let out = tempfile::tempdir()?;
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(descriptors)?;
    let mut files = BTreeMap::new();
    for name in names_in(out.path(), "rs")? {
        let code = fs::read_to_string(out.path().join(&name))?;
        files.insert(name, code);
    }
    for proto in protos {
        let package = format!("diatribe.{}.v1.rs", proto.trim_end_matches(".proto"));
        assert!(
            files.contains_key(&package),
            "{proto} is not of the package {package}"
        );
    }
    Ok(files)
}

/// The names of the files in `folder` with this extension, sorted.
fn names_in(folder: &Path, extension: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

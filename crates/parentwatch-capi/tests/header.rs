//! The committed header is the one that cbindgen generates from the source.
//!
//! `LOCALAI_PARENTWATCH_WRITE_HEADER=1` (`make header`) rewrites it instead of comparing.

use std::path::Path;

#[test]
fn the_committed_header_is_current() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = crate_folder.join("../../include/localai_parentwatch.h");
    let config = cbindgen::Config::from_file(crate_folder.join("cbindgen.toml")).unwrap();
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_src(crate_folder.join("src/lib.rs"))
        .with_config(config)
        .generate()
        .unwrap()
        .write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    if std::env::var_os("LOCALAI_PARENTWATCH_WRITE_HEADER").is_some() {
        std::fs::write(&committed, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(committed == generated, "include/localai_parentwatch.h is stale: run `make header`");
}

//! The names that the dynamic linker knows the shared library by.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system == "macos" {
        // Else programs depend on the path that it was built at.
        println!(
            "cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/liblocalai_parentwatch.0.dylib"
        );
    }
    if system == "linux" {
        // Programs depend on this name, and not on that of a file. The number is the ABI version's
        // major: 0 until the first stable release.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblocalai_parentwatch.so.0");
        // The watcher's thread runs this code for the life of the process: never unload it.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

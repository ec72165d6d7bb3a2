//! Sets the name of the shared library for the dynamic linker.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system == "macos" {
        // Without it, programs would record the path of the build.
        println!(
            "cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/liblocalai_parentwatch.0.dylib"
        );
    }
    if system == "linux" {
        // Programs record this name, not that of a file. The number is the major ABI version: 0 until the first stable
        // release.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblocalai_parentwatch.so.0");
        // Never unload the library: the watcher's thread runs its code for the life of the process.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

"""A Rust server with tokio, as kokoros is."""

from pathlib import Path

import pytest

from conftest import ROOT, environment, run, script

MANIFEST = """[package]
name = "server"
version = "0.1.0"
edition = "2021"

[dependencies]
tokio = {{ version = "1", features = ["macros", "net", "rt-multi-thread"] }}
{dependency}
[[bin]]
name = "grace"
path = "src/grace.rs"

[[bin]]
name = "server"
path = "src/main.rs"

[patch.crates-io]
parentwatch = {{ path = "{crate}" }}

[workspace]
"""
# What was main before.
SERVE = """
#[tokio::main]
async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{:?} {}", parentwatch::status().state, listener.local_addr()?.port() > 0);
    Ok(())
}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory, snippet) -> Path:
    folder = tmp_path_factory.mktemp("rust")
    crate = ROOT / "crates/parentwatch"
    (folder / "Cargo.toml").write_text(
        MANIFEST.format(dependency=snippet("rust-dependency"), crate=crate)
    )
    (folder / "Cargo.lock").write_bytes((ROOT / "Cargo.lock").read_bytes())
    (folder / "src").mkdir()
    (folder / "src/main.rs").write_text(snippet("rust-main") + SERVE)
    grace = (
        'fn save_cache() {}\n\nfn main() {\nif std::env::args().nth(1).as_deref() == Some("hook") {\n'
    )
    grace += snippet("rust-hook") + "} else {\n" + snippet("rust-grace") + "}\n"
    grace += 'println!("{:?}", parentwatch::status().grace);\n'
    grace += snippet("rust-name") + "worker.unwrap().wait().unwrap();\n}\n"
    (folder / "src/grace.rs").write_text(grace)
    # What is built there stays, and is current when the lock file and the crate have not changed.
    target = ROOT / "target/guides/rust"
    run("cargo", "build", "--quiet", "--offline", cwd=folder, env=environment(CARGO_TARGET_DIR=target))
    return target / "debug"


def test_server(programs):
    assert run(programs / "server", env=environment()).stdout == "Ok(Armed) true\n"


@pytest.mark.parametrize(("how", "grace"), [("grace", "Some(10s)"), ("hook", "Some(5s)")])
def test_grace_and_hook(programs, tmp_path, how, grace):
    script(tmp_path / "worker", "#!/bin/sh\necho ${LOCALAI_BACKEND_PARENT_PID%%@*} $PPID\n")
    told, names = run(programs / "grace", how, cwd=tmp_path, env=environment()).stdout.splitlines()
    named, parent = names.split()
    assert (told, named) == (grace, parent)

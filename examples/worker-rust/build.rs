//! Makes the gRPC code of `../proto/backend.proto`; needs `protoc`.

use std::io;

fn main() -> io::Result<()> {
    tonic_prost_build::configure()
        .build_client(false)
        .compile_protos(&["../proto/backend.proto"], &["../proto"])
}

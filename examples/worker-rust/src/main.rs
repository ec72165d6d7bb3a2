//! A LocalAI backend in Rust, as small as it can be and still be loaded: a gRPC server that dies
//! with the process that started it.
//!
//! The part that is about this project is the first line of `main`.

mod args;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::args::{Address, Parsed};
use crate::proto::backend_server::{Backend, BackendServer};
use crate::proto::status_response::State;
use crate::proto::{
    HealthMessage, ModelOptions, PredictOptions, Reply, Result as LoadResult, StatusResponse,
};

/// What the build script makes of `backend.proto`.
#[allow(missing_docs, clippy::all)]
mod proto {
    tonic::include_proto!("backend");
}

/// Answers the calls that LocalAI makes: no model in it, but a real server around the hole.
struct Echo {
    /// A [`State`].
    state: AtomicI32,
}

#[tonic::async_trait]
impl Backend for Echo {
    async fn health(&self, _: Request<HealthMessage>) -> Result<Response<Reply>, Status> {
        Ok(Response::new(Reply { message: b"OK".to_vec() }))
    }

    async fn load_model(
        &self,
        request: Request<ModelOptions>,
    ) -> Result<Response<LoadResult>, Status> {
        self.state.store(State::Ready.into(), Ordering::Relaxed);
        let message = format!("loaded {}", request.into_inner().model);
        Ok(Response::new(LoadResult { message, success: true }))
    }

    /// An echo: a model that always agrees.
    async fn predict(&self, request: Request<PredictOptions>) -> Result<Response<Reply>, Status> {
        Ok(Response::new(Reply { message: request.into_inner().prompt.into_bytes() }))
    }

    async fn status(&self, _: Request<HealthMessage>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse { state: self.state.load(Ordering::Relaxed) }))
    }
}

fn main() -> ExitCode {
    // From here on this process does not outlive its supervisor. An error is no reason not to
    // serve, the watcher is a backstop; the library has said what is wrong in a line of its own.
    let _ = parentwatch::start();

    let address = match args::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Serve(address)) => address,
        Ok(Parsed::Help) => {
            return match io::stdout().write_all(args::USAGE.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Err(mistake) => {
            say(&format!("{mistake} (see --help)"));
            return ExitCode::from(2);
        }
    };
    match serve(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// Serves on `address` until the process ends.
#[tokio::main]
async fn serve(address: &Address) -> Result<(), String> {
    let listener = TcpListener::bind((address.host(), address.port()))
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    say(&format!("listening on {address}"));
    let backend = Echo { state: AtomicI32::new(State::Uninitialized.into()) };
    tonic::transport::Server::builder()
        .add_service(BackendServer::new(backend))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .map_err(|error| format!("cannot serve on {address}: {error}"))
}

/// Writes a line to stderr, best effort.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "worker-rust: {line}");
}

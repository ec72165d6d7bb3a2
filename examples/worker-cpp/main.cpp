// A LocalAI backend in C++, as small as it can be and still be loaded: a gRPC server that dies
// with the process that started it.
//
// The part that is about this project is one include and the first line of main.

#include <grpcpp/grpcpp.h>
#include <localai_parentwatch.h>

#include <atomic>
#include <charconv>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backend.grpc.pb.h"

namespace {

// Answers the calls that LocalAI makes: no model in it, but a real server around the hole.
class Backend final : public backend::Backend::Service {
 public:
  grpc::Status Health(grpc::ServerContext*, const backend::HealthMessage*,
                      backend::Reply* reply) override {
    reply->set_message("OK");
    return grpc::Status::OK;
  }

  grpc::Status LoadModel(grpc::ServerContext*, const backend::ModelOptions* options,
                         backend::Result* result) override {
    state_ = backend::StatusResponse::READY;
    result->set_success(true);
    result->set_message("loaded " + options->model());
    return grpc::Status::OK;
  }

  // An echo: a model that always agrees.
  grpc::Status Predict(grpc::ServerContext*, const backend::PredictOptions* options,
                       backend::Reply* reply) override {
    reply->set_message(options->prompt());
    return grpc::Status::OK;
  }

  grpc::Status Status(grpc::ServerContext*, const backend::HealthMessage*,
                      backend::StatusResponse* response) override {
    response->set_state(state_);
    return grpc::Status::OK;
  }

 private:
  std::atomic<backend::StatusResponse::State> state_{backend::StatusResponse::UNINITIALIZED};
};

constexpr std::string_view kUsage =
    "Usage: worker-cpp [--addr HOST:PORT]\n"
    "\n"
    "A LocalAI backend that echoes prompts, and ends when the process that started it ends.\n"
    "\n"
    "  --addr HOST:PORT  where to listen (default: localhost:50051)\n"
    "  --help            print this and exit\n";

// Whether `text` is HOST:PORT with a port from 1 to 65535; an IPv6 HOST stands in brackets.
bool IsHostPort(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  const auto host = text.substr(0, colon);
  const auto digits = text.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (host.empty() || (!bracketed && host.find_first_of("[]:") != std::string_view::npos)) {
    return false;
  }
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size() && port != 0;
}

// Says what is wrong with the command line, in one line; the result is main's.
int UsageError(const std::string& what) {
  std::cerr << "worker-cpp: " << what << " (see --help)\n";
  return 2;
}

// Serves on `address` until the process ends.
int Serve(const std::string& address) {
  Backend backend;
  grpc::ServerBuilder builder;
  // Without this, gRPC shares the port with whoever already listens there (SO_REUSEPORT), and a
  // second worker on the same address would silently take half of its calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&backend);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server || port == 0) {
    std::cerr << "worker-cpp: cannot listen on " << address << '\n';
    return 1;
  }
  std::cerr << "worker-cpp: listening on " << address << '\n';
  server->Wait();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  start_parent_death_watcher();  // From here on this process does not outlive its supervisor.

  std::optional<std::string> address;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    constexpr std::string_view kFlag = "--addr";
    std::string value;
    if (argument == "--help" || argument == "-h") {
      std::cout << kUsage << std::flush;
      return std::cout ? 0 : 1;
    } else if (argument == kFlag) {
      if (++i == argc) return UsageError("--addr needs a value: HOST:PORT");
      value = argv[i];
    } else if (argument.substr(0, kFlag.size() + 1) == "--addr=") {
      value = argument.substr(kFlag.size() + 1);
    } else {
      return UsageError("unknown argument \"" + std::string(argument) + "\"");
    }
    if (address) return UsageError("--addr is given twice");
    if (!IsHostPort(value)) {
      return UsageError("--addr is \"" + value +
                        "\", expected HOST:PORT with a port from 1 to 65535");
    }
    address = value;
  }
  return Serve(address.value_or("localhost:50051"));
}

// A LocalAI backend in C++ that has what the real ones have, save the model: a load that blocks for
// as long as it is told to, completion-queue threads, and a graceful stop on SIGTERM and SIGINT. It
// dies with the process that started it.
//
// The part that is about this project is one include and the first line of main. Nothing else knows
// of it, and the graceful stop is what it would be without it.

#include <grpcpp/grpcpp.h>
#include <localai_parentwatch.h>
#include <signal.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "backend.grpc.pb.h"

namespace {

// How many calls of Predict are answered at once.
constexpr int kPredictThreads = 4;
// How long calls that are under way at a stop have to end by themselves.
constexpr std::chrono::seconds kStopTimeout{30};

// Answers the calls that LocalAI makes: no model in it, but a real server around the hole. gRPC's
// own threads run these functions; Predict is answered by PredictThread.
class Backend final : public backend::Backend::WithAsyncMethod_Predict<backend::Backend::Service> {
 public:
  explicit Backend(std::chrono::seconds load_time) : load_time_(load_time) {}

  grpc::Status Health(grpc::ServerContext*, const backend::HealthMessage*,
                      backend::Reply* reply) override {
    reply->set_message("OK");
    return grpc::Status::OK;
  }

  grpc::Status LoadModel(grpc::ServerContext*, const backend::ModelOptions* options,
                         backend::Result* result) override {
    state_ = backend::StatusResponse::BUSY;
    std::cerr << "worker-cpp: loading " + options->model() + "\n";
    // A real load reads files and fills memory, and asks nobody whether it should go on: a graceful
    // stop has to wait for it. The death of the supervisor has not.
    std::this_thread::sleep_for(load_time_);
    state_ = backend::StatusResponse::READY;
    result->set_success(true);
    result->set_message("loaded " + options->model());
    return grpc::Status::OK;
  }

  grpc::Status Status(grpc::ServerContext*, const backend::HealthMessage*,
                      backend::StatusResponse* response) override {
    response->set_state(state_);
    return grpc::Status::OK;
  }

 private:
  const std::chrono::seconds load_time_;
  std::atomic<backend::StatusResponse::State> state_{backend::StatusResponse::UNINITIALIZED};
};

// Answers Predict in a thread of its own, one call after the other, until the server shuts down.
class PredictThread {
 public:
  // `queue` is one of a running server's, for this thread alone; it outlives this.
  PredictThread(Backend& backend, grpc::ServerCompletionQueue& queue)
      : backend_(backend), queue_(queue), thread_([this] { Run(); }) {}

  // To be called once the server has shut down, which ends the thread: gRPC wants the queue to be
  // shut down after the server, and not while somebody is about to use it.
  ~PredictThread() {
    thread_.join();
    queue_.Shutdown();
    while (Next()) {
    }
  }

  PredictThread(const PredictThread&) = delete;
  PredictThread& operator=(const PredictThread&) = delete;

 private:
  void Run() {
    while (AnswerOne()) {
    }
  }

  // Waits for a call and answers it; false when the server shuts down and there will be none.
  bool AnswerOne() {
    grpc::ServerContext context;
    backend::PredictOptions options;
    grpc::ServerAsyncResponseWriter<backend::Reply> writer(&context);
    backend_.RequestPredict(&context, &options, &writer, &queue_, &queue_, this);
    if (!Next()) return false;

    backend::Reply reply;
    reply.set_message(options.prompt());  // An echo: a model that always agrees.
    writer.Finish(reply, grpc::Status::OK, this);
    Next();  // Whether or not the client still wanted it.
    return true;
  }

  // Waits for the one thing that is under way in the queue; false when nothing came of it.
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  Backend& backend_;
  grpc::ServerCompletionQueue& queue_;
  std::thread thread_;
};

// The signals that ask for a graceful stop. They are waited for, not handled: what a handler may
// do is very little, and shutting a server down is not among it.
class StopSignals {
 public:
  // Keeps the signals from ending the process, in this thread and those that it makes from now on.
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }

  // Returns when one has come.
  void Wait() const {
    int number = 0;
    while (sigwait(&set_, &number) != 0) {
    }
  }

 private:
  sigset_t set_;
};

// What the command line asks for.
struct Options {
  std::optional<std::string> address;
  std::optional<std::chrono::seconds> load_time;
};

constexpr std::string_view kUsage =
    "Usage: worker-cpp [--addr HOST:PORT] [--load-seconds N]\n"
    "\n"
    "A LocalAI backend that echoes prompts, and ends when the process that started it ends.\n"
    "\n"
    "  --addr HOST:PORT   where to listen (default: localhost:50051)\n"
    "  --load-seconds N   how long LoadModel blocks (default: 0)\n"
    "  --help             print this and exit\n";

// The whole of `text` as a number that fits.
template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Whether `text` is HOST:PORT with a port from 1 to 65535; an IPv6 HOST stands in brackets.
bool IsHostPort(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  const auto host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (host.empty() || (!bracketed && host.find_first_of("[]:") != std::string_view::npos)) {
    return false;
  }
  return ParseNumber<std::uint16_t>(text.substr(colon + 1)).value_or(0) != 0;
}

// Puts the value of a flag into `options`; the result says what is wrong with it, if anything.
std::optional<std::string> SetOption(Options& options, std::string_view flag, std::string value) {
  if (flag == "--addr") {
    if (options.address) return "--addr is given twice";
    if (!IsHostPort(value)) {
      return "--addr is \"" + value + "\", expected HOST:PORT with a port from 1 to 65535";
    }
    options.address = std::move(value);
  } else {
    if (options.load_time) return "--load-seconds is given twice";
    const auto seconds = ParseNumber<std::uint16_t>(value);
    if (!seconds) return "--load-seconds is \"" + value + "\", expected a number from 0 to 65535";
    options.load_time = std::chrono::seconds(*seconds);
  }
  return std::nullopt;
}

// Says what is wrong with the command line, in one line; the result is main's.
int UsageError(const std::string& what) {
  std::cerr << "worker-cpp: " << what << " (see --help)\n";
  return 2;
}

// Serves until one of the signals comes; the result is main's.
int Serve(const Options& options, const StopSignals& stop_signals) {
  const std::string address = options.address.value_or("localhost:50051");
  Backend backend(options.load_time.value_or(std::chrono::seconds(0)));
  grpc::ServerBuilder builder;
  // Without this, gRPC shares the port with whoever already listens there (SO_REUSEPORT), and a
  // second worker on the same address would silently take half of its calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&backend);
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  for (int i = 0; i < kPredictThreads; ++i) queues.push_back(builder.AddCompletionQueue());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server || port == 0) {
    std::cerr << "worker-cpp: cannot listen on " << address << '\n';
    return 1;
  }
  std::vector<std::unique_ptr<PredictThread>> threads;
  for (const auto& queue : queues) {
    threads.push_back(std::make_unique<PredictThread>(backend, *queue));
  }
  std::cerr << "worker-cpp: listening on " << address << '\n';

  stop_signals.Wait();
  std::cerr << "worker-cpp: stopping\n";
  server->Shutdown(std::chrono::system_clock::now() + kStopTimeout);
  threads.clear();
  std::cerr << "worker-cpp: stopped\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  start_parent_death_watcher();  // From here on this process does not outlive its supervisor.

  const StopSignals stop_signals;  // Before gRPC makes threads of its own.
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::cout << kUsage << std::flush;
      return std::cout ? 0 : 1;
    }
    const auto equals = argument.find('=');
    const std::string_view flag = argument.substr(0, equals);
    if (flag != "--addr" && flag != "--load-seconds") {
      return UsageError("unknown argument \"" + std::string(argument) + "\"");
    }
    std::string value;
    if (equals != std::string_view::npos) {
      value = argument.substr(equals + 1);
    } else if (++i < argc) {
      value = argv[i];
    } else {
      return UsageError(std::string(flag) + " needs a value");
    }
    if (const auto wrong = SetOption(options, flag, std::move(value))) return UsageError(*wrong);
  }
  return Serve(options, stop_signals);
}

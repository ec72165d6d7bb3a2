// The worker in C++. For its command line and requests see e2e/workers/c/worker.c. It arms by LocalAI's own function,
// from parent_watch.h.
#include "parent_watch.h"

#include <csignal>
#include <future>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "requests.h"

namespace {

// The function in parent_watch.h returns no status, so this reads the status afterwards. It takes no options either.
// With options, this calls the C function, as a C++ server would.
const char *arm() {
    if (options.on_death != nullptr || options.grace_ns != 0) {
        return localai_parentwatch_status_text(localai_parentwatch_start(&options));
    }
    llama_grpc::start_parent_death_watcher();
    localai_parentwatch_info_t info{};
    info.size = sizeof info;
    return localai_parentwatch_status_text(localai_parentwatch_status(&info));
}

std::string arm_from_threads() {
    std::promise<void> all_are_there;
    const std::shared_future<void> start = all_are_there.get_future().share();
    std::vector<std::string> statuses(THREADS);
    std::vector<std::thread> threads;
    for (auto &status : statuses) {
        threads.emplace_back([&status, start] {
            start.wait();
            status = arm();
        });
    }
    all_are_there.set_value();
    for (auto &thread : threads) {
        thread.join();
    }
    std::string list;
    for (const auto &status : statuses) {
        list += (list.empty() ? "\"" : ",\"") + status + '"';
    }
    return list;
}

void flood() {
    for (int i = 0; i < 4; i++) {
        std::thread([] {
            for (;;) {
                std::cerr << "the host logs without end, line after line after line after line after line\n";
            }
        }).detach();
    }
}

void hang_in_handler(int) { hang(); }

// exit() runs the destructors of static objects.
struct Resisting {
    ~Resisting() { hang(); }
};

void resist() {
    std::signal(SIGTERM, hang_in_handler);
    static Resisting resisting;
}

void answer(int connection, int count, char **words) {
    const std::string request = words[0];
    if (request == "arm-from-threads") {
        reply(connection, "{\"statuses\":[%s]}", arm_from_threads().c_str());
    } else if (request == "arm-in-thread") {
        std::thread([] { llama_grpc::start_parent_death_watcher(); }).detach();
        reply(connection, "{}");
    } else if (request == "flood") {
        flood();
        reply(connection, "{}");
    } else if (request == "resist") {
        resist();
        reply(connection, "{}");
    } else {
        answer_shared(connection, count, words);
    }
}

}  // namespace

int main(int argc, char **argv) {
    read_command_line(argc, argv);
    if (library_path != nullptr) {
        std::cerr << "worker-cpp: --library is for the worker in C\n";
        return 2;
    }
    run_worker(arm, answer);
}

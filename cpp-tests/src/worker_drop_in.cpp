// A worker for tree_test that knows only LocalAI's parent_watch.h.
#include <cerrno>
#include <iostream>
#include <string>

#include "parent_watch.h"

int main(int argc, char **argv) {
    const std::string scenario = argc > 1 ? argv[1] : "F01_drop_in";
    if (scenario == "F01_drop_in") {
        llama_grpc::start_parent_death_watcher();
    } else if (scenario == "F01_drop_in_watch") {
        std::thread([parent = getppid()] {
            llama_grpc::watch_parent_death(parent, llama_grpc::parent_watch_interval_ms(), [parent] {
                std::cout << (llama_grpc::parent_died(parent) ? "hook" : "alive?") << std::endl;
                _exit(7);
            });
        }).detach();
    } else {
        std::cerr << "unknown scenario: " << scenario << '\n';
        return 2;
    }
    std::cout << "ready" << std::endl;
    char byte = 0;
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    return 3;
}

// A poller, as small as it can be: what a server has without the library.
#pragma once
#define PLACE_POLLER

#include <chrono>
#include <thread>

#include <unistd.h>

namespace llama_grpc {

inline bool parent_died(pid_t parent) { return getppid() != parent; }

inline void start_parent_death_watcher() {
    const pid_t parent = getppid();
    std::thread([parent] {
        while (!parent_died(parent)) {
            std::this_thread::sleep_for(std::chrono::seconds(2));
        }
        _exit(1);
    }).detach();
}

}  // namespace llama_grpc

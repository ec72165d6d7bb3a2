// Many C++ threads call the library at once. It also runs under the thread sanitizer.
#include <gtest/gtest.h>
#include <localai_parentwatch.h>
#include <parent_watch.h>

#include <atomic>
#include <thread>
#include <vector>

namespace {

int32_t state() {
    localai_parentwatch_info_t info{};
    info.size = sizeof info;
    return localai_parentwatch_status(&info);
}

TEST(Threads, StartAskAndReadAtOnce) {
    std::atomic<bool> go{false};
    std::atomic<int> armed{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; i++) {
        threads.emplace_back([&go, &armed, i] {
            while (!go) std::this_thread::yield();
            // On a machine that stalls, a call may give up waiting for the first one. Call again.
            if (i % 2 == 0) {
                do llama_grpc::start_parent_death_watcher();
                while (state() == LOCALAI_PARENTWATCH_NOT_STARTED);
            } else {
                int32_t outcome;
                do outcome = ::start_parent_death_watcher();
                while (outcome == LOCALAI_PARENTWATCH_NOT_STARTED);
                if (outcome != LOCALAI_PARENTWATCH_ARMED) return;
            }
            for (int turn = 0; turn < 1000; turn++) {
                localai_parentwatch_info_t info{};
                info.size = sizeof info;
                char token[64];
                if (localai_parentwatch_status(&info) != LOCALAI_PARENTWATCH_ARMED ||
                    info.watched_pids[0] != getppid() || localai_parentwatch_token(token, sizeof token) <= 0 ||
                    localai_parentwatch_parent_died(getppid()) != 0 || !llama_grpc::parent_watch_enabled() ||
                    llama_grpc::parent_watch_interval_ms() != 2000) {
                    return;
                }
            }
            armed++;
        });
    }
    go = true;
    for (auto &thread : threads) thread.join();
    EXPECT_EQ(armed, 16);
}

}  // namespace

// Uses every name of LocalAI's parent_watch.h, with its type, as LocalAI's sources do. drop_in_other.cpp is a second
// translation unit of the same program.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <type_traits>

#include "parent_watch.h"

long from_the_other_translation_unit();
const void *address_in_the_other_translation_unit();

namespace {

static_assert(std::is_same_v<decltype(&llama_grpc::kEnvParentWatch), const char *(*)()>);
static_assert(std::is_same_v<decltype(&llama_grpc::kEnvParentWatchInterval), const char *(*)()>);
static_assert(std::is_same_v<decltype(&llama_grpc::parent_watch_default_interval_ms), long (*)()>);
static_assert(std::is_same_v<decltype(&llama_grpc::parent_watch_enabled), bool (*)()>);
static_assert(std::is_same_v<decltype(&llama_grpc::parent_watch_interval_ms), long (*)()>);
static_assert(std::is_same_v<decltype(&llama_grpc::parent_died), bool (*)(pid_t)>);
static_assert(std::is_same_v<decltype(&llama_grpc::watch_parent_death),
                             void (*)(pid_t, long, const std::function<void()> &)>);
static_assert(std::is_same_v<decltype(&llama_grpc::start_parent_death_watcher), void (*)()>);

TEST(DropIn, NamesTheVariables) {
    EXPECT_STREQ(llama_grpc::kEnvParentWatch(), "LOCALAI_BACKEND_PARENT_WATCH");
    EXPECT_STREQ(llama_grpc::kEnvParentWatchInterval(), "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL");
}

TEST(DropIn, ReadsTheEnvironmentAtEveryCall) {
    using namespace llama_grpc;
    unsetenv(kEnvParentWatch());
    unsetenv(kEnvParentWatchInterval());
    EXPECT_TRUE(parent_watch_enabled());
    EXPECT_EQ(parent_watch_interval_ms(), parent_watch_default_interval_ms());
    setenv(kEnvParentWatch(), "off", 1);
    setenv(kEnvParentWatchInterval(), "1m30s", 1);
    EXPECT_FALSE(parent_watch_enabled());
    EXPECT_EQ(parent_watch_interval_ms(), 90000);
    unsetenv(kEnvParentWatch());
    unsetenv(kEnvParentWatchInterval());
}

TEST(DropIn, IsOneInSeveralTranslationUnits) {
    EXPECT_EQ(from_the_other_translation_unit(), llama_grpc::parent_watch_default_interval_ms());
    EXPECT_EQ(address_in_the_other_translation_unit(),
              reinterpret_cast<const void *>(&llama_grpc::start_parent_death_watcher));
}

TEST(DropIn, TellsAParentFromAStranger) {
    EXPECT_EQ(llama_grpc::parent_died(getppid()), getppid() == 1);
    EXPECT_TRUE(llama_grpc::parent_died(getpid()));
}

TEST(DropIn, WatchesNobodyWhereThereIsNobody) {
    for (const pid_t nobody : {1, 0, -1}) {
        llama_grpc::watch_parent_death(nobody, 10, [] { FAIL() << "nobody has died"; });
    }
}

// A process that is not the parent counts as gone. Absurd intervals are clamped by the library, and overflow nothing.
TEST(DropIn, CallsBackOnceWhenThePidIsNotTheParent) {
    for (const long interval : {10L, 0L, -1L, std::numeric_limits<long>::min(), std::numeric_limits<long>::max()}) {
        int calls = 0;
        llama_grpc::watch_parent_death(getpid(), interval, [&calls] { calls++; });
        EXPECT_EQ(calls, 1) << interval;
    }
}

TEST(DropIn, LetsExceptionsOfTheCallbackThrough) {
    EXPECT_THROW(llama_grpc::watch_parent_death(getpid(), 10, [] { throw std::runtime_error("on purpose"); }),
                 std::runtime_error);
}

// Like LocalAI's own test: a grandchild watches the process in between, which ends.
TEST(DropIn, SeesTheParentGo) {
    int ready[2], seen[2];
    ASSERT_EQ(pipe(ready), 0);
    ASSERT_EQ(pipe(seen), 0);
    const pid_t middle = fork();
    ASSERT_GE(middle, 0);
    if (middle == 0) {
        const pid_t self = getpid();
        const pid_t grandchild = fork();
        if (grandchild == 0) {
            std::thread watcher([self, &seen] {
                llama_grpc::watch_parent_death(self, 50, [self, &seen] {
                    const char answer = llama_grpc::parent_died(self) ? 'd' : '?';
                    _exit(write(seen[1], &answer, 1) == 1 ? 0 : 1);
                });
            });
            if (write(ready[1], "r", 1) != 1) _exit(1);
            watcher.join();
            _exit(2);
        }
        char byte = 0;
        _exit(grandchild > 0 && read(ready[0], &byte, 1) == 1 ? 0 : 1);
    }
    close(seen[1]);
    int status = -1;
    EXPECT_EQ(waitpid(middle, &status, 0), middle);
    EXPECT_EQ(status, 0);
    char answer = 0;
    EXPECT_EQ(read(seen[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'd');
}

// The last test, because it cannot be undone.
TEST(DropInLast, StartsTheWatcher) {
    llama_grpc::start_parent_death_watcher();
    llama_grpc::start_parent_death_watcher();
    localai_parentwatch_info_t info{};
    info.size = sizeof info;
    EXPECT_EQ(localai_parentwatch_status(&info), LOCALAI_PARENTWATCH_ARMED);
    EXPECT_EQ(info.watched_pids[0], getppid());
}

}  // namespace

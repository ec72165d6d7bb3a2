// The contract's table, VECTORS, through the C ABI and through the drop-in. Each row has its own process.
#include <gtest/gtest.h>
#include <localai_parentwatch.h>
#include <parent_watch.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace {

using nlohmann::json;

const char *const kVariables[] = {"LOCALAI_BACKEND_PARENT_WATCH", "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL",
                                  "LOCALAI_BACKEND_PARENT_WATCH_SCOPE", "LOCALAI_BACKEND_PARENT_WATCH_GRACE",
                                  "LOCALAI_BACKEND_PARENT_PID"};

// What a face of the library returns before it arms.
struct Read {
    bool enabled;
    std::uint64_t interval_ns;
};

struct CAbi {
    static constexpr std::uint64_t kUnit = 1;
    static Read read() { return {localai_parentwatch_enabled() == 1, localai_parentwatch_interval_ns()}; }
    static void start() { ::start_parent_death_watcher(); }
};

struct DropIn {
    // It has only milliseconds.
    static constexpr std::uint64_t kUnit = 1000000;
    static Read read() {
        return {llama_grpc::parent_watch_enabled(),
                static_cast<std::uint64_t>(llama_grpc::parent_watch_interval_ms()) * kUnit};
    }
    static void start() { llama_grpc::start_parent_death_watcher(); }
};

// What the process of a row reports.
struct Seen {
    Read read;
    localai_parentwatch_info_t before, after;
};

localai_parentwatch_info_t info() {
    localai_parentwatch_info_t now{};
    now.size = sizeof now;
    localai_parentwatch_status(&now);
    return now;
}

std::string unhex(const std::string &digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
        bytes.push_back(static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

void set_environment(const json &row) {
    for (const auto *variable : kVariables) unsetenv(variable);
    const json text = row.value("env", json::object());
    const json bytes = row.value("env_hex", json::object());
    for (const auto &[name, value] : text.items()) setenv(name.c_str(), value.get<std::string>().c_str(), 1);
    for (const auto &[name, value] : bytes.items()) setenv(name.c_str(), unhex(value.get<std::string>()).c_str(), 1);
}

std::string everything_from(int descriptor) {
    std::string text;
    char buffer[4096];
    ssize_t got = 0;
    while ((got = read(descriptor, buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<std::size_t>(got));
    close(descriptor);
    return text;
}

std::size_t count(const std::string &text, const std::string &part) {
    std::size_t times = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) times++;
    return times;
}

template <class Face>
void check(const json &row) {
    int answer[2], errors[2];
    ASSERT_EQ(pipe(answer), 0);
    ASSERT_EQ(pipe(errors), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        dup2(errors[1], 2);
        close(errors[1]);
        close(errors[0]);
        close(answer[0]);
        set_environment(row);
        Seen seen{};
        seen.read = Face::read();
        seen.before = info();
        Face::start();
        seen.after = info();
        _exit(write(answer[1], &seen, sizeof seen) == sizeof seen ? 0 : 2);
    }
    close(answer[1]);
    close(errors[1]);
    const std::string stderr_text = everything_from(errors[0]);
    const std::string bytes = everything_from(answer[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);

    // One line for each invalid value. After those, one line for a valid supervisor about which nothing can be proven.
    const std::string unproven = ": expected a living ancestor";
    EXPECT_EQ(count(stderr_text, ": expected ") - count(stderr_text, unproven), row.value("warns", 0U)) << stderr_text;

    const bool names_somebody = row.contains("supervisor") && !row["supervisor"].is_null();
    const std::string pid = names_somebody ? std::to_string(row["supervisor"]["pid"].get<int>()) : "";
    if (names_somebody && bytes.empty()) {
        // If the uptime is less than the token's start time, the supervisor is proven to be dead.
        EXPECT_EQ(WEXITSTATUS(status), 1);
        EXPECT_NE(stderr_text.find("supervisor " + pid + " is gone"), std::string::npos) << stderr_text;
        return;
    }
    ASSERT_EQ(status, 0) << stderr_text;
    ASSERT_EQ(bytes.size(), sizeof(Seen));
    Seen seen{};
    std::memcpy(&seen, bytes.data(), sizeof seen);

    if (row.contains("enabled")) {
        EXPECT_EQ(seen.read.enabled, row["enabled"].get<bool>());
    }
    if (row.contains("interval_ns")) {
        const auto wanted = row["interval_ns"].get<std::uint64_t>();
        EXPECT_EQ(seen.read.interval_ns, wanted / Face::kUnit * Face::kUnit);
        EXPECT_EQ(seen.after.interval_ns, wanted);
    }
    if (row.contains("scope")) {
        const auto word = row["scope"].get<std::string>();
        const auto wanted = word == "tree"    ? LOCALAI_PARENTWATCH_SCOPE_TREE
                            : word == "group" ? LOCALAI_PARENTWATCH_SCOPE_GROUP
                                              : LOCALAI_PARENTWATCH_SCOPE_PROCESS;
        EXPECT_EQ(seen.before.scope, wanted);
        // The scope in effect: this program leads no process group.
        const bool acts = wanted != LOCALAI_PARENTWATCH_SCOPE_GROUP || seen.after.state != LOCALAI_PARENTWATCH_ARMED;
        EXPECT_EQ(seen.after.scope, acts ? wanted : LOCALAI_PARENTWATCH_SCOPE_PROCESS);
    }
    if (row.contains("grace_ns")) {
        const bool is_set = !row["grace_ns"].is_null();
        const std::uint64_t wanted = is_set ? row["grace_ns"].get<std::uint64_t>() : 0;
        for (const auto &told : {seen.before, seen.after}) {
            EXPECT_EQ(told.flags, is_set ? LOCALAI_PARENTWATCH_GRACE_IS_SET : 0U);
            EXPECT_EQ(told.grace_ns, wanted);
        }
    }
    const bool off = row.contains("enabled") && !row["enabled"].get<bool>();
    EXPECT_EQ(seen.before.state, LOCALAI_PARENTWATCH_NOT_STARTED);
    EXPECT_EQ(seen.after.state, off ? LOCALAI_PARENTWATCH_DISABLED : LOCALAI_PARENTWATCH_ARMED) << stderr_text;
    if (!off) {
        EXPECT_EQ(seen.after.watched_pids[0], getpid());
    }
    if (names_somebody) {
        // Either the process id is that of an ancestor, which is then watched, or a line says that nothing is proven.
        EXPECT_TRUE(std::to_string(seen.after.watched_pids[1]) == pid ||
                    stderr_text.find("LOCALAI_BACKEND_PARENT_PID=" + pid) != std::string::npos)
            << stderr_text;
    } else if (row.contains("supervisor")) {
        EXPECT_EQ(seen.after.watched_pids[1], 0);
        EXPECT_EQ(count(stderr_text, unproven), 0U) << stderr_text;
    }
}

template <class Face>
class Vectors : public testing::Test {};
using Faces = testing::Types<CAbi, DropIn>;

struct FaceNames {
    template <class Face>
    static std::string GetName(int) {
        return std::is_same_v<Face, CAbi> ? "CAbi" : "DropIn";
    }
};

TYPED_TEST_SUITE(Vectors, Faces, FaceNames);

TYPED_TEST(Vectors, AllRows) {
    std::ifstream file(VECTORS);
    ASSERT_TRUE(file) << "cannot read " << VECTORS;
    const json table = json::parse(file);
    ASSERT_GT(table["vectors"].size(), 100U);
    std::size_t raw = 0;
    for (std::size_t i = 0; i < table["vectors"].size(); i++) {
        const json &row = table["vectors"][i];
        raw += row.contains("env_hex");
        SCOPED_TRACE("vector " + std::to_string(i) + ": " + row.dump(-1, ' ', true, json::error_handler_t::replace));
        check<TypeParam>(row);
        if (this->HasFatalFailure()) return;
    }
    EXPECT_GT(raw, 0U);
}

TEST(Vectors, DefaultsOfTheDropInAreTheContracts) {
    std::ifstream file(VECTORS);
    const json table = json::parse(file);
    EXPECT_EQ(static_cast<std::uint64_t>(llama_grpc::parent_watch_default_interval_ms()) * DropIn::kUnit,
              table["default"]["interval_ns"].get<std::uint64_t>());
}

}  // namespace

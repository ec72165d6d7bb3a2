// tree_test WORKER SCENARIO...: real process trees. This process is a subreaper. It forks a supervisor, which starts
// WORKER as the leader of its own group, as LocalAI does. The supervisor is killed, and this process reaps the worker to
// see how it ended.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kDeadline{60000};

// What a worker must do once its supervisor is dead.
struct Scenario {
    int exit_status = 1;
    milliseconds at_least{0};
    // Not a promise, but short enough to show that it did not wait for a hook's minute.
    milliseconds at_most{20000};
    bool hook = false;
    // The library's line on stderr.
    bool line = true;
    // What its SIGTERM handler prints.
    bool stop = false;
};

const std::map<std::string, Scenario> kScenarios{
    {"F01", {}},
    {"F01_hook", {1, milliseconds(0), milliseconds(20000), true, true}},
    {"F01_drop_in", {}},
    {"F01_drop_in_watch", {7, milliseconds(0), milliseconds(20000), true, false}},
    // It ends by itself, within a grace of a minute, with its own status.
    {"F01_graceful", {5, milliseconds(0), milliseconds(20000), false, false, true}},
    // It does not handle SIGTERM, so it does not get the minute.
    {"F01_grace", {}},
    // Its grace is 300 ms. The default is 5 s.
    {"F16", {1, milliseconds(250), milliseconds(5000), true, true}},
    {"H04", {}},
};

struct Pipe {
    int read_end = -1, write_end = -1;
    Pipe() {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
        read_end = ends[0];
        write_end = ends[1];
    }
    Pipe(const Pipe &) = delete;
    Pipe &operator=(const Pipe &) = delete;
    ~Pipe() {
        close_end(read_end);
        close_end(write_end);
    }
    static void close_end(int &end) {
        if (end >= 0) close(end);
        end = -1;
    }
};

// Reads until `until` was read, or to the end if it is empty, at most until the deadline.
std::string read_until(int descriptor, const std::string &until) {
    const auto deadline = Clock::now() + kDeadline;
    std::string text;
    while (until.empty() || text.find(until) == std::string::npos) {
        const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
        pollfd wait{descriptor, POLLIN, 0};
        char buffer[512];
        if (left <= 0 || poll(&wait, 1, static_cast<int>(left)) <= 0) return text + "(deadline)";
        const auto got = read(descriptor, buffer, sizeof buffer);
        if (got <= 0) break;
        text.append(buffer, static_cast<std::size_t>(got));
    }
    return text;
}

// The wait status of a child that has ended; -1 if it has not ended at the deadline.
int reaped(pid_t pid, milliseconds patience) {
    const auto deadline = Clock::now() + patience;
    for (;;) {
        int status = 0;
        if (waitpid(pid, &status, WNOHANG) == pid) return status;
        if (Clock::now() > deadline) return -1;
        usleep(500);
    }
}

class Tree {
  public:
    Tree(const std::string &worker, const std::string &scenario, bool switched_off) {
        supervisor_ = fork();
        if (supervisor_ == 0) supervise(worker.c_str(), scenario.c_str(), switched_off);
        Pipe::close_end(input_.read_end);
        Pipe::close_end(output_.write_end);
        Pipe::close_end(errors_.write_end);
        Pipe::close_end(pid_.write_end);
        if (supervisor_ < 0 || read(pid_.read_end, &worker_, sizeof worker_) != sizeof worker_) worker_ = -1;
    }
    Tree(const Tree &) = delete;
    Tree &operator=(const Tree &) = delete;
    // In any case, no process stays behind.
    ~Tree() {
        for (const pid_t pid : {supervisor_, worker_}) {
            if (pid > 0) kill(pid, SIGKILL), reaped(pid, kDeadline);
        }
    }

    pid_t supervisor() const { return supervisor_; }
    pid_t worker() const { return worker_; }
    std::string output(const std::string &until) { return read_until(output_.read_end, until); }
    std::string errors() { return read_until(errors_.read_end, ""); }

    void kill_supervisor() {
        ASSERT_EQ(kill(supervisor_, SIGKILL), 0);
        ASSERT_NE(reaped(supervisor_, kDeadline), -1);
        killed_ = supervisor_;
        supervisor_ = -1;
    }
    pid_t killed() const { return killed_; }

    // The supervisor is dead, so this process has adopted the worker.
    int worker_status(milliseconds patience) {
        const int status = reaped(worker_, patience);
        if (status != -1) gone_ = worker_, worker_ = -1;
        return status;
    }
    pid_t gone() const { return gone_; }

  private:
    [[noreturn]] void supervise(const char *worker, const char *scenario, bool switched_off) {
        // Only this program's first process holds it: a worker ends with that process, whatever else fails.
        Pipe::close_end(input_.write_end);
        for (const auto *variable : {"LOCALAI_BACKEND_PARENT_WATCH_INTERVAL", "LOCALAI_BACKEND_PARENT_WATCH_SCOPE",
                                     "LOCALAI_BACKEND_PARENT_WATCH_GRACE", "LOCALAI_BACKEND_PARENT_PID"}) {
            unsetenv(variable);
        }
        setenv("LOCALAI_BACKEND_PARENT_WATCH", switched_off ? "off" : "on", 1);
        const pid_t child = fork();
        if (child == 0) {
            setpgid(0, 0);
            dup2(input_.read_end, 0);
            dup2(output_.write_end, 1);
            dup2(errors_.write_end, 2);
            execl(worker, worker, scenario, static_cast<char *>(nullptr));
            _exit(127);
        }
        if (child < 0 || write(pid_.write_end, &child, sizeof child) != sizeof child) _exit(1);
        Pipe::close_end(output_.write_end);
        Pipe::close_end(errors_.write_end);
        char byte = 0;
        while (read(input_.read_end, &byte, 1) != 0) {
        }
        _exit(0);
    }

    Pipe input_, output_, errors_, pid_;
    pid_t supervisor_ = -1, worker_ = -1, killed_ = -1, gone_ = -1;
};

void no_child_is_left() {
    const auto deadline = Clock::now() + kDeadline;
    while (waitpid(-1, nullptr, WNOHANG) >= 0) {
        ASSERT_LT(Clock::now(), deadline) << "a process of the tree lives on";
        usleep(500);
    }
}

class TheWorkerGoes : public testing::Test {
  public:
    TheWorkerGoes(std::string worker, std::string scenario) : worker_(std::move(worker)), scenario_(std::move(scenario)) {}

    void TestBody() override {
        const Scenario &expected = kScenarios.at(scenario_);
        std::string output, errors;
        pid_t supervisor = -1, worker = -1;
        milliseconds took{0};
        int status = -1;
        {
            Tree tree(worker_, scenario_, false);
            output = tree.output("ready\n");
            ASSERT_EQ(output, "ready\n");
            const auto killed = Clock::now();
            tree.kill_supervisor();
            status = tree.worker_status(kDeadline);
            took = std::chrono::duration_cast<milliseconds>(Clock::now() - killed);
            supervisor = tree.killed();
            worker = tree.gone();
            ASSERT_NE(status, -1) << "the worker outlives its supervisor";
            output = tree.output("");
            errors = tree.errors();
        }
        SCOPED_TRACE("stderr of the worker: " + errors);
        ASSERT_TRUE(WIFEXITED(status)) << status;
        EXPECT_EQ(WEXITSTATUS(status), expected.exit_status);
        EXPECT_GE(took.count(), expected.at_least.count());
        EXPECT_LE(took.count(), expected.at_most.count());
        EXPECT_EQ(output.find("hook\n") != std::string::npos, expected.hook) << output;
        EXPECT_EQ(output.find("stop\n") != std::string::npos, expected.stop) << output;
        // The supervisor was not named.
        const std::string line = "localai-parentwatch: parent " + std::to_string(supervisor) + " is gone, worker " +
                                 std::to_string(worker) + " exits (";
        EXPECT_EQ(errors.find(line) != std::string::npos, expected.line);
        // The reports of sanitizers.
        for (const auto *finding : {"ERROR:", "WARNING:", "runtime error"}) {
            EXPECT_EQ(errors.find(finding), std::string::npos);
        }
        no_child_is_left();
    }

  private:
    std::string worker_, scenario_;
};

// The negative control: without the watcher the worker stays, and this program notices that.
class TheWorkerStaysSwitchedOff : public testing::Test {
  public:
    TheWorkerStaysSwitchedOff(std::string worker, std::string scenario)
        : worker_(std::move(worker)), scenario_(std::move(scenario)) {}

    void TestBody() override {
        Tree tree(worker_, scenario_, true);
        ASSERT_EQ(tree.output("ready\n"), "ready\n");
        tree.kill_supervisor();
        EXPECT_EQ(tree.worker_status(milliseconds(500)), -1) << "the worker went, and nothing watched";
    }

  private:
    std::string worker_, scenario_;
};

}  // namespace

int main(int argc, char **argv) {
    testing::InitGoogleTest(&argc, argv);
    if (argc < 3) {
        std::cerr << "usage: tree_test WORKER SCENARIO...\n";
        return 2;
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) != 0) {
        std::cerr << "tree_test: not a subreaper\n";
        return 2;
    }
    const std::string worker = argv[1];
    for (int i = 2; i < argc; i++) {
        const std::string scenario = argv[i];
        if (kScenarios.count(scenario) == 0) {
            std::cerr << "tree_test: unknown scenario: " << scenario << '\n';
            return 2;
        }
        testing::RegisterTest("Tree", scenario.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [=]() -> testing::Test * { return new TheWorkerGoes(worker, scenario); });
        // watch_parent_death() ignores the switch.
        if (scenario == "F01" || scenario == "F01_drop_in") {
            testing::RegisterTest("Tree", ("N06_" + scenario).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                                  [=]() -> testing::Test * { return new TheWorkerStaysSwitchedOff(worker, scenario); });
        }
    }
    return RUN_ALL_TESTS();
}

// A worker in C++ for tree_test. Its hook is a std::function.
#include <localai_parentwatch.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <thread>

namespace {

using Hook = std::function<void()>;

extern "C" void call(void *hook) { (*static_cast<Hook *>(hook))(); }

}  // namespace

int main(int argc, char **argv) {
    const std::string scenario = argc > 1 ? argv[1] : "F01";
    const auto say_hook = [word = std::string("hook\n")] { std::cout << word << std::flush; };
    static std::map<std::string, Hook> hooks{
        {"F01", nullptr},
        {"F01_hook",
         [say_hook] {
             // A hook is ordinary C++ code.
             try {
                 throw std::string("hook");
             } catch (const std::string &) {
                 say_hook();
             }
         }},
        {"F16",
         [say_hook] {
             say_hook();
             for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
         }},
    };
    const auto found = hooks.find(scenario);
    if (found == hooks.end()) {
        std::cerr << "unknown scenario: " << scenario << '\n';
        return 2;
    }
    localai_parentwatch_options_t options{};
    options.size = sizeof options;
    if (found->second) {
        std::chrono::nanoseconds grace = std::chrono::minutes(1);
        if (scenario == "F16") grace = std::chrono::milliseconds(300);
        options.on_death = call;
        options.user_data = &found->second;
        options.grace_ns = static_cast<std::uint64_t>(grace.count());
    }
    const auto status = localai_parentwatch_start(&options);
    if (LOCALAI_PARENTWATCH_IS_ERROR(status)) {
        std::cerr << "not started: " << localai_parentwatch_status_text(status) << '\n';
        return 2;
    }
    std::cout << "ready" << std::endl;
    char byte = 0;
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    return 3;
}

// Two static Rust libraries in one program, together with C++ exceptions.
#include <localai_parentwatch.h>

#include <iostream>
#include <stdexcept>

extern "C" int second_twice(int number);

int main() {
    const auto status = start_parent_death_watcher();
    bool thrown = false;
    try {
        throw std::runtime_error("on purpose");
    } catch (const std::runtime_error &) {
        thrown = true;
    }
    const int twice = second_twice(21);
    std::cout << "first: " << localai_parentwatch_status_text(status) << ", second: " << twice << '\n';
    return status == LOCALAI_PARENTWATCH_ARMED && thrown && twice == 42 ? 0 : 1;
}

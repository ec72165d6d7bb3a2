#include <cstdio>

// snippet: cpp-include

int main() {
    // snippet: cpp-call
    localai_parentwatch_info_t info{};
    info.size = sizeof info;
    localai_parentwatch_status(&info);
    std::puts(localai_parentwatch_status_text(info.state));
}

#include <cstdio>

#include "parent_watch.h"

int main() {
    llama_grpc::start_parent_death_watcher();
#ifdef PLACE_POLLER
    std::puts("poller");
#else
    std::puts("library");
#endif
}

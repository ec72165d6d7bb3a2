#include "parent_watch.h"

long from_the_other_translation_unit();
long from_the_other_translation_unit() { return llama_grpc::parent_watch_default_interval_ms(); }

const void *address_in_the_other_translation_unit();
const void *address_in_the_other_translation_unit() {
    return reinterpret_cast<const void *>(&llama_grpc::start_parent_death_watcher);
}

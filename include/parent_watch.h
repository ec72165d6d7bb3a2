/* SPDX-License-Identifier: MIT
 *
 * LocalAI's parent_watch.h over liblocalai_parentwatch: a server that includes LocalAI's header compiles
 * with this one unchanged, and links the library beside it. C++17, nothing in it but calls of
 * <localai_parentwatch.h>, which has more to offer: status, hook, options.
 *
 * What is different from the header that it stands in for: the environment is read as every other language
 * reads it (LocalAI's reads no "1m30s", "100us" or "+2s", and has no bounds), the death is seen at once,
 * and the worker's descendants and its process group go with it.
 */
#ifndef LOCALAI_PARENTWATCH_PARENT_WATCH_H
#define LOCALAI_PARENTWATCH_PARENT_WATCH_H

#include <localai_parentwatch.h>

// LocalAI's header includes all of these, and sources that include it use some without saying so.
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#if !defined(_WIN32)
#include <sys/types.h>
#include <unistd.h>
#endif

namespace llama_grpc {

inline const char *kEnvParentWatch() { return "LOCALAI_BACKEND_PARENT_WATCH"; }
inline const char *kEnvParentWatchInterval() { return "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL"; }

// What parent_watch_interval_ms() gives when nothing is set.
inline long parent_watch_default_interval_ms() { return 2000; }

// Whether the environment leaves the watcher on.
inline bool parent_watch_enabled() { return localai_parentwatch_enabled() != 0; }

// The interval of the polling tier that the environment asks for, in whole milliseconds: from 10 to 3600000.
inline long parent_watch_interval_ms() {
    return static_cast<long>(localai_parentwatch_interval_ns() / 1000000);
}

#if !defined(_WIN32)
// Whether orig_ppid is no longer this process's parent, or its parent is PID 1.
inline bool parent_died(pid_t orig_ppid) { return localai_parentwatch_parent_died(orig_ppid) != 0; }

// Blocks until orig_ppid is no longer this process's parent, then calls on_death. Returns without having
// called it when orig_ppid is 1 or less: nobody has died.
inline void watch_parent_death(pid_t orig_ppid, long interval_ms, const std::function<void()> &on_death) {
    // A day at most: more would not fit in nanoseconds. The library knows the narrower bounds.
    const auto ms = static_cast<std::uint64_t>(std::clamp(interval_ms, 0L, 86400000L));
    if (localai_parentwatch_wait_for_exit(orig_ppid, ms * 1000000) == 0) {
        on_death();
    }
}
#endif

// Starts the watcher of this process, as the environment asks for it. Whatever comes of it, the server runs:
// ::start_parent_death_watcher() tells.
inline void start_parent_death_watcher() { static_cast<void>(::start_parent_death_watcher()); }

}  // namespace llama_grpc

#endif  // LOCALAI_PARENTWATCH_PARENT_WATCH_H

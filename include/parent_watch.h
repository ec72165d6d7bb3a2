/* SPDX-License-Identifier: MIT
 *
 * A drop-in for LocalAI's header of the same name (C++17). A server that includes LocalAI's header compiles unchanged
 * with this one, and links liblocalai_parentwatch. The functions here only call <localai_parentwatch.h>, which offers
 * more: status, hook and options.
 *
 * Three things differ from LocalAI's header:
 * - The worker notices the death at once.
 * - Its descendants and its process group end with it.
 * - Durations are read as in every other language here. LocalAI's header does not know "1m30s", "100us" or "+2s", and
 *   has no limits.
 */
#ifndef LOCALAI_PARENTWATCH_PARENT_WATCH_H
#define LOCALAI_PARENTWATCH_PARENT_WATCH_H

#include <localai_parentwatch.h>

// LocalAI's header includes all of these, and its users rely on it.
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

// What parent_watch_interval_ms() returns when the variable is not set.
inline long parent_watch_default_interval_ms() { return 2000; }

// Whether the environment leaves the watcher on.
inline bool parent_watch_enabled() { return localai_parentwatch_enabled() != 0; }

// The polling interval in the environment, in whole milliseconds: 10 to 3600000.
inline long parent_watch_interval_ms() {
    return static_cast<long>(localai_parentwatch_interval_ns() / 1000000);
}

#if !defined(_WIN32)
// Whether orig_ppid is no longer this process's parent, or the parent is PID 1.
inline bool parent_died(pid_t orig_ppid) { return localai_parentwatch_parent_died(orig_ppid) != 0; }

// Blocks until orig_ppid is no longer this process's parent, then calls on_death. If orig_ppid is 1 or less, nobody has
// died: it returns without calling on_death.
inline void watch_parent_death(pid_t orig_ppid, long interval_ms, const std::function<void()> &on_death) {
    // At most a day, so that the nanoseconds cannot overflow. The library clamps the rest.
    const auto ms = static_cast<std::uint64_t>(std::clamp(interval_ms, 0L, 86400000L));
    if (localai_parentwatch_wait_for_exit(orig_ppid, ms * 1000000) == 0) {
        on_death();
    }
}
#endif

// Starts the watcher of this process, with the settings in the environment. The server runs on in any case.
// ::start_parent_death_watcher() does the same and returns the status.
inline void start_parent_death_watcher() { static_cast<void>(::start_parent_death_watcher()); }

}  // namespace llama_grpc

#endif  // LOCALAI_PARENTWATCH_PARENT_WATCH_H

//! The line that a worker's watcher prints to stderr before it ends the worker: `localai-parentwatch: supervisor 4242
//! is gone, worker 4243 exits (event)`, or `parent 4242` if no supervisor was named.

/// Finds the death line of worker `pid` in its stderr, and returns the tier in which the watcher noticed the death.
pub fn find_tier(stderr: &str, pid: i32) -> Option<&str> {
    stderr.lines().find_map(|line| parse(line, pid))
}

/// The tier in `line`, if that is the death line of worker `pid`.
fn parse(line: &str, pid: i32) -> Option<&str> {
    let rest = line.strip_prefix("localai-parentwatch: ")?;
    let rest = rest.strip_prefix("supervisor ").or_else(|| rest.strip_prefix("parent "))?;
    let (supervisor, rest) = rest.split_once(" is gone, worker ")?;
    let (worker, rest) = rest.split_once(" exits (")?;
    let tier = rest.strip_suffix(')')?;
    let is_death_line = supervisor.parse::<i32>().is_ok()
        && worker.parse() == Ok(pid)
        && !tier.is_empty()
        && tier.bytes().all(|byte| byte.is_ascii_lowercase());
    is_death_line.then_some(tier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_tier() {
        let stderr = "worker-cpp: listening on 127.0.0.1:5\n\
                      localai-parentwatch: supervisor 4242 is gone, worker 4243 exits (event)\n";
        assert_eq!(find_tier(stderr, 4243), Some("event"));
        assert_eq!(find_tier(stderr, 4244), None, "another worker's line");
        assert_eq!(find_tier(&stderr.replace("event", "poll"), 4243), Some("poll"));
        let unnamed = stderr.replace("supervisor", "parent");
        assert_eq!(find_tier(&unnamed, 4243), Some("event"), "nobody was named");
    }

    #[test]
    fn takes_nothing_else_for_it() {
        for line in [
            "",
            "localai-parentwatch: supervisor 4242 is gone, worker 4243 exits",
            "localai-parentwatch: supervisor 4242 is gone, worker 4243 exits ()",
            "localai-parentwatch: supervisor 4242 is gone, worker 4243 exits (event) ",
            "localai-parentwatch: supervisor x is gone, worker 4243 exits (event)",
            "> localai-parentwatch: supervisor 4242 is gone, worker 4243 exits (event)",
            "localai-parentwatch: LOCALAI_BACKEND_PARENT_WATCH_INTERVAL=x: expected a duration; using 2s",
        ] {
            assert_eq!(find_tier(line, 4243), None, "{line:?}");
        }
    }
}

//! The GPU memory of each process, from `nvidia-smi`.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::sys;

/// How long `nvidia-smi` may take. A failed GPU can block it forever.
const PATIENCE: Duration = Duration::from_secs(5);

/// What each process uses on each of its GPUs, in bytes. Empty if `nvidia-smi` gives no answer.
pub(super) fn memory() -> Vec<(i32, u64)> {
    let child = Command::new("nvidia-smi")
        .args(["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    child.ok().and_then(answer).map(|answer| parse(&answer)).unwrap_or_default()
}

/// What one process uses on all its GPUs, in bytes.
pub(super) fn of(pid: i32, memory: &[(i32, u64)]) -> Option<u64> {
    memory.iter().filter(|used| used.0 == pid).map(|used| used.1).reduce(u64::saturating_add)
}

/// Reads the output once the program has ended. The pipe has room for the lines of thousands of processes.
fn answer(mut child: Child) -> Option<String> {
    let until = sys::uptime().saturating_add(PATIENCE);
    while child.try_wait().ok()?.is_none() {
        if sys::uptime() >= until {
            // Do not wait for it: it may be blocked in the kernel.
            let _ = child.kill();
            return None;
        }
        sys::nap(Duration::from_millis(5));
    }
    let mut answer = String::new();
    child.stdout?.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Each line is a process id and MiB, such as `4243, 20480`. `[N/A]` means that the amount is not known.
fn parse(answer: &str) -> Vec<(i32, u64)> {
    let numbers = |line: &str| {
        let (pid, mebibytes) = line.split_once(',')?;
        let mebibytes: u64 = mebibytes.trim().parse().ok()?;
        Some((pid.trim().parse().ok()?, mebibytes.saturating_mul(1 << 20)))
    };
    answer.lines().filter_map(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::{of, parse};

    #[test]
    fn the_gpus_of_a_process_are_added() {
        let used = parse("4243, 20480\n17, [N/A]\n4243, 1\nNo running processes found\n");
        assert_eq!(of(4243, &used), Some(20_481 << 20));
        assert_eq!(of(17, &used), None);
    }
}

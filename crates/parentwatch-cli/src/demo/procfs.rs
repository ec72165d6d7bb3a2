//! The processes of this machine, from `/proc`.

use std::fs;
use std::io;

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// Whether it has ended and was not reaped yet.
    pub is_zombie: bool,
    /// The process id of its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
}

/// Lists every process, zombies included.
pub fn processes() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end after it was listed.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
            continue;
        };
        found.extend(parse(pid, &stat));
    }
    Ok(found)
}

/// Reads the text of `/proc/PID/stat`. Fields are counted from the last `)`: the name before it may contain anything.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Process { pid, is_zombie, parent, group })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat() {
        let expected = Process { pid: 42, is_zombie: false, parent: 7, group: 41 };
        assert_eq!(parse(42, b"42 (a) S 7 41 42 0"), Some(expected));
        assert_eq!(parse(42, b"42 (a) S 1 (b\n) R 7 41 42"), Some(expected));
        assert_eq!(parse(42, b"42 (\xff) S 7 41 42"), Some(expected));
        let zombie = Process { is_zombie: true, ..expected };
        assert_eq!(parse(42, b"42 (a) Z 7 41 42 0"), Some(zombie));
        for bad in [&b""[..], b"42", b"42 (a)", b"42 (a) S", b"42 (a) S x 41", b"42 (a) S 7"] {
            assert_eq!(parse(42, bad), None);
        }
    }

    #[test]
    fn finds_this_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let found = processes().unwrap();
        let this = found.iter().find(|process| process.pid == pid).unwrap();
        assert_eq!(this.parent, i32::try_from(std::os::unix::process::parent_id()).unwrap());
        assert!(!this.is_zombie);
    }
}

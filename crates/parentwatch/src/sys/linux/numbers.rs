//! Lists the entries of a `/proc` directory whose names are numbers: process ids, thread ids, descriptors. Uses raw
//! system calls and a fixed buffer, since the reaper calls it too.

use std::ffi::CStr;
use std::mem::offset_of;

use super::procfs::open;

/// The numbers come in no order. An entry that is made during the listing may be missing.
pub(crate) struct Numbers {
    fd: i32,
    /// Records of struct linux_dirent64 (getdents64(2)).
    buffer: [u8; 1024],
    begin: usize,
    end: usize,
}

impl Numbers {
    pub(crate) fn of(folder: &CStr) -> Option<Numbers> {
        let fd = open(folder, libc::O_DIRECTORY)?;
        Some(Numbers { fd, buffer: [0; 1024], begin: 0, end: 0 })
    }

    /// The descriptor of the open directory.
    pub(super) fn descriptor(&self) -> i32 {
        self.fd
    }

    /// The name of the next entry.
    fn next_name(&mut self) -> Option<&[u8]> {
        const LENGTH: usize = offset_of!(libc::dirent64, d_reclen);
        const NAME: usize = offset_of!(libc::dirent64, d_name);
        if self.begin == self.end {
            // SAFETY: the buffer is valid for its length.
            let got = unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    self.fd,
                    self.buffer.as_mut_ptr(),
                    self.buffer.len(),
                )
            };
            self.begin = 0;
            self.end = usize::try_from(got).unwrap_or(0);
        }
        let records = self.buffer.get(self.begin..self.end)?;
        let length = records.get(LENGTH..LENGTH + 2)?.try_into().map(u16::from_ne_bytes).ok()?;
        let record = records.get(..usize::from(length))?;
        self.begin += record.len();
        record.get(NAME..)?.split(|byte| *byte == 0).next()
    }
}

impl Iterator for Numbers {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        loop {
            let name = std::str::from_utf8(self.next_name()?);
            if let Some(pid) = name.ok().and_then(|name| name.parse().ok()) {
                return Some(pid);
            }
        }
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { libc::syscall(libc::SYS_close, self.fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_among_the_processes() {
        let mut children: Vec<_> = (0..100)
            .map(|_| std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap())
            .collect();
        let found: Vec<i32> = Numbers::of(c"/proc").unwrap().collect();
        let missing: Vec<_> = children
            .iter()
            .filter(|child| !found.contains(&i32::try_from(child.id()).unwrap()))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(found.iter().filter(|pid| **pid == own).count(), 1);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

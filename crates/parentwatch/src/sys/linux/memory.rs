//! What a forked process does not need of its parent's memory.
//!
//! The reaper is a copy of the worker. Its pages are shared, copy on write, and a mapped device keeps its file
//! open: as long as the reaper has them, neither the worker's memory nor its GPU is free. So it lets go of
//! whatever is large, shared or a device, and keeps what its own few system calls run on.

use std::ffi::c_void;

use super::lines::Lines;

/// What is smaller than this is not worth the look at who might need it.
const LARGE: usize = 1 << 20;
/// What is larger than this is the shadow memory of a sanitizer, which lies below everything else. Its wrappers
/// around system calls need what it has allocated.
const SHADOW: usize = 1 << 43;

/// Unmaps everything that holds memory or a device, in a process that makes system calls alone from here on.
///
/// # Safety
/// Nothing that this process still does may touch the heap, shared memory, another thread's stack, or a
/// large zero-initialised mapping.
pub(super) unsafe fn let_go_of_memory() {
    let mut errno_and_stack = [0_usize; 2];
    // SAFETY: the address of this thread's errno, which is in its thread-local storage.
    errno_and_stack[0] = unsafe { libc::__errno_location() }.addr();
    errno_and_stack[1] = (&raw const errno_and_stack).addr();

    let Some(mut lines) = Lines::of(c"/proc/self/maps") else { return };
    let mut previous_file_end = 0;
    let mut is_sanitized = false;
    while let Some(line) = lines.next() {
        let Some(mapping) = Mapping::parse(line) else {
            continue;
        };
        let size = mapping.end - mapping.begin;
        is_sanitized |= size >= SHADOW;
        // What follows a file's mapping without a gap is that program's zero-initialised data.
        let is_data = mapping.begin == previous_file_end;
        if mapping.is_file || is_data {
            previous_file_end = mapping.end;
        }
        let needed =
            mapping.is_code || errno_and_stack.iter().any(|address| mapping.contains(*address));
        let is_large = mapping.is_anonymous && !is_data && !is_sanitized && size >= LARGE;
        if !needed && (mapping.is_shared || mapping.is_device || is_large) {
            // SAFETY: the caller promises that nothing of it is needed.
            unsafe {
                libc::munmap(std::ptr::without_provenance_mut::<c_void>(mapping.begin), size)
            };
        }
    }
}

/// One line of `/proc/PID/maps` (proc(5)): `begin-end rwxp offset device inode  path`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    begin: usize,
    end: usize,
    is_shared: bool,
    is_file: bool,
    is_code: bool,
    is_device: bool,
    /// Without a file: the heap, what malloc and others have mapped, stacks of threads.
    is_anonymous: bool,
}

impl Mapping {
    fn parse(line: &[u8]) -> Option<Mapping> {
        let mut fields = line.split(|b| *b == b' ').filter(|field| !field.is_empty());
        let mut range = fields.next()?.split(|b| *b == b'-');
        let begin = hexadecimal(range.next()?)?;
        let end = hexadecimal(range.next()?)?;
        let permissions = fields.next()?;
        let inode = fields.nth(2)?;
        let path = fields.next().unwrap_or_default();
        let is_file = inode != b"0";
        Some(Mapping {
            begin,
            end: end.max(begin),
            is_shared: permissions.get(3) == Some(&b's'),
            is_file,
            is_code: is_file && permissions.get(2) == Some(&b'x'),
            // A program may be run, or a library be loaded, from the file system on /dev/shm.
            is_device: path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm/"),
            is_anonymous: !is_file
                && (path.is_empty() || path == b"[heap]" || path.starts_with(b"[anon:")),
        })
    }

    fn contains(&self, address: usize) -> bool {
        (self.begin..self.end).contains(&address)
    }
}

fn hexadecimal(digits: &[u8]) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Mapping {
        Mapping::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn the_lines_of_proc_maps_are_told_apart() {
        let heap = parse(
            "5581c9e4a000-5581c9e6b000 rw-p 00000000 00:00 0                          [heap]",
        );
        assert!(heap.is_anonymous && !heap.is_file && !heap.is_shared && !heap.is_device);
        assert_eq!(heap.end - heap.begin, 0x21000);
        let anonymous = parse("7f103c4e2000-7f103c4e3000 rw-p 00000000 00:00 0 ");
        assert!(anonymous.is_anonymous && anonymous.contains(0x7f10_3c4e_2fff));
        assert!(!anonymous.contains(0x7f10_3c4e_3000));
        let named = parse(
            "7f103c4e2000-7f103c4e3000 rw-p 00000000 00:00 0                  [anon: glibc: x]",
        );
        assert!(named.is_anonymous);
        let library =
            parse("7f1000000000-7f1000010000 r-xp 00026000 fe:01 12345    /lib/a b/libc.so.6");
        assert!(library.is_code);
        assert!(
            library.is_file && !library.is_anonymous && !library.is_device && !library.is_shared
        );
        let gpu = parse("7f1000000000-7f1000010000 rw-p 00000000 00:05 77            /dev/nvidia0");
        assert!(gpu.is_device && !gpu.is_code);
        let program =
            parse("7f1000000000-7f1000010000 rw-p 00000000 00:19 77            /dev/shm/worker");
        assert!(!program.is_device && program.is_file && !program.is_shared);
        let shared = parse("7f1000000000-7f1000010000 rw-s 00000000 00:01 9   /memfd:x (deleted)");
        assert!(shared.is_shared);
        for own in ["[stack]", "[vdso]", "[vvar]", "[vsyscall]"] {
            let own = parse(&format!("7ffe0000-7fff0000 rw-p 00000000 00:00 0    {own}"));
            assert!(!own.is_anonymous && !own.is_file, "{own:?}");
        }
        for broken in ["", "x", "10-20", "10-20 rw-p 0 0:0", "g-h rw-p 0 0:0 0"] {
            assert_eq!(Mapping::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_read_whole() {
        let mut lines = Lines::of(c"/proc/self/maps").unwrap();
        let here = this_process_is_read_whole as *const () as usize;
        let (mut count, mut code) = (0, false);
        while let Some(line) = lines.next() {
            let mapping = Mapping::parse(line).unwrap();
            code |= mapping.is_file && mapping.contains(here);
            count += 1;
        }
        assert!(code, "the mapping of this code");
        assert!(count > 10, "{count} mappings");
    }
}

//! Releases the memory that a forked process has inherited and does not need.
//!
//! The reaper is a copy of the worker. It shares the worker's pages (copy on write), and a mapped device keeps its file
//! open. While the reaper has these mappings, neither the worker's memory nor its GPU is free. So the reaper unmaps
//! large writable memory, shared memory and devices. It keeps what its own few system calls need.
//!
//! It also keeps anonymous memory that is not writable. That may be code: some programs move theirs there (huge pages
//! for text, packers).

use super::pieces::Pieces;

/// Smaller mappings are kept: finding out who needs them costs more than they do.
const LARGE: usize = 1 << 20;
/// A mapping this large (8 TiB) is the shadow memory of a sanitizer. It lies below all other mappings. The sanitizer's
/// wrappers of system calls need the memory that it has allocated.
const SHADOW: usize = 1 << 43;
/// How much is kept around a needed address: as much as the watcher's whole stack.
const AROUND: usize = 256 << 10;
const LARGEST_PAGE: usize = 64 << 10;

/// Unmaps memory and devices, in a process that only makes system calls from here on.
///
/// # Safety
/// This process must no longer use the heap, shared memory, a large zero-initialised mapping, another thread's stack,
/// or more than 256 KiB of its own.
pub(crate) unsafe fn release_memory() {
    let on_the_stack = 0_u8;
    // Addresses in this thread's stack, in its thread-local storage, and in libc's record of it, to which the kernel
    // writes (rseq(2)).
    let data = [
        (&raw const on_the_stack).addr(),
        // SAFETY: the address of this thread's errno.
        unsafe { libc::__errno_location() }.addr(),
        // SAFETY: the address of this thread's record.
        unsafe { libc::pthread_self() } as usize,
    ];
    // Addresses in our code and in libc's.
    let code = [
        (release_memory as unsafe fn() as *const ()).addr(),
        (libc::__errno_location as *const ()).addr(),
    ];
    let Some(mut lines) = Pieces::lines(c"/proc/self/maps") else { return };
    let mut object = Object::default();
    let mut is_sanitized = false;
    while let Some(line) = lines.next() {
        let Some(mapping) = Mapping::parse(line) else { continue };
        let size = mapping.end - mapping.begin;
        is_sanitized |= size >= SHADOW;
        let runs_here = code.iter().any(|it| mapping.contains(*it));
        let is_needed = runs_here || data.iter().any(|it| mapping.contains(*it));
        let is_data = object.goes_on_with(&mapping, is_needed);
        let is_memory = mapping.is_anonymous && !mapping.is_constant;
        let is_large = is_memory && !is_data && !is_sanitized && size >= LARGE;
        let can_go = is_large || ((mapping.is_shared || mapping.is_device) && !is_needed);
        if can_go && !runs_here && !mapping.is_code {
            for (begin, end) in mapping.without(&data) {
                // The raw system call: a program may wrap libc's munmap(2) and keep records on the heap.
                // SAFETY: the caller promises that this memory is no longer used.
                unsafe { libc::syscall(libc::SYS_munmap, begin, end - begin) };
            }
        }
    }
}

/// Drops the code pages that this process has used so far. They are clean copies of files, and the kernel loads them
/// again on the next access. For a process that mostly sleeps from now on.
pub(crate) fn release_code() {
    let mut parts = [(0, 0); 64];
    if let Some(mut lines) = Pieces::lines(c"/proc/self/maps") {
        let mut free = parts.iter_mut();
        while let Some(line) = lines.next() {
            // Code, and the beginning of the file with its constants and symbols. Constants further behind may have
            // been relocated, so their pages may differ from the file.
            let is_clean = |it: &Mapping| it.is_code || (it.file.is_some() && it.offset == 0);
            if let Some(part) = Mapping::parse(line).filter(|it| it.is_constant && is_clean(it))
                && let Some(room) = free.next()
            {
                *room = (part.begin, part.end - part.begin);
            }
        }
    }
    // Only now: reading the next line would load pages again.
    for (begin, size) in parts.into_iter().filter(|(_, size)| *size > 0) {
        // SAFETY: these pages hold only what is in the file.
        unsafe { libc::syscall(libc::SYS_madvise, begin, size, libc::MADV_DONTNEED) };
    }
}

/// The program or library to which the last mappings belong.
#[derive(Default)]
struct Object {
    file: Option<File>,
    end: usize,
    /// This process runs its code, so its data is needed too.
    is_needed: bool,
}

impl Object {
    /// Takes the next mapping. Returns whether it is the zero-initialised data of a needed object: a mapping without a
    /// file, which follows that object's file without a gap.
    fn goes_on_with(&mut self, mapping: &Mapping, is_needed: bool) -> bool {
        let is_adjacent = mapping.begin == self.end;
        if mapping.file.is_some() {
            let is_the_same = is_adjacent && mapping.file == self.file;
            self.is_needed = (is_the_same && self.is_needed) || (is_needed && !mapping.is_shared);
            self.file = mapping.file;
            self.end = mapping.end;
            return false;
        }
        let is_data = is_adjacent && self.is_needed;
        if is_data {
            self.end = mapping.end;
        }
        is_data
    }
}

/// The device (major, minor) and the inode.
type File = (u64, u64, u64);

/// One line of `/proc/PID/maps` (proc(5)): `begin-end rwxp offset device inode  path`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    begin: usize,
    end: usize,
    /// The offset in the file at which it begins.
    offset: u64,
    file: Option<File>,
    is_shared: bool,
    /// It can be read or executed, but not written. False for inaccessible memory, which may hold pages too.
    is_constant: bool,
    is_code: bool,
    is_device: bool,
    /// It has no file: the heap, memory from malloc and others, stacks of threads.
    is_anonymous: bool,
}

impl Mapping {
    fn parse(line: &[u8]) -> Option<Mapping> {
        let mut fields = line.split(|b| *b == b' ').filter(|field| !field.is_empty());
        let mut range = fields.next()?.split(|b| *b == b'-');
        let begin = usize::try_from(number(range.next()?, 16)?).ok()?;
        let end = usize::try_from(number(range.next()?, 16)?).ok()?;
        let permissions = fields.next()?;
        let offset = number(fields.next()?, 16)?;
        let mut device = fields.next()?.split(|b| *b == b':');
        let (major, minor) = (number(device.next()?, 16)?, number(device.next()?, 16)?);
        let inode = number(fields.next()?, 10)?;
        let path = fields.next().unwrap_or_default();
        // On some file systems a file may have inode 0.
        let file = (inode != 0 || path.starts_with(b"/")).then_some((major, minor, inode));
        let is_shared = permissions.get(3) == Some(&b's');
        // These are ordinary file systems: programs and data may lie there too.
        let is_of_a_program =
            path.starts_with(b"/dev/shm/") || path.starts_with(b"/dev/hugepages/");
        Some(Mapping {
            begin,
            end: end.max(begin),
            offset,
            file,
            is_shared,
            is_constant: permissions.get(1) != Some(&b'w') && !permissions.starts_with(b"---"),
            is_code: file.is_some() && !is_shared && permissions.get(2) == Some(&b'x'),
            is_device: path.starts_with(b"/dev/") && !is_of_a_program,
            is_anonymous: file.is_none()
                && (path.is_empty() || path == b"[heap]" || path.starts_with(b"[anon:")),
        })
    }

    fn contains(&self, address: usize) -> bool {
        (self.begin..self.end).contains(&address)
    }

    /// What is left without the surroundings of the needed addresses. The kernel may make one mapping of a stack and the
    /// memory next to it.
    fn without(&self, needed: &[usize]) -> impl Iterator<Item = (usize, usize)> + use<> {
        let within = || needed.iter().copied().filter(|address| self.contains(*address));
        let parts = match (within().min(), within().max()) {
            (Some(lowest), Some(highest)) => {
                let kept_from = lowest.saturating_sub(AROUND) / LARGEST_PAGE * LARGEST_PAGE;
                let kept_to = highest.saturating_add(AROUND) / LARGEST_PAGE * LARGEST_PAGE;
                [(self.begin, kept_from), (kept_to, self.end)]
            }
            _ => [(self.begin, self.end), (0, 0)],
        };
        parts.into_iter().filter(|(begin, end)| begin < end)
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Mapping {
        Mapping::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn each_kind_of_mapping_is_recognised() {
        let heap = parse(
            "5581c9e4a000-5581c9e6b000 rw-p 00000000 00:00 0                          [heap]",
        );
        assert!(
            heap.is_anonymous
                && !heap.is_constant
                && heap.file.is_none()
                && !heap.is_shared
                && !heap.is_device
        );
        assert_eq!(heap.end - heap.begin, 0x21000);
        let anonymous = parse("7f103c4e2000-7f103c4e3000 rw-p 00000000 00:00 0 ");
        assert!(anonymous.is_anonymous && anonymous.contains(0x7f10_3c4e_2fff));
        assert!(!anonymous.contains(0x7f10_3c4e_3000));
        let reserved = parse("7f103c4e2000-7f103c4e3000 ---p 00000000 00:00 0 ");
        assert!(reserved.is_anonymous && !reserved.is_constant);
        let moved = parse("7f103c4e2000-7f103c4e3000 r--p 00000000 00:00 0 ");
        assert!(moved.is_anonymous && moved.is_constant);
        let named = parse(
            "7f103c4e2000-7f103c4e3000 rw-p 00000000 00:00 0                  [anon: glibc: x]",
        );
        assert!(named.is_anonymous);
        let library =
            parse("7f1000000000-7f1000010000 r-xp 00026000 fe:01 12345    /lib/a b/libc.so.6");
        assert!(library.is_code && library.is_constant && library.offset == 0x26000);
        assert!(
            library.file.is_some()
                && !library.is_anonymous
                && !library.is_device
                && !library.is_shared
        );
        let gpu = parse("7f1000000000-7f1000010000 rw-p 00000000 00:05 77            /dev/nvidia0");
        assert!(gpu.is_device && !gpu.is_code);
        let program =
            parse("7f1000000000-7f1000010000 rw-p 00000000 00:19 77            /dev/shm/worker");
        assert!(!program.is_device && program.file.is_some() && !program.is_shared);
        let shared = parse("7f1000000000-7f1000010000 rw-s 00000000 00:01 9   /memfd:x (deleted)");
        assert!(shared.is_shared);
        for own in ["[stack]", "[vdso]", "[vvar]", "[vsyscall]"] {
            let own = parse(&format!("7ffe0000-7fff0000 rw-p 00000000 00:00 0    {own}"));
            assert!(!own.is_anonymous && own.file.is_none(), "{own:?}");
        }
        for broken in ["", "x", "10-20", "10-20 rw-p 0 0:0", "g-h rw-p 0 0:0 0"] {
            assert_eq!(Mapping::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn what_surrounds_a_needed_address_is_kept() {
        let stack = parse("10000000-10800000 rw-p 0 00:00 0");
        let left = |needed: &[usize]| stack.without(needed).collect::<Vec<_>>();
        assert_eq!(left(&[]), [(0x1000_0000, 0x1080_0000)]);
        assert_eq!(left(&[0xfff_ffff, 0x1080_0000]), left(&[]), "they are beside it");
        let (on_the_stack, errno) = (0x1043_0f00, 0x1044_1234);
        let expected = [(0x1000_0000, 0x103f_0000), (0x1048_0000, 0x1080_0000)];
        assert_eq!(left(&[on_the_stack, errno]), expected);
        assert_eq!(left(&[0x1000_4000]), [(0x1004_0000, 0x1080_0000)]);
        assert_eq!(left(&[0x107f_f000]), [(0x1000_0000, 0x107b_0000)]);
        let small = parse("10000000-10040000 rw-p 0 00:00 0");
        assert_eq!(small.without(&[0x1003_f000]).count(), 0);
    }

    #[test]
    fn memory_around_a_stack_is_released() {
        use std::ffi::c_void;
        const SIZE: usize = 8 << 20;
        const STACK: usize = 1 << 20;

        /// Whether the first and the last part of that memory are mapped.
        fn ends_are_mapped(memory: *mut c_void) -> [bool; 2] {
            let mut residency = 0;
            [memory, memory.wrapping_byte_add(SIZE - LARGEST_PAGE)]
                // SAFETY: only queries one page. There is room for the answer.
                .map(|page| unsafe { libc::mincore(page, 1, &raw mut residency) } == 0)
        }

        extern "C" fn fork_and_release(memory: *mut c_void) -> *mut c_void {
            assert_eq!(ends_are_mapped(memory), [true; 2]);
            let mut status = 0;
            // SAFETY: the child only makes system calls, and needs nothing of this process but its stack. There is room
            // for its status.
            unsafe {
                let child = super::super::QuietChild::fork(|| {
                    release_memory();
                    let kept = ends_are_mapped(memory).into_iter().map(i32::from).sum::<i32>();
                    libc::syscall(libc::SYS_exit_group, kept);
                });
                libc::waitpid(child.unwrap().pid(), &raw mut status, libc::__WALL);
            }
            assert!(libc::WIFEXITED(status), "it ended by signal {}", libc::WTERMSIG(status));
            assert_eq!(libc::WEXITSTATUS(status), 0, "parts that it kept");
            std::ptr::null_mut()
        }

        // SAFETY: a new mapping. A thread has the middle of it as its stack, and has ended when it is unmapped.
        unsafe {
            let (access, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let memory = libc::mmap(std::ptr::null_mut(), SIZE, access, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            let mut attributes = std::mem::zeroed();
            libc::pthread_attr_init(&raw mut attributes);
            libc::pthread_attr_setstack(
                &raw mut attributes,
                memory.wrapping_byte_add(SIZE / 2),
                STACK,
            );
            let mut thread = std::mem::zeroed();
            let made = libc::pthread_create(
                &raw mut thread,
                &raw const attributes,
                fork_and_release,
                memory,
            );
            assert_eq!(made, 0);
            libc::pthread_join(thread, std::ptr::null_mut());
            libc::munmap(memory, SIZE);
        }
    }

    /// Returns which of the mappings count as needed data.
    fn data(needed: usize, lines: &[&str]) -> Vec<bool> {
        let mut object = Object::default();
        lines
            .iter()
            .map(|line| {
                let mapping = parse(line);
                object.goes_on_with(&mapping, mapping.contains(needed))
            })
            .collect()
    }

    #[test]
    fn only_an_object_whose_code_runs_has_needed_data() {
        let lines = [
            "1000-2000 r-xp 0 fe:01 7 /lib/needed.so",
            "2000-3000 rw-p 1000 fe:01 7 /lib/needed.so",
            "3000-900000 rw-p 0 00:00 0",
            "900000-a00000 rw-p 0 00:00 0",
            "b00000-c00000 rw-p 0 00:00 0",
        ];
        assert_eq!(data(0x1800, &lines), [false, false, true, true, false]);
        assert_eq!(data(0x0, &lines), [false; 5]);
        // A model is mapped right below a large allocation.
        let model = [
            "1000-2000 r-xp 0 fe:01 7 /lib/needed.so",
            "2000-3000 r--s 0 fe:01 8 /models/some.gguf",
            "3000-900000 rw-p 0 00:00 0",
        ];
        assert_eq!(data(0x1800, &model), [false; 3]);
    }

    #[test]
    fn all_mappings_of_this_process_are_read() {
        let mut lines = Pieces::lines(c"/proc/self/maps").unwrap();
        let here = all_mappings_of_this_process_are_read as *const () as usize;
        let (mut count, mut code) = (0, false);
        while let Some(line) = lines.next() {
            let mapping = Mapping::parse(line).unwrap();
            code |= mapping.is_code && mapping.contains(here);
            count += 1;
        }
        assert!(code, "the mapping of this code");
        assert!(count > 10, "{count} mappings");
    }
}

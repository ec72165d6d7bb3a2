//! Reads `/proc` (proc(5)). Nothing here allocates, since the poll tier uses it.

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::time::Duration;

use super::super::{Stat, WATCHER_NAME, nap};
use super::numbers::Numbers;
use super::pieces::Pieces;
use super::{disposition, errno, is_absent, own_pid};

/// The inode of the PID namespace that the system booted with: `PROC_PID_INIT_INO` of the kernel's
/// `include/linux/proc_ns.h`. It is stable since Linux 3.8: CRIU and systemd rely on it.
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether a polled process is dead: no process has its id, another process has it, or it is a zombie without a running
/// thread. If `/proc` cannot be read, it counts as alive.
pub(crate) fn looks_gone(pid: i32, start: Option<u64>) -> bool {
    if is_absent(pid) {
        return true;
    }
    let Some(stat) = stat(pid) else { return false };
    let gone = stat.has_ended() || start.is_some_and(|start| stat.start != start);
    // Checked again here: the program may have mounted another `/proc` since arming, and must not die of that.
    gone && procfs_is_ours()
}

/// Reads `/proc/PID/stat`. Only valid if `/proc` is that of our own PID namespace.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let path = Path::new(format_args!("/proc/{pid}/stat"));
    let path = path.as_c_str()?;
    // An exec from a thread that is not the main thread replaces the task behind the process id (`de_thread` of the
    // kernel's fs/exec.c). A read of the old task fails, and the next read may coincide with another exec.
    for _ in 0..16 {
        let stat = read_stat(path);
        if stat.is_some() || is_absent(pid) {
            return stat;
        }
    }
    None
}

/// When this process started, in clock ticks since boot.
pub(crate) fn own_start_time() -> Option<u64> {
    read_stat(c"/proc/self/stat").map(|stat| stat.start)
}

/// The inode of our PID namespace (namespaces(7)).
pub(crate) fn pid_namespace() -> Option<u64> {
    inode(c"/proc/self/ns/pid")
}

/// Whether `/proc` shows start times by the clock of the initial time namespace (time_namespaces(7), Linux 5.6).
/// Without time namespaces it does. In another time namespace start times differ from those in the tokens.
pub(crate) fn clock_is_initial() -> bool {
    /// `PROC_TIME_INIT_INO` of `include/linux/proc_ns.h`.
    const INITIAL: u64 = 0xEFFF_FFFA;
    // Not `/proc/self`: once the main thread has ended, the link cannot be read there.
    inode(c"/proc/thread-self/ns/time").is_none_or(|inode| inode == INITIAL)
}

/// Whether new children of this process are in its PID namespace. They are not after `unshare(CLONE_NEWPID)`
/// (unshare(2)).
pub(crate) fn forks_in_its_own_pid_namespace() -> bool {
    const CHILDREN: &CStr = c"/proc/self/ns/pid_for_children";
    if let Some(children) = inode(CHILDREN) {
        return Some(children) == pid_namespace();
    }
    // In a new namespace without a process the link exists, but leads nowhere. Before Linux 4.12 there is no link.
    let link = open(CHILDREN, libc::O_PATH | libc::O_NOFOLLOW);
    if let Some(link) = link {
        // SAFETY: opened above and no longer used.
        unsafe { libc::close(link) };
    }
    link.is_none()
}

/// Whether `/proc` is that of our PID namespace. A `/proc` mounted in another one has other process ids. The `NSpid`
/// line (Linux 4.1) has one id for each namespace from that of the mount down to ours. So it must be a single id.
pub(crate) fn procfs_is_ours() -> bool {
    let is_own = |numbers: &[u8]| {
        let mut numbers = numbers.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let first = numbers.next().and_then(parse_integer);
        Some(first == u64::try_from(own_pid()).ok() && numbers.next().is_none())
    };
    status_line(c"/proc/self/status", b"NSpid:", is_own) == Some(true)
}

pub(super) fn exists(path: &CStr) -> bool {
    inode(path).is_some()
}

/// Whether the kernel lists the children of a process (`CONFIG_PROC_CHILDREN`).
pub(crate) fn children_are_listed() -> bool {
    exists(c"/proc/thread-self/children")
}

/// Calls `each` with every child of the process, including zombies, once or more. If a child ends meanwhile, others may
/// be missing.
pub(crate) fn children(pid: i32, mut each: impl FnMut(i32)) {
    find_thread_of(pid, |thread| {
        let path = Path::new(format_args!("/proc/{pid}/task/{thread}/children"));
        let mut words = path.as_c_str().and_then(Pieces::words);
        while let Some(word) = words.as_mut().and_then(Pieces::next) {
            if let Some(child) = parse_integer(word).and_then(|child| i32::try_from(child).ok()) {
                each(child);
            }
        }
        None::<()>
    });
}

/// The process ids in `/proc`.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    Numbers::of(c"/proc").into_iter().flatten()
}

/// The members of a process group. Looks at all processes, which is slow with thousands of them.
pub(crate) fn members(group: i32) -> impl Iterator<Item = i32> {
    processes().filter(move |pid| group_of(*pid) == Some(group))
}

/// getpgid(2) is much faster than `/proc/PID/stat`. A security module may refuse it.
fn group_of(pid: i32) -> Option<i32> {
    // SAFETY: a system call of an integer.
    let group = unsafe { libc::syscall(libc::SYS_getpgid, pid) };
    match i32::try_from(group) {
        Ok(group) if group >= 0 => Some(group),
        _ if errno() == libc::ESRCH => None,
        _ => stat(pid).map(|stat| stat.group),
    }
}

/// Asks about the threads of this process, the main thread first. Returns the first answer.
pub(crate) fn find_thread<T>(about: impl FnMut(i32) -> Option<T>) -> Option<T> {
    find_thread_in(c"/proc/self/task", about)
}

fn find_thread_of<T>(pid: i32, about: impl FnMut(i32) -> Option<T>) -> Option<T> {
    find_thread_in(Path::new(format_args!("/proc/{pid}/task")).as_c_str()?, about)
}

/// When a thread ends during a listing, the kernel may leave out others (`first_tid` and `next_tid` of its
/// fs/proc/base.c). So it is asked again until the next listing is the same, 16 times at most.
fn find_thread_in<T>(folder: &CStr, mut about: impl FnMut(i32) -> Option<T>) -> Option<T> {
    let and = |(count, sum): (u64, i64), thread: i32| (count + 1, sum + i64::from(thread));
    for _ in 0..16 {
        let mut listed = (0, 0);
        for thread in Numbers::of(folder)? {
            if let Some(answer) = about(thread) {
                return Some(answer);
            }
            listed = and(listed, thread);
        }
        if Numbers::of(folder)?.fold((0, 0), and) == listed {
            break;
        }
    }
    None
}

/// The id of that process's watcher thread, if it has one.
pub(crate) fn watcher_of(pid: i32) -> Option<i32> {
    find_thread_of(pid, |thread| {
        let mut buffer = [0; 16];
        let path = Path::new(format_args!("/proc/{pid}/task/{thread}/comm"));
        let name = read(path.as_c_str()?, &mut buffer)?;
        (name.strip_suffix(b"\n") == Some(WATCHER_NAME.to_bytes())).then_some(thread)
    })
}

/// Whether the process will not run on: each of its threads is exiting or has SIGKILL pending. A large process takes a
/// while to end. A thread that has just taken SIGKILL looks as if it ran on, for an instant.
pub(crate) fn is_ending(pid: i32) -> bool {
    let runs_on = |thread| {
        let path = Path::new(format_args!("/proc/{pid}/task/{thread}/stat"));
        let mut line = [0; 1024];
        let line = read(path.as_c_str()?, &mut line)?;
        let flags = field(line, 9).and_then(parse_integer)?;
        let pending = field(line, 31).and_then(parse_integer)?;
        (flags & PF_EXITING == 0 && pending & (1 << (libc::SIGKILL - 1)) == 0).then_some(())
    };
    find_thread_of(pid, runs_on).is_none() && stat(pid).is_some()
}

/// Whether a SIGTERM would end this process at once: its disposition is the default, and a thread would take it.
pub(crate) fn sigterm_ends_this_process() -> bool {
    disposition(libc::SIGTERM) == libc::SIG_DFL
        && find_thread(|thread| takes(thread, libc::SIGTERM).then_some(())).is_some()
}

/// Whether the thread would take the signal: it neither blocks the signal nor waits for it in sigwait(3). For an
/// instant after sigwait(3) has woken it, a thread neither blocks nor waits. So 16 looks, 1 ms apart, must agree.
fn takes(thread: i32, signal: i32) -> bool {
    (0..16).all(|look| {
        if look > 0 {
            nap(Duration::from_millis(1));
        }
        !blocks(thread, signal) && !waits_for_a_signal(thread)
    })
}

fn waits_for_a_signal(thread: i32) -> bool {
    let path = Path::new(format_args!("/proc/self/task/{thread}/syscall"));
    let mut words = path.as_c_str().and_then(Pieces::words);
    let call = words.as_mut().and_then(Pieces::next).and_then(parse_integer);
    call == u64::try_from(libc::SYS_rt_sigtimedwait).ok()
}

fn blocks(thread: i32, signal: i32) -> bool {
    let path = Path::new(format_args!("/proc/self/task/{thread}/status"));
    let mask = path.as_c_str().and_then(|path| {
        status_line(path, b"SigBlk:", |mask| {
            u64::from_str_radix(std::str::from_utf8(mask.trim_ascii()).ok()?, 16).ok()
        })
    });
    // Without a mask the thread has ended.
    mask.is_none_or(|mask| mask & 1 << (signal - 1) != 0)
}

/// Whether no seccomp filter is installed on this thread.
pub(super) fn is_unfiltered() -> bool {
    // SAFETY: only reads an attribute of this thread.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) == 0 }
}

/// The seccomp(2) mode of this process, 0 for none. `None` if it is not known.
#[cfg(feature = "doctor")]
pub(crate) fn seccomp_mode() -> Option<u64> {
    status_line(c"/proc/self/status", b"Seccomp:", |mode| parse_integer(mode.trim_ascii()))
}

/// Finds the line that begins with `key` and passes the rest of it to `read`.
pub(super) fn status_line<T>(
    path: &CStr,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<T> {
    let mut lines = Pieces::lines(path)?;
    loop {
        let line = lines.next()?;
        if let Some(value) = line.strip_prefix(key) {
            return read(value);
        }
    }
}

fn inode(path: &CStr) -> Option<u64> {
    Some(file_stat(path)?.st_ino)
}

pub(super) fn mode_of(path: &CStr) -> Option<libc::mode_t> {
    Some(file_stat(path)?.st_mode)
}

fn file_stat(path: &CStr) -> Option<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a C string, and a buffer that stat initialises when it succeeds.
    unsafe { (libc::stat(path.as_ptr(), stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }
}

/// Opens a file for reading. From here on all are raw system calls: a libc wrapper may touch memory that the reaper has
/// unmapped.
pub(super) fn open(path: &CStr, flags: i32) -> Option<i32> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | flags;
    // SAFETY: a C string. The caller closes the descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    i32::try_from(fd).ok().filter(|fd| *fd >= 0)
}

/// Reads the beginning of a file, as much as fits into the buffer.
fn read<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let fd = open(path, 0)?;
    // SAFETY: the buffer is valid for its length.
    let length = unsafe { libc::syscall(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) };
    // SAFETY: opened above.
    unsafe { libc::syscall(libc::SYS_close, fd) };
    usize::try_from(length).ok().and_then(|length| buffer.get(..length))
}

/// Whether the process is Python's or joblib's resource tracker, judged by its command line. The tracker ignores
/// SIGTERM and cleans `/dev/shm` once its last user is gone.
pub(crate) fn is_resource_tracker(pid: i32) -> bool {
    const COMMAND: &[u8] = b"resource_tracker import main";
    let mut buffer = [0; 2048];
    let length = command_line(pid, &mut buffer).unwrap_or(0);
    buffer.get(..length).is_some_and(|line| line.windows(COMMAND.len()).any(|it| it == COMMAND))
}

/// Reads the command line into the buffer. Returns how many bytes were read.
pub(crate) fn command_line(pid: i32, buffer: &mut [u8]) -> Option<usize> {
    let path = Path::new(format_args!("/proc/{pid}/cmdline"));
    read(path.as_c_str()?, buffer).map(|line| line.len())
}

fn read_stat(path: &CStr) -> Option<Stat> {
    parse_stat(read(path, &mut [0; 1024])?)
}

/// The second field of a line of `/proc/PID/stat`.
fn name(line: &[u8]) -> Option<&[u8]> {
    let begin = line.iter().position(|b| *b == b'(')? + 1;
    let end = line.iter().rposition(|b| *b == b')')?;
    line.get(begin..end)
}

/// A field of `/proc/self/stat`, counted as proc(5) does.
pub(super) fn stat_field(number: usize) -> Option<u64> {
    let mut line = [0; 1024];
    field(read(c"/proc/self/stat", &mut line)?, number).and_then(parse_integer)
}

/// A field from the third on.
fn field(line: &[u8], number: usize) -> Option<&[u8]> {
    fields_after_name(line)?.nth(number.checked_sub(3)?)
}

/// The fields of a `/proc/PID/stat` line from field 3 on. Field 2 is the program's name in parentheses, which may
/// itself contain a `)`. So the fields are counted from the last `)`.
fn fields_after_name(line: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let name_end = line.iter().rposition(|b| *b == b')')?;
    let fields = line.get(name_end + 1..)?.split(|b| *b == b' ' || *b == b'\n');
    Some(fields.filter(|field| !field.is_empty()))
}

/// A flag of a task, from the kernel's `include/linux/sched.h`. For the field, see proc(5).
const PF_EXITING: u64 = 4;

fn parse_stat(line: &[u8]) -> Option<Stat> {
    let mut fields = fields_after_name(line)?;
    let state = *fields.next()?.first()?;
    let parent = i32::try_from(parse_integer(fields.next()?)?).ok()?;
    let group = i32::try_from(parse_integer(fields.next()?)?).ok()?;
    let flags = parse_integer(fields.nth(3)?)?; // field 9
    let threads = parse_integer(fields.nth(10)?)?; // field 20
    let start = parse_integer(fields.nth(1)?)?; // field 22
    // The task was removed while the kernel wrote the line: it shows neither threads nor a parent.
    (threads > 0).then_some(Stat {
        parent,
        start,
        state,
        threads,
        is_exiting: flags & PF_EXITING != 0,
        group,
        is_reaper: name(line) == Some(WATCHER_NAME.to_bytes()),
    })
}

pub(super) fn parse_integer(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A path in a fixed buffer.
pub(super) struct Path {
    bytes: [u8; 64],
    len: usize,
}

impl Path {
    pub(super) fn new(text: fmt::Arguments<'_>) -> Path {
        let mut path = Path { bytes: [0; 64], len: 0 };
        // A path that does not fit lacks its NUL and is no C string below.
        let _ = path.write_fmt(text);
        path
    }

    pub(super) fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_are_counted_from_the_last_parenthesis() {
        let line =
            b"42 (a) R 1 (b) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 9 0 12345 99 1 2 3\n";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                parent: 7,
                start: 12345,
                state: b'S',
                threads: 9,
                is_exiting: false,
                group: 42,
                is_reaper: false,
            })
        );
        let line =
            b"42 (a) R 1 (b) R 7 42 42 0 -1 4194308 1 2 3 4 5 6 7 8 20 0 9 0 12345 99 1 2 3\n";
        assert!(parse_stat(line).unwrap().is_exiting);
        let line = b"42 (parent-watch) S 7 43 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 9 0 12345 99\n";
        let reaper = parse_stat(line).unwrap();
        assert_eq!((reaper.is_reaper, reaper.group), (true, 43));
    }

    #[test]
    fn a_zombie_is_a_member_of_its_group_until_it_is_reaped() {
        use std::os::unix::process::CommandExt;
        let sleep = std::process::Command::new("/bin/sleep").arg("60").process_group(0).spawn();
        let mut sleep = sleep.unwrap();
        let pid = i32::try_from(sleep.id()).unwrap();
        let found = || members(pid).collect::<Vec<_>>();
        let living = found();
        sleep.kill().unwrap();
        let killed = found();
        sleep.wait().unwrap();
        assert_eq!([living, killed, found()], [vec![pid], vec![pid], vec![]]);
    }

    /// The next test runs this one in a process of its own. Tests do not run on the main thread.
    #[test]
    #[ignore = "never ends"]
    fn execs_from_another_thread() {
        use std::os::unix::process::CommandExt;
        // Ends this process if the test ends first.
        // SAFETY: sets an attribute of this process.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let again =
            std::process::Command::new("/proc/self/exe").args(std::env::args().skip(1)).exec();
        unreachable!("{again}");
    }

    #[test]
    fn a_process_that_execs_from_another_thread_is_seen_in_every_look() {
        use std::io::{BufRead, BufReader};
        use std::sync::atomic::{AtomicUsize, Ordering};
        const EXECS: usize = 300;

        let name =
            format!("{}::execs_from_another_thread", module_path!().split_once("::").unwrap().1);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", &name, "--test-threads=2"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let pid = i32::try_from(child.id()).unwrap();
        let start = stat(pid).unwrap().start;
        let begun = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for line in output.lines().map_while(Result::ok) {
                    begun.fetch_add(usize::from(line == "running 1 test"), Ordering::Relaxed);
                }
            });
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(600);
            let mut lost = 0;
            while begun.load(Ordering::Relaxed) < EXECS && std::time::Instant::now() < deadline {
                let seen = stat(pid);
                lost += usize::from(!seen.is_some_and(|seen| {
                    (seen.start, seen.parent, seen.has_ended()) == (start, own_pid(), false)
                }));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(lost, 0, "looks that saw no process, or another one");
        });
        assert!(begun.into_inner() >= EXECS, "too few execs in time");
    }

    #[test]
    fn a_thread_that_calls_sigwait_in_a_loop_does_not_count_as_taking_the_signal() {
        use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
        let (id, is_over) = (AtomicI32::new(0), AtomicBool::new(false));
        // Not the main thread: it makes threads, and pthread_create(3) blocks all signals for a moment.
        // SAFETY: no arguments, no failure.
        assert!(takes(unsafe { libc::gettid() }, libc::SIGTERM));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let time = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
                let mut set = MaybeUninit::<libc::sigset_t>::uninit();
                // SAFETY: the set is made here, for this thread only.
                unsafe {
                    libc::sigemptyset(set.as_mut_ptr());
                    libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
                    libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
                    id.store(libc::gettid(), Ordering::SeqCst);
                    while !is_over.load(Ordering::SeqCst) {
                        libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), &raw const time);
                    }
                }
            });
            while id.load(Ordering::SeqCst) == 0 {
                nap(Duration::from_millis(1));
            }
            let wrong = (0..2_000).filter(|_| takes(id.load(Ordering::SeqCst), libc::SIGTERM));
            let wrong = wrong.count();
            is_over.store(true, Ordering::SeqCst);
            // It may be without a processor through all looks. With one look there were 10 to 221.
            assert!(wrong < 4, "{wrong} times the thread seems to take the signal");
        });
        assert!(!takes(i32::MAX, libc::SIGTERM), "a thread that does not exist");
    }

    #[test]
    fn a_killed_process_is_ending() {
        assert!(!is_ending(own_pid()));
        let mut sleep = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(sleep.id()).unwrap();
        assert!(!is_ending(pid));
        sleep.kill().unwrap();
        // For an instant, it has taken the signal and is not yet exiting.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !is_ending(pid) {
            assert!(std::time::Instant::now() < deadline, "it ends");
            nap(Duration::from_millis(1));
        }
        sleep.wait().unwrap();
        assert!(!is_ending(pid), "nobody has that id");
    }

    #[test]
    fn a_thread_is_found_while_others_end() {
        use std::sync::mpsc;
        let (ids, started) = mpsc::channel();
        let begin = || {
            let (end, ended) = mpsc::channel::<()>();
            let ids = ids.clone();
            let thread = std::thread::spawn(move || {
                // SAFETY: no arguments, no failure.
                ids.send(unsafe { libc::gettid() }).unwrap();
                ended.recv().unwrap_err();
            });
            (end, thread)
        };
        let mut first: Vec<_> = (0..100).map(|_| begin()).collect();
        started.iter().take(100).for_each(drop);
        let _last = begin();
        let last = started.recv().unwrap();
        // The first ones end once the kernel has listed about forty threads.
        let mut listed = 0;
        let found = find_thread(|thread| {
            listed += 1;
            if listed == 30 {
                for (end, thread) in first.drain(..) {
                    drop(end);
                    thread.join().unwrap();
                }
            }
            (thread == last).then_some(())
        });
        assert_eq!(found, Some(()));
    }

    #[test]
    fn this_process_is_in_its_group_and_is_no_resource_tracker() {
        assert_eq!(stat(own_pid()).unwrap().group, super::super::process_group());
        assert_eq!(stat(0), None, "/proc/0 does not exist");
        assert!(!is_resource_tracker(own_pid()));
    }

    #[test]
    fn a_resource_tracker_is_recognised_by_its_command_line() {
        let command = "from multiprocessing.resource_tracker import main;main(5)";
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read line", command])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // For an instant after an exec, a process has no command line.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !is_resource_tracker(pid) {
            assert!(std::time::Instant::now() < deadline, "it is not recognised");
            nap(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_malformed_stat_line_is_rejected() {
        let of_a_removed_task =
            b"42 (x) X 0 -1 -1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 0 0 12345 99 1 2 3\n";
        let cut = [&b""[..], b")", b"42 (x", b"42 (x) S", b"42 (x) S a b", b"42 (x) S -1 1"];
        for line in cut.into_iter().chain([&of_a_removed_task[..]]) {
            assert_eq!(parse_stat(line), None, "{line:?}");
        }
    }

    #[test]
    fn proc_and_the_system_calls_agree_about_this_process() {
        let stat = stat(own_pid()).unwrap();
        assert_eq!(stat.parent, super::super::parent_pid());
        assert_eq!(Some(stat.start), own_start_time());
        assert!(!stat.has_ended());
        assert!(stat.threads >= 2, "the test runner's main thread and this one");
        assert!(procfs_is_ours());
        assert!(!looks_gone(own_pid(), Some(stat.start)));
        assert!(looks_gone(own_pid(), Some(stat.start + 1)), "another process with the same id");
    }

    #[test]
    fn a_zombie_looks_gone_and_its_pidfd_is_readable() {
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start = stat(pid).unwrap().start;
        let handle = super::super::Pidfd::open(pid);
        assert!(!looks_gone(pid, Some(start)));
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !looks_gone(pid, Some(start)) {
            assert!(std::time::Instant::now() < deadline, "a zombie must look gone");
            nap(Duration::from_millis(1));
        }
        assert!(!is_absent(pid), "a zombie that is not reaped keeps its id");
        if let Ok(handle) = handle {
            assert!(handle.is_readable());
        }
        child.wait().unwrap();
        assert!(is_absent(pid));
    }
}

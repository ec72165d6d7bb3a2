//! Reads the lines or words of a file through a fixed buffer. Allocates nothing and needs little stack.

use std::ffi::CStr;

use super::procfs::open;

pub(super) struct Pieces {
    fd: i32,
    separator: u8,
    buffer: [u8; 1024],
    begin: usize,
    end: usize,
}

impl Pieces {
    pub(super) fn lines(path: &CStr) -> Option<Pieces> {
        Pieces::of(path, b'\n')
    }

    pub(super) fn words(path: &CStr) -> Option<Pieces> {
        Pieces::of(path, b' ')
    }

    fn of(path: &CStr, separator: u8) -> Option<Pieces> {
        let fd = open(path, 0)?;
        Some(Pieces { fd, separator, buffer: [0; 1024], begin: 0, end: 0 })
    }

    /// The next piece, without its separator. A piece longer than the buffer (1 KiB) comes in parts.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let rest = self.buffer.get(self.begin..self.end)?;
            let begin = self.begin;
            if let Some(length) = rest.iter().position(|b| *b == self.separator) {
                self.begin += length + 1;
                return self.buffer.get(begin..begin + length);
            }
            if rest.len() == self.buffer.len() {
                self.begin = self.end;
                return self.buffer.get(begin..);
            }
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
            let room = self.buffer.get_mut(self.end..)?;
            // The raw system call: a libc wrapper may touch memory that the reaper has unmapped.
            // SAFETY: the room is valid for its length.
            let got =
                unsafe { libc::syscall(libc::SYS_read, self.fd, room.as_mut_ptr(), room.len()) };
            self.end += usize::try_from(got).ok().filter(|got| *got > 0)?;
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { libc::syscall(libc::SYS_close, self.fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::Pieces;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;

    fn lines_of(content: &[u8]) -> Vec<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let path = std::ffi::CString::new(file.path().as_os_str().as_bytes()).unwrap();
        let mut lines = Pieces::lines(&path).unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            found.push(line.to_vec());
        }
        found
    }

    #[test]
    fn lines_come_whole_wherever_the_buffer_ends() {
        for length in [0, 1, 500, 1022, 1023] {
            let line = vec![b'x'; length];
            let content = [&line[..], b"\n"].concat().repeat(9);
            assert_eq!(lines_of(&content), vec![line; 9], "{length}");
        }
    }

    #[test]
    fn a_line_that_does_not_fit_comes_in_parts_and_the_next_one_whole() {
        let content = [b"first\n".to_vec(), vec![b'x'; 5000], b"\nlast\n".to_vec()].concat();
        let lines = lines_of(&content);
        assert_eq!(
            (lines.first().unwrap(), lines.last().unwrap()),
            (&b"first".to_vec(), &b"last".to_vec())
        );
        let between = &lines[1..lines.len() - 1];
        assert!(between.iter().all(|part| part.iter().all(|b| *b == b'x')));
        assert_eq!(between.concat().len(), 5000);
    }

    #[test]
    fn a_missing_file_and_an_empty_file_have_no_lines() {
        assert!(Pieces::lines(c"/nowhere").is_none());
        assert_eq!(lines_of(b""), Vec::<Vec<u8>>::new());
    }
}

//! One line of text in a fixed buffer. The dying path must not take the allocator's lock, so nothing is allocated.

use std::fmt;

use crate::state::Tier;

/// The longest line, its line feed included. Longer text is cut. It is below `PIPE_BUF` (4096, pipe(7)), so that a line
/// reaches a pipe whole or not at all.
const CAPACITY: usize = 768;

pub(crate) struct Line {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Line {
    /// Formats one line. It ends with a line feed, even when it was cut.
    pub(crate) fn new(text: fmt::Arguments<'_>) -> Line {
        let mut line = Line { bytes: [0; CAPACITY], len: 0 };
        // `write_str` never fails; it cuts.
        let _ = fmt::Write::write_fmt(&mut line, text);
        if let Some(end) = line.bytes.get_mut(line.len) {
            *end = b'\n';
            line.len += 1;
        }
        line
    }

    /// The last line of a worker whose supervisor or parent is gone.
    pub(crate) fn gone(pid: i32, is_named: bool, worker: i32, seen: Tier) -> Line {
        let who = if is_named { "supervisor" } else { "parent" };
        let seen = match seen {
            Tier::None => "arming",
            Tier::Event => "event",
            Tier::Poll => "poll",
        };
        Line::new(format_args!(
            "localai-parentwatch: {who} {pid} is gone, worker {worker} exits ({seen})"
        ))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // one byte stays free for the line feed
        if let Some(room) = self.bytes.get_mut(self.len..CAPACITY - 1) {
            let taken = room.len().min(text.len());
            for (to, from) in room.iter_mut().zip(text.bytes()) {
                *to = from;
            }
            self.len += taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, Line};

    #[test]
    fn ends_with_one_line_feed() {
        assert_eq!(Line::new(format_args!("worker {}", 7)).as_bytes(), b"worker 7\n");
    }

    #[test]
    fn what_is_too_long_is_cut_and_still_a_line() {
        let long = "x".repeat(3 * CAPACITY);
        let line = Line::new(format_args!("{long}{long}"));
        assert_eq!(line.as_bytes().len(), CAPACITY);
        assert_eq!(line.as_bytes().last(), Some(&b'\n'));
        assert_eq!(line.as_bytes().iter().filter(|b| **b == b'\n').count(), 1);
    }
}

//! Who wrote a file last, as far as its flushes show: with passthrough the daemon sees no write, only what the file
//! looks like each time that somebody closes a descriptor of it.

use crate::model::FileTime;

/// What shows that content has changed: size in bytes, and modification time.
pub type Looks = (u64, FileTime);

/// Who closes a descriptor, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flusher {
    /// A living process; its number, if known.
    Living(Option<u32>),
    /// One that ends by itself; `wrote`: it may have written.
    Ended {
        /// Whether it may have written anything since it was forked.
        wrote: bool,
    },
    /// One that dies of a signal.
    Killed {
        /// Its number, if known.
        process: Option<u32>,
        /// Whether it may have written anything since it was forked.
        wrote: bool,
    },
    /// Whoever closed it, the backing file system has no room left and the content ends where room would end.
    WithoutRoom,
}

/// What is known of who wrote last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Writing {
    /// What the file looked like at the last flush, or when its first writer came.
    seen: Option<Looks>,
    /// What the file looked like when somebody who may have written was last done with it. What differs from that may be
    /// the work of whoever dies next.
    settled: Option<Looks>,
    /// Who was last done with it while he lived, and what `settled` was before him: his own close does not excuse him.
    by: Option<(u32, Option<Looks>)>,
    /// A process that was killed wrote last.
    torn: bool,
    /// Where the first write that found no room began.
    no_room: Option<u64>,
}

impl Writing {
    /// Of a file that a killed process wrote last; what it looked like then is not known.
    pub fn torn() -> Self {
        Writing { torn: true, ..Writing::default() }
    }

    /// Whether it is torn, if nobody writes any more.
    pub fn is_torn(&self) -> bool {
        self.torn || self.no_room.is_some()
    }

    /// Whether nobody has written since the last flush, and nobody can be blamed for what was written before.
    pub fn is_as_seen(&self, content: Looks) -> bool {
        self.seen == Some(content) && !self.may_be_blamed()
    }

    /// Whether content stands in it whose writer may still die of a signal.
    pub fn may_be_blamed(&self) -> bool {
        self.seen.is_none() || self.settled != self.seen || self.by.is_some()
    }

    /// The first writer has come.
    pub fn begins_with(&mut self, content: Looks) {
        *self =
            Writing { torn: self.torn, seen: Some(content), settled: Some(content), ..Writing::default() };
    }

    /// Somebody closed a descriptor; `opener` is the process that opened the handle.
    pub fn flushed(&mut self, content: Looks, by: &Flusher, opener: Option<u32>) {
        let is_new = self.seen != Some(content);
        self.seen = Some(content);
        match *by {
            Flusher::Killed { process, wrote } => {
                let since = match self.by {
                    Some((last, before)) if process == Some(last) => before,
                    _ => self.settled,
                };
                if wrote && since != Some(content) {
                    self.torn = true;
                    (self.settled, self.by) = (Some(content), None);
                }
            }
            Flusher::WithoutRoom => {
                self.torn |= is_new;
                (self.settled, self.by) = (Some(content), None);
            }
            Flusher::Ended { wrote } => {
                self.torn &= !is_new;
                // What it did not write is still somebody else's work.
                if wrote {
                    (self.settled, self.by) = (Some(content), None);
                }
            }
            Flusher::Living(process) => {
                self.torn &= !is_new;
                // Another than who opened it closes what it inherited, most often on its way to another program.
                if let Some(process) =
                    process.filter(|process| opener.is_none_or(|opener| opener == *process))
                {
                    let before = match self.by {
                        Some((last, before)) if last == process => before,
                        _ => self.settled,
                    };
                    (self.settled, self.by) = (Some(content), Some((process, before)));
                }
            }
        }
    }

    /// The content is the same, but it looks different.
    pub fn looks_changed(&mut self, before: Looks, after: Looks) {
        for content in [&mut self.seen, &mut self.settled] {
            if *content == Some(before) {
                *content = Some(after);
            }
        }
    }

    /// A write at `offset` found no room.
    pub fn found_no_room(&mut self, offset: u64) {
        self.no_room = Some(self.no_room.map_or(offset, |first| first.min(offset)));
    }

    /// `length` bytes were written at `offset`: if those that found no room are among them, somebody tried again.
    pub fn wrote(&mut self, offset: u64, length: u64) {
        if self.no_room.is_some_and(|first| (offset..offset.saturating_add(length)).contains(&first)) {
            self.no_room = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(size: u64) -> Looks {
        (size, FileTime { seconds: 0, nanos: 0 })
    }

    fn torn(flushes: &[(u64, Flusher)]) -> bool {
        let mut writing = Writing::default();
        writing.begins_with(content(0));
        for (size, by) in flushes {
            writing.flushed(content(*size), by, Some(1));
        }
        writing.is_torn()
    }

    #[test]
    fn who_wrote_last_tears() {
        let killed = |process, wrote| Flusher::Killed { process: Some(process), wrote };
        let living = |process| Flusher::Living(Some(process));
        let ended = |wrote| Flusher::Ended { wrote };
        for (flushes, expected, what) in [
            (
                &[(4, killed(2, true)), (4, living(1))][..],
                true,
                "a child wrote and was killed, its parent lives",
            ),
            (&[(4, killed(2, true)), (9, living(1))], false, "its parent wrote on"),
            (&[(4, living(2)), (4, killed(1, true))], true, "a child closes what it inherited"),
            (&[(4, ended(false)), (4, killed(1, true))], true, "a child that wrote nothing ends"),
            (&[(4, ended(true)), (4, killed(1, true))], false, "a child wrote all of it and ended"),
            (&[(4, living(1)), (4, killed(1, true))], true, "its own close does not excuse it"),
            (&[(4, living(1)), (4, killed(2, true))], false, "the writer was done, a bystander is killed"),
            (&[(4, killed(2, false)), (4, ended(true))], false, "a bystander wrote nothing"),
            (&[(0, killed(1, true))], false, "nothing was written"),
        ] {
            assert_eq!(torn(flushes), expected, "{what}");
        }
    }

    #[test]
    fn a_write_that_found_no_room_is_forgiven_when_it_succeeds_later() {
        let mut writing = Writing::default();
        writing.found_no_room(4096);
        writing.wrote(0, 4096);
        assert!(writing.is_torn());
        writing.wrote(0, 4097);
        assert!(!writing.is_torn());
    }
}

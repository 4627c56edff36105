//! What open handles keep in memory beside themselves: listings of folders, and content that is made here. One user can
//! open the same large folder a thousand times; so what is kept is counted, in all and by user.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Fault;

/// Most bytes that the handles of one user keep. Root is not bounded: nobody can lock it out.
const EACH_MAX: usize = 256 << 20;
/// Most bytes that the handles of all users but root keep.
const ALL_MAX: usize = 1 << 30;

/// What is kept, by user.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<HashMap<u32, usize>>>);

/// A part of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    kept: Kept,
    uid: u32,
    bytes: usize,
}

impl Kept {
    /// Room for so many bytes that a handle of this user keeps.
    ///
    /// # Errors
    /// `ENFILE` if the user, or all users together, keep too many.
    pub fn room(&self, uid: u32, bytes: usize) -> Result<Share, Fault> {
        self.room_within(uid, bytes, EACH_MAX, ALL_MAX)
    }

    fn room_within(&self, uid: u32, bytes: usize, each: usize, all: usize) -> Result<Share, Fault> {
        let mut kept = self.0.lock();
        if uid != 0 {
            let own = kept.get(&uid).copied().unwrap_or(0);
            let others: usize = kept.iter().filter(|(user, _)| **user != 0).map(|(_, bytes)| bytes).sum();
            // Whatever is asked for alone is given: a folder may be larger than the bound.
            if own > 0 && own + bytes > each || others > 0 && others + bytes > all {
                return Err(Fault::Io(std::io::Error::from_raw_os_error(libc::ENFILE)));
            }
        }
        *kept.entry(uid).or_default() += bytes;
        Ok(Share { kept: self.clone(), uid, bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut kept = self.kept.0.lock();
        if let Some(bytes) = kept.get_mut(&self.uid) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                kept.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_keeps_so_much_and_all_users_so_much() {
        let kept = Kept::default();
        let take = |uid, bytes| kept.room_within(uid, bytes, 100, 250);
        // Ten times the bound.
        let own: Vec<Share> = (0..100).filter_map(|_| take(1000, 10).ok()).collect();
        assert_eq!(own.len(), 10);
        let others: Vec<Share> = (1001..1100).filter_map(|uid| take(uid, 10).ok()).collect();
        assert_eq!(others.len(), 15, "of all users");
        assert!(take(0, 1000).is_ok(), "root is not bounded");
        assert!(take(1100, 1).is_err());
        drop(own);
        let large = take(1000, 99).unwrap();
        assert!(take(1000, 2).is_err());
        drop((large, others));
        assert!(take(5, 1000).is_ok(), "one folder may be larger than the bound");
        assert!(kept.0.lock().is_empty());
    }
}

//! Who asks for attributes of what was listed.
//!
//! The kernel asks for the first names of a folder with their attributes, whatever for. Attributes cost a look at each
//! file and at the index: where only names are wanted, as by `find -name` or a shell's `*`, ten times as much as the
//! names. So a thread is given names alone, until it has asked for the attributes of most that it was given (`ls -l`,
//! `tar`, `rsync`): then attributes come with the names of the next folders that it lists.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Threads remembered.
const KEPT: usize = 1024;
/// Folders that have so few names are told of with attributes: these cost less than to be asked again.
pub(super) const FEW: usize = 4;
/// Look-ups in a folder, if it has as many names, that show a habit.
const SHOWN: usize = 8;
/// Folders for which a habit is believed without another look.
const BELIEVED: u32 = 64;

#[derive(Default)]
struct Habit {
    /// The folder that was listed last by names alone, the names in it, and those looked up since.
    folder: u64,
    names: usize,
    looked_up: usize,
    believed: u32,
}

/// Habits by thread.
#[derive(Default)]
pub(super) struct Habits(Mutex<HashMap<u32, Habit>>);

impl Habits {
    /// A thread begins to list a folder with so many names; answers whether attributes are to come with them.
    pub fn lists(&self, thread: u32, folder: u64, names: usize) -> bool {
        if names <= FEW {
            return true;
        }
        let mut habits = self.0.lock();
        if habits.len() >= KEPT && !habits.contains_key(&thread) {
            habits.clear();
        }
        let habit = habits.entry(thread).or_default();
        if habit.believed > 0 {
            habit.believed -= 1;
            return true;
        }
        (habit.folder, habit.names, habit.looked_up) = (folder, names, 0);
        false
    }

    /// A thread looks up a name in a folder.
    pub fn looks_up(&self, thread: u32, folder: u64) {
        let mut habits = self.0.lock();
        let Some(habit) = habits.get_mut(&thread) else { return };
        if habit.folder == folder {
            habit.looked_up += 1;
            if habit.looked_up == SHOWN.min(habit.names) {
                habit.believed = BELIEVED;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_with_the_names_to_who_asks_for_them() {
        let habits = Habits::default();
        assert!(habits.lists(1, 10, FEW));
        assert!(!habits.lists(1, 10, 1000));
        assert!(!habits.lists(2, 10, 1000));
        for _ in 0..SHOWN {
            assert!(!habits.lists(3, 9, 1000));
            habits.looks_up(1, 10);
            habits.looks_up(3, 10);
        }
        for folder in 11..11 + u64::from(BELIEVED) {
            assert!(habits.lists(1, folder, 1000));
        }
        assert!(!habits.lists(1, 100, 1000), "looked at again");
        assert!(!habits.lists(2, 11, 1000) && !habits.lists(3, 11, 1000));
        // A folder that has fewer.
        assert!(!habits.lists(4, 12, 6));
        (0..6).for_each(|_| habits.looks_up(4, 12));
        assert!(habits.lists(4, 13, 1000));
        for thread in 5..3000 {
            habits.lists(thread, 1, 1000);
        }
        assert!(habits.0.lock().len() <= KEPT);
    }
}

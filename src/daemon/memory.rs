//! Memory that is not needed any more goes back to the system.

/// Entries from which on it matters.
const MANY: usize = 50_000;

/// Watches how many inodes the kernel knows: the allocator keeps what a million of them needed, scattered, until it is
/// asked to give it back.
#[derive(Debug, Default)]
pub struct Memory {
    most: usize,
}

impl Memory {
    /// So many are known now. Called about once a second.
    pub fn known(&mut self, count: usize) {
        self.most = self.most.max(count);
        if self.most < MANY || count > self.most / 2 {
            return;
        }
        self.most = count;
        give_back();
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: malloc_trim(3) may be called by any thread at any time; it only gives free pages back.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

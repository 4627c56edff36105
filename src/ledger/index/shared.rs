//! SQLite's shared memory, allocated before it is mapped.
//!
//! `index.db-shm` is a file that SQLite extends by one byte in every 4 KiB and then writes to through a mapping.
//! Where the file system's blocks are smaller the rest are holes, and on a full disk a write into one is answered by
//! SIGBUS: the end of the process. So the blocks are allocated first; where there are none, the mapping fails as
//! any call may fail, and SQLite says so.

use std::ffi::c_void;
use std::sync::Once;

use libc::{c_int, off64_t, size_t};
use rusqlite::ffi;

static ONCE: Once = Once::new();

type Mmap = unsafe extern "C" fn(*mut c_void, size_t, c_int, c_int, c_int, off64_t) -> *mut c_void;

/// Has SQLite in this process map shared memory that way; before a connection is opened.
pub fn install() {
    ONCE.call_once(|| {
        let ours: Mmap = map_allocated;
        // SAFETY: SQLite calls it as it calls mmap, whose type it has; all functions have the same size.
        let ours = unsafe { std::mem::transmute::<Mmap, unsafe extern "C" fn()>(ours) };
        // SAFETY: the default VFS is a static of SQLite, which was built with this program; the call is that of its
        // own interface, with a name that ends in NUL, and comes before any connection of this process.
        let done = unsafe {
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            match vfs.as_ref().and_then(|vfs| vfs.xSetSystemCall) {
                Some(set) => set(vfs, c"mmap".as_ptr(), Some(ours)),
                None => ffi::SQLITE_NOTFOUND,
            }
        };
        if done != ffi::SQLITE_OK {
            tracing::warn!(code = done, "SQLite's shared memory is not allocated ahead");
        }
    });
}

unsafe extern "C" fn map_allocated(
    at: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: off64_t,
) -> *mut c_void {
    if protection & libc::PROT_WRITE != 0
        && flags & libc::MAP_SHARED != 0
        && let Ok(size) = off64_t::try_from(length)
    {
        // SAFETY: numbers only; the descriptor is SQLite's, open through the call.
        while unsafe { libc::fallocate64(file, 0, offset, size) } != 0 {
            match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                // With the reason in errno, as mmap.
                Some(libc::ENOSPC | libc::EDQUOT) => return libc::MAP_FAILED,
                // Not offered there.
                _ => break,
            }
        }
    }
    // SAFETY: SQLite's own arguments, passed on.
    unsafe { libc::mmap64(at, length, protection, flags, file, offset) }
}

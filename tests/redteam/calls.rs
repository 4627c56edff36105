//! System calls that attackers use and that have no safe name.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn answer(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

/// `fallocate(2)` with any mode.
pub fn fallocate(file: impl AsFd, mode: i32, offset: i64, length: i64) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::fallocate(file.as_fd().as_raw_fd(), mode, offset, length) };
    answer(result.into()).map(drop)
}

/// `ioctl(2)` with an argument that it reads and writes.
pub fn ioctl<T>(file: impl AsFd, request: u64, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller gives the type that the request reads and writes.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request, std::ptr::from_mut(argument)) };
    answer(result.into()).map(drop)
}

/// `linkat(2)` with any flags.
pub fn linkat(from: impl AsFd, name: &str, to: &Path, flags: i32) -> io::Result<()> {
    let (name, to) = (CString::new(name).expect("no NUL"), text(to));
    // SAFETY: both strings live through the call.
    let result =
        unsafe { libc::linkat(from.as_fd().as_raw_fd(), name.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    answer(result.into()).map(drop)
}

/// A file handle as the kernel has it.
#[repr(C)]
#[derive(Clone)]
pub struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

/// `name_to_handle_at(2)`.
pub fn handle_of(path: &Path) -> io::Result<Handle> {
    let (path, mut handle, mut mount) = (text(path), Handle { bytes: 128, kind: 0, data: [0; 128] }, 0i32);
    // SAFETY: the string lives through the call; the handle has room for the bytes that it says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    };
    answer(result).map(|_| handle)
}

/// `open_by_handle_at(2)`; `place`: anything on the same mount.
pub fn open_handle(place: impl AsFd, handle: &Handle, flags: i32) -> io::Result<OwnedFd> {
    let mut handle = handle.clone();
    // SAFETY: the handle lives through the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, place.as_fd().as_raw_fd(), &raw mut handle, flags)
    };
    // SAFETY: a descriptor that the kernel has just given us is ours.
    answer(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) })
}

/// A mapping of a file, taken away on drop.
pub struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// `mmap(2)` of the first bytes; `shared` or private.
    pub fn of(file: impl AsFd, length: usize, write: bool, shared: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        let flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Mapping { start, length })
        }
    }

    /// Makes it writable, if the kernel allows.
    pub fn make_writable(&self) -> io::Result<()> {
        // SAFETY: the range is ours.
        let result = unsafe { libc::mprotect(self.start, self.length, libc::PROT_READ | libc::PROT_WRITE) };
        answer(result.into()).map(drop)
    }

    /// Writes at an offset. It must be writable.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length);
        // SAFETY: inside the mapping, which is writable; nothing else of this process refers to it.
        unsafe {
            let to = self.start.cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Copies it out.
    pub fn read(&self) -> Vec<u8> {
        // SAFETY: the whole mapping is readable, and copied at once.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.length) }.to_vec()
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.start as u64
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

/// `splice(2)` of a few bytes from a pipe to the start of a file, or from the start of a file to a pipe.
pub fn splice(from: impl AsFd, to: impl AsFd, into_file: bool, length: usize) -> io::Result<()> {
    let mut start = 0i64;
    let (none, at) = (std::ptr::null_mut(), &raw mut start);
    let (off_in, off_out) = if into_file { (none, at) } else { (at, none) };
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: the offset lives through the call.
    let done = unsafe { libc::splice(from, off_in, to, off_out, length, 0) };
    answer(i64::try_from(done).unwrap_or(-1)).map(drop)
}

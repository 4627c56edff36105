//! What root's power is kept of: only what serving a store needs.

use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set};

/// What is kept, and what for.
const KEPT: [CapabilitySet; 10] = [
    // Mount, unmount, register backing files.
    CapabilitySet::SYS_ADMIN,
    // The immutable flag.
    CapabilitySet::LINUX_IMMUTABLE,
    // Read leases on files of others.
    CapabilitySet::LEASE,
    // See who writes, and how writers end.
    CapabilitySet::SYS_PTRACE,
    // Store and read files of any owner and mode; the kernel has checked the caller's right (default_permissions).
    CapabilitySet::DAC_OVERRIDE,
    // Give what is made to who made it.
    CapabilitySet::CHOWN,
    // Modes, times and flags of others' files, on their behalf.
    CapabilitySet::FOWNER,
    // The set-group-id bit of folders, where the group is not ours.
    CapabilitySet::FSETID,
    // Write on behalf of others as a user without privileges ([`crate::store::room`]).
    CapabilitySet::SETUID,
    // End and replace workers also after a change of their credentials by a security module.
    CapabilitySet::KILL,
];

/// Drops everything else, for this process and all that it starts. Among it CAP_SYS_RESOURCE: what writers write
/// through the kernel's passthrough runs with these capabilities, and would fill the room that the backing file
/// system reserves for root (for user 0 even without it: [`crate::store::room`]). Before any thread is
/// started: capabilities belong to threads.
///
/// # Errors
/// What the kernel says. Who has none to drop succeeds.
pub fn drop_most() -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        // fusermount3 is set-user-id: no_new_privs would take the mount away.
        return Ok(());
    }
    // A file system may keep room for a group (`resgid=` of ext4), and those of whoever started us are of no use. Who has
    // lost the right to give them up has done so before.
    let _ = rustix::thread::set_thread_groups(&[]);
    let kept = KEPT.into_iter().fold(CapabilitySet::empty(), CapabilitySet::union);
    let now = rustix::thread::capabilities(None)?;
    if now.permitted.contains(CapabilitySet::SETPCAP) {
        for gone in CapabilitySet::all().difference(kept).iter() {
            match remove_capability_from_bounding_set(gone) {
                // One that this kernel does not have.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let left = now.permitted.intersection(kept);
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

//! A full disk behind a mapping, where data goes through the daemon: what the kernel could not write stays in its
//! cache, and must not be what readers of the sealed file see.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use super::calls::Mapping;
use super::harness::{self, Mount, SLOW, run, scratch, xattr};
use super::scene::{Data, Seen, Table, check};

/// A small ext4 file system in a file.
struct Small {
    dir: PathBuf,
    at: PathBuf,
}

impl Small {
    fn new() -> Self {
        let dir = scratch("full-mapped");
        let small = Small { at: dir.join("small"), dir };
        fs::create_dir(&small.at).expect("folder");
        let image = small.dir.join("image");
        run(Command::new("truncate").args(["-s", "32M"]).arg(&image));
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-m", "0"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&small.at));
        small
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
        harness::remove(&self.dir);
    }
}

pub fn attacks(table: &mut Table) {
    for data in Data::BOTH {
        let name = "a mapping written to on a full disk, then sealed";
        table.add(name, &format!("root, {}", data.word()), mapped(data));
    }
}

fn mapped(data: Data) -> Seen {
    const SIZE: usize = 1 << 20;
    let small = Small::new();
    let mount = Mount::with_store(&small.dir.join("mounted"), &small.at.join("store"), SLOW, data.options());
    let path = mount.path("f");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("create");
    file.set_len(SIZE as u64).expect("ftruncate");
    // Somebody reads it from before the seal on.
    let reader = File::open(&path).expect("open");
    let mapping = Mapping::of(&file, SIZE, true, true).expect("mmap");
    drop(file);
    if data == Data::Daemon {
        // The pages get dirty, and have no blocks.
        mapping.write(0, &vec![b'X'; SIZE]);
    }
    // All but what the index needs is gone.
    let free = 1 << 20;
    let statfs = rustix::fs::statvfs(&small.at).expect("statvfs");
    let fill = File::create(small.at.join("fill")).expect("create");
    let bytes = (statfs.f_bavail * statfs.f_frsize).saturating_sub(free / 2);
    rustix::fs::fallocate(&fill, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("fallocate");
    drop((mapping, fill));
    // Now there is room again: the seal itself is not what fails.
    fs::remove_file(small.at.join("fill")).expect("unlink");
    run(Command::new("sync").arg("-f").arg(&small.at));
    // Through the daemon, it has seen the write that found no room: the file is torn, and nothing of it gets sealed.
    if data == Data::Daemon {
        mount.until("f", "torn");
        check(mount.ctl(&["seal", "f"]).status.code() == Some(4), "a torn file was sealed")?;
        check(mount.state("f") == "torn", "it is not torn any more")?;
        return Ok("a write found no room: the file is torn, and refused".to_owned());
    }
    let output = mount.ctl(&["seal", "f"]);
    check(output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())?;
    mount.until("f", "sealed");
    let told = xattr(&path, "user.seal.sha256").unwrap_or_default();
    let hash = |bytes: &[u8]| sealfs::crypto::sha256(bytes).to_hex();
    let disk = fs::read(mount.backing("f")).expect("read");
    let written = disk.iter().take_while(|byte| **byte == b'X').count();
    let read = fs::read(&path).expect("read");
    check(hash(&disk) == told, format!("on disk is not what was sealed ({written} bytes written)"))?;
    check(hash(&read) == told, "who opens it now reads bytes that were not hashed")?;
    let mut early = vec![0; SIZE];
    super::scene::in_time("a reader from before the seal reads what was hashed", || {
        let mut early = vec![0; SIZE];
        reader.read_exact_at(&mut early, 0).is_ok() && hash(&early) == told
    })?;
    reader.read_exact_at(&mut early, 0).expect("read");
    Ok(format!("{written} of {SIZE} bytes got to the disk, and readers see those that were hashed"))
}

//! File handles: inodes by number, past every name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::calls::{handle_of, open_handle};
use super::harness::{Mount, eventually, run};
use super::scene::{Attack, CONTENT, Data, Scene, Seen, Table, Who, attack, check, refused};

pub fn attacks(table: &mut Table) {
    for data in Data::BOTH {
        let scene = Scene::new("handles", data);
        scene.run(table, Who::Root, &of_root());
        scene.run(
            table,
            Who::Owner,
            &[attack("open_by_handle_at without the capability", |s| {
                let handle = handle_of(&s.sealed()).map_err(|error| error.to_string())?;
                let place = File::open(s.at("")).expect("open");
                refused(&[libc::EPERM], open_handle(&place, &handle, libc::O_RDONLY))
            })],
        );
        table.add(
            "a handle of a file that was replaced since",
            &format!("root, {}", data.word()),
            earlier_life(data),
        );
    }
}

fn of_root() -> Vec<Attack> {
    vec![
        attack("open_by_handle_at for writing", |s| {
            let handle = handle_of(&s.sealed()).map_err(|error| error.to_string())?;
            let place = File::open(s.at("")).expect("open");
            super::scene::all(
                [
                    libc::O_WRONLY,
                    libc::O_RDWR,
                    libc::O_WRONLY | libc::O_TRUNC,
                    libc::O_WRONLY | libc::O_APPEND,
                ]
                .map(|flags| refused(&[libc::EPERM, libc::ESTALE], open_handle(&place, &handle, flags))),
            )
        }),
        attack("open_by_handle_at for reading", |s| {
            let handle = handle_of(&s.sealed()).map_err(|error| error.to_string())?;
            let place = File::open(s.at("")).expect("open");
            match open_handle(&place, &handle, libc::O_RDONLY) {
                Ok(file) => {
                    let mut read = Vec::new();
                    File::from(file).read_to_end(&mut read).map_err(|error| error.to_string())?;
                    check(read == CONTENT, "the sealed bytes")
                }
                refusal => refused(&[libc::ESTALE], refusal),
            }
        }),
        attack("open_by_handle_at on the backing file system, for writing", |s| {
            let backing = s.mount.backing("a/b/f");
            let handle = handle_of(&backing).map_err(|error| error.to_string())?;
            let place = File::open(s.mount.store.join("tree")).expect("open");
            // The immutable flag holds for every way to the inode.
            refused(&[libc::EPERM], open_handle(&place, &handle, libc::O_RDWR))
        }),
    ]
}

/// After expiry the name may be written anew, under another inode: a handle of the old one never reaches the new.
fn earlier_life(data: Data) -> Seen {
    let policy = "version = 1\n[defaults]\nsettle = \"0s\"\nretention = \"1s\"\n";
    let mount = Mount::with("earlier-handle", policy, data.options());
    let path = mount.sealed_or_expired("f");
    let place = File::open(&mount.mnt).expect("open");
    let handle = handle_of(&path).map_err(|error| error.to_string())?;
    let before = path.metadata().expect("stat").ino();
    eventually("expired", || mount.state("f") == "expired");
    fs::write(&path, b"another life").map_err(|error| error.to_string())?;
    run(Command::new("sync").arg("-f").arg(&path));
    check(path.metadata().expect("stat").ino() != before, "the same inode")?;
    let wanted = [libc::ESTALE, libc::EPERM, libc::ENOENT];
    let writing = open_handle(&place, &handle, libc::O_RDWR);
    let seen = refused(&wanted, writing)?;
    match open_handle(&place, &handle, libc::O_RDONLY) {
        Err(error) => refused::<()>(&wanted, Err(error)),
        Ok(file) => {
            let mut read = Vec::new();
            let got: io::Result<usize> = File::from(file).read_to_end(&mut read);
            check(got.is_err() || read == CONTENT, seen)
        }
    }
}

trait SealedOrExpired {
    fn sealed_or_expired(&self, name: &str) -> std::path::PathBuf;
}

impl SealedOrExpired for Mount {
    /// A file that is sealed for a second.
    fn sealed_or_expired(&self, name: &str) -> std::path::PathBuf {
        let path = self.path(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).expect("create");
        io::Write::write_all(&mut file, CONTENT).expect("write");
        drop(file);
        eventually("sealed", || ["sealed", "expired"].contains(&self.state(name).as_str()));
        path
    }
}

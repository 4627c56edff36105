//! Descriptors and mappings from before the seal.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::calls::Mapping;
use super::harness::{os, pause, sealctl};
use super::scene::{
    Attack, CONTENT, Data, Scene, Seen, Table, Who, all, as_root, attack, check, in_time, refused,
};

/// Longer than it takes to seal a file that can be sealed.
const WHILE: u64 = 400;

pub fn attacks(table: &mut Table) {
    for data in Data::BOTH {
        let scene = Scene::new("descriptors", data);
        for who in [Who::Root, Who::Owner] {
            scene.run(table, who, &of_what_is_sealed());
            scene.run(table, who, &before_the_seal());
        }
    }
}

fn of_what_is_sealed() -> Vec<Attack> {
    vec![
        attack("write through a descriptor for reading", |s| {
            let file = File::open(s.sealed()).expect("open");
            refused(&[libc::EBADF], (&file).write(b"x"))
        }),
        attack("reopen a descriptor through /proc/self/fd for writing", |s| {
            let file = File::open(s.sealed()).expect("open");
            reopen(file.as_fd())
        }),
        attack("reopen an O_PATH descriptor through /proc/self/fd", |s| {
            let file =
                rustix::fs::open(s.sealed(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
            reopen(file.as_fd())
        }),
        attack("a writable shared mapping of a descriptor for reading", |s| {
            let file = File::open(s.sealed()).expect("open");
            refused(&[libc::EACCES], Mapping::of(&file, CONTENT.len(), true, true).map(drop))
        }),
        attack("mprotect of a shared mapping to writable", |s| {
            let file = File::open(s.sealed()).expect("open");
            let mapping = Mapping::of(&file, CONTENT.len(), false, true).expect("mmap");
            refused(&[libc::EACCES], mapping.make_writable())
        }),
        attack("write through /proc/self/mem into a shared mapping", |s| {
            let file = File::open(s.sealed()).expect("open");
            let mapping = Mapping::of(&file, CONTENT.len(), false, true).expect("mmap");
            let memory = OpenOptions::new().write(true).open("/proc/self/mem");
            // An ordinary thread of a process of root's may not even open it.
            let written = memory.and_then(|memory| memory.write_at(b"forged", mapping.address()));
            refused(&[libc::EIO, libc::EFAULT, libc::EACCES], written)
        }),
        attack("write into a private mapping", |s| {
            let file = File::open(s.sealed()).expect("open");
            let mapping = Mapping::of(&file, CONTENT.len(), true, false).expect("mmap");
            mapping.write(0, b"forged");
            check(fs::read(s.sealed()).expect("read") == CONTENT, "only its maker sees it")
        }),
    ]
}

fn reopen(file: impl AsFd) -> Seen {
    let again = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let open = |options: &OpenOptions| refused(&[libc::EPERM], options.open(&again));
    all([
        open(OpenOptions::new().write(true)),
        open(OpenOptions::new().read(true).write(true)),
        open(OpenOptions::new().append(true)),
        open(OpenOptions::new().write(true).truncate(true)),
    ])
}

fn before_the_seal() -> Vec<Attack> {
    vec![
        attack("a descriptor from before the demand writes on", |s| {
            let path = s.free("held");
            let mut file = File::create(&path).expect("create");
            file.write_all(b"first, ").expect("write");
            let demand = Demand::of(s, &path);
            not_sealed_meanwhile(&path)?;
            file.write_all(b"and last").expect("write");
            drop(file);
            demand.ends_with(s, &path, b"first, and last")
        }),
        attack("it is in flight in a socket, nobody has it", |s| {
            let path = s.free("in-flight");
            let file = File::create(&path).expect("create");
            (&file).write_all(b"first, ").expect("write");
            let (here, there) = UnixStream::pair().expect("pair");
            send(&here, &file);
            drop(file);
            let demand = Demand::of(s, &path);
            not_sealed_meanwhile(&path)?;
            let mut file = File::from(receive(&there));
            file.seek(SeekFrom::End(0)).expect("seek");
            file.write_all(b"and last").expect("write");
            drop(file);
            demand.ends_with(s, &path, b"first, and last")
        }),
        attack("a reader's descriptor from before, reopened after the seal", |s| {
            let path = s.free("reader");
            fs::write(&path, CONTENT).expect("write");
            let file = File::open(&path).expect("open");
            Demand::of(s, &path).ends_with(s, &path, CONTENT)?;
            reopen(&file)
        }),
        attack("a writer's descriptor, reopened through /proc and closed", |s| {
            let path = s.free("twice");
            let file = File::create(&path).expect("create");
            (&file).write_all(b"first, ").expect("write");
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            let mut again = OpenOptions::new().append(true).open(again).expect("reopen");
            drop(file);
            let demand = Demand::of(s, &path);
            not_sealed_meanwhile(&path)?;
            again.write_all(b"and last").expect("write");
            drop(again);
            demand.ends_with(s, &path, b"first, and last")
        }),
        attack("a shared mapping kept after the close", |s| {
            let path = s.free("mapped");
            let (mapping, meant) = mapped(&path);
            let demand = Demand::of(s, &path);
            not_sealed_meanwhile(&path)?;
            mapping.write(100, b"after the close");
            // What others read now is no matter; what they read once it is sealed is.
            fs::read(&path).expect("read");
            drop(mapping);
            demand.ends_with(s, &path, &meant)
        }),
        attack("a shared mapping in a child that has closed all else", |s| {
            let path = s.free("mapped-elsewhere");
            let script = "import mmap,sys,time\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nf.close()\n\
                          print('ready',flush=True)\nsys.stdin.read()\nm[0:6]=b'forged'\nm.close()\n";
            fs::write(&path, CONTENT).expect("write");
            let mut child = Command::new("python3")
                .args(["-c", script])
                .arg(&path)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("python3");
            let mut ready = [0; 5];
            child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("read");
            let demand = Demand::of(s, &path);
            let held = not_sealed_meanwhile(&path);
            drop(child.stdin.take());
            let ended = child.wait().expect("wait");
            held?;
            check(ended.success(), format!("the child ended with {ended}"))?;
            demand.ends_with(s, &path, &[b"forged", &CONTENT[6..]].concat())
        }),
        attack("a reader's mapping from before the seal shows what is sealed", |s| {
            let path = s.free("two-mappings");
            let (writer, meant) = mapped(&path);
            let reader = File::open(&path).expect("open");
            let seen = Mapping::of(&reader, meant.len(), false, true).expect("mmap");
            seen.read();
            writer.write(100, b"after the close");
            drop(writer);
            Demand::of(s, &path).ends_with(s, &path, &meant)?;
            let mut read = vec![0; meant.len()];
            reader.read_exact_at(&mut read, 0).expect("read");
            check(seen.read() == meant && read == meant, "both readers have the bytes that were hashed")
        }),
    ]
}

/// A new file with a shared mapping of it, closed; and its content once the mapping has written `after the close`
/// at 100.
fn mapped(path: &Path) -> (Mapping, Vec<u8>) {
    let mut content = vec![b'.'; 10_000];
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("create");
    (&file).write_all(&content).expect("write");
    let mapping = Mapping::of(&file, content.len(), true, true).expect("mmap");
    drop(file);
    content[100..115].copy_from_slice(b"after the close");
    (mapping, content)
}

/// `sealctl seal` under way, by root.
struct Demand(Child);

impl Demand {
    fn of(scene: &Scene, path: &Path) -> Self {
        let mut command = sealctl();
        command
            .arg("--store")
            .arg(&scene.mount.store)
            .arg("seal")
            .arg(path)
            .stdin(std::process::Stdio::null());
        Demand(as_root(|| command.spawn().expect("sealctl")))
    }

    /// It must end well, and the file then have this content for all.
    fn ends_with(mut self, scene: &Scene, path: &Path, content: &[u8]) -> Seen {
        let status = self.0.wait().map_err(|error| error.to_string())?;
        check(status.success(), format!("sealctl seal ended with {status}"))?;
        let path = path.to_owned();
        in_time("sealed", || super::harness::xattr(&path, "user.seal.state").as_deref() == Some("sealed"))?;
        scene.is_sealed_as(&path, content)
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn not_sealed_meanwhile(path: &Path) -> Result<(), String> {
    pause(WHILE);
    let state = super::harness::xattr(path, "user.seal.state").unwrap_or_default();
    check(state != "sealed", format!("{state} while somebody can write")).map(drop)
}

fn send(stream: &UnixStream, file: &File) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [file.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(stream, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).expect("sendmsg");
}

fn receive(stream: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC);
    os(got.map(drop)).expect("recvmsg");
    let message = control.drain().next();
    let Some(RecvAncillaryMessage::ScmRights(mut fds)) = message else { panic!("no descriptor came") };
    fds.next().expect("a descriptor")
}

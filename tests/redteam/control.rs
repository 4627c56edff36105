//! The control socket, which everybody may open.

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sealfs::control::frame;
use sealfs::control::protocol::{FRAME_MAX, Reply, Request};
use sealfs::ledger::KeyRole;
use sealfs::store::Layout;

use super::scene::{Data, Scene, Seen, Table, Who, all, as_root, as_user, check, in_time};

type Run = fn(&Scene) -> Seen;

pub fn attacks(table: &mut Table) {
    let scene = Scene::new("control", Data::Passthrough);
    for who in [Who::Stranger, Who::Owner] {
        for (name, request, needs_file) in forbidden(who) {
            table.add(&format!("asks for {name}"), who.word(), asks(&scene, who, &request, needs_file));
        }
    }
    let attacks: [(&str, Run); 10] = [
        ("garbage instead of a request", garbage),
        ("half requests, left so", halves),
        ("huge requests", huge),
        ("descriptors: none, of other files, too many", descriptors),
        ("a thousand connections", thousand),
        ("idle connections that hold places, of many users", many_users),
        ("connections left while they wait for a seal", left_waiting),
        ("a request byte by byte, for ever", trickle),
        ("requests whose answers are never read", unread),
        ("the socket itself replaced or removed", socket_itself),
    ];
    for (name, attack) in attacks {
        for who in [Who::Stranger, Who::Root] {
            if who == Who::Root && name.starts_with("the socket itself") {
                continue;
            }
            let seen = as_user(who.uid(), || attack(&scene)).unwrap_or_else(|_| Err("panicked".to_owned()));
            let seen = seen.and_then(|seen| serves(&scene).map(|_| seen));
            table.add(name, who.word(), seen);
        }
    }
    table.add("(verify --all after them)", "root", scene.verifies());
}

fn socket(scene: &Scene) -> PathBuf {
    let store = scene.mount.store.clone();
    Layout::socket_of(&store, 0, sealfs::crypto::sha256)
}

fn connect(scene: &Scene) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket(scene))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// The last frame of the answer.
fn last_reply(stream: &UnixStream) -> io::Result<Reply> {
    loop {
        let (body, _) = frame::receive(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match serde_json::from_slice(&body)? {
            Reply::Item(_) => {}
            reply => return Ok(reply),
        }
    }
}

fn ask(scene: &Scene, request: &Request, fd: Option<BorrowedFd<'_>>) -> io::Result<Reply> {
    let stream = connect(scene)?;
    frame::send(&stream, &serde_json::to_vec(request).expect("JSON"), fd)?;
    last_reply(&stream)
}

/// The daemon must be the same worker still, and answer everybody at once.
fn serves(scene: &Scene) -> Seen {
    for uid in [0, 65_534, 4321] {
        let asked = as_user(uid, || {
            let begin = Instant::now();
            (ask(scene, &Request::Status, None), begin.elapsed())
        });
        match asked {
            Ok((Ok(Reply::End), took)) if took < Duration::from_secs(5) => {}
            other => return Err(format!("afterwards, uid {uid} asks for the status: {other:?}")),
        }
    }
    let restarts = as_root(|| scene.mount.ctl_json(&["status"]))[0]["restarts"].as_u64();
    check(restarts == Some(0), format!("the worker was replaced {restarts:?} times"))
}

type Asked = (&'static str, Request, bool);

/// What others may not ask; the owner of a file a little less of it.
fn forbidden(who: Who) -> Vec<Asked> {
    let year = 365 * 86_400;
    let retain = |seconds, bypass: bool| Request::Retain {
        until: None,
        seconds: Some(seconds),
        bypass,
        reason: bypass.then(|| "because".to_owned()),
        months: 0,
        yes: false,
    };
    let mut asked = vec![
        ("another worker", Request::Restart, false),
        ("the refusals to be written", Request::Flush, false),
        ("the whole index", Request::Ls { state: None, expiring_within: None }, true),
        ("a purge", Request::Purge { dry_run: false, bypass: false, reason: None }, false),
        ("what a purge would take", Request::Purge { dry_run: true, bypass: false, reason: None }, false),
        ("a trace", Request::Trace { hex: Some("00".to_owned()) }, false),
        ("another key", Request::KeyRotate { role: KeyRole::Seal }, false),
        ("the clock to be accepted", Request::ClockAccept, false),
        ("a hold", Request::Hold { add: true, name: "x".to_owned() }, true),
        ("a hold to be lifted", Request::Hold { add: false, name: "x".to_owned() }, true),
        ("a shorter retention, bypassing", retain(1, true), true),
        ("a shorter retention", retain(1, false), true),
        ("more retention than policy allows", retain(100 * year, false), true),
    ];
    if who == Who::Stranger {
        asked.extend([
            ("another's file to be sealed", Request::Seal { torn: false }, true),
            ("another's torn file to be kept", Request::Seal { torn: true }, true),
            ("why another was refused", Request::Why, true),
            ("the history of another's file", Request::History, true),
            ("an attestation to another's file", Request::Attest { envelope: "{}".to_owned() }, true),
        ]);
    }
    asked
}

fn asks(scene: &Scene, who: Who, request: &Request, needs_file: bool) -> Seen {
    let asked = as_user(who.uid(), || {
        let file =
            rustix::fs::open(scene.sealed(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
        ask(scene, request, needs_file.then(|| file.as_fd()))
    });
    match asked {
        Ok(Ok(Reply::Error { code: 4, message })) => Ok(format!("4: {message}")),
        other => Err(format!("{other:?}")),
    }
}

/// Each of these bodies must be answered with an error, or the connection be closed.
fn refuses_bodies(scene: &Scene, bodies: &[Vec<u8>]) -> Seen {
    for body in bodies {
        let stream = connect(scene).map_err(|error| error.to_string())?;
        let sent = frame::send(&stream, body, None);
        match sent.and_then(|()| last_reply(&stream)) {
            Ok(Reply::Error { code: 2, .. }) => {}
            Ok(other) => return Err(format!("{other:?} to {} bytes", body.len())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err("no answer".to_owned()),
            Err(_) => {}
        }
    }
    Ok(format!("{} refused", bodies.len()))
}

fn garbage(scene: &Scene) -> Seen {
    let mut noise = vec![0u8; 10_000];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut noise)).expect("urandom");
    let nested = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
    let refused = refuses_bodies(
        scene,
        &[
            b"".to_vec(),
            b"{}".to_vec(),
            b"null".to_vec(),
            b"{\"op\":\"no-such\"}".to_vec(),
            b"{\"op\":\"status\"} {\"op\":\"status\"}".to_vec(),
            b"{\"op\":\"hold\",\"add\":true,\"name\":7}".to_vec(),
            b"{\"op\":\"wait\",\"timeout_ms\":-1}".to_vec(),
            b"\xff\xfe".to_vec(),
            nested(200),
            nested(1_000_000),
            noise.clone(),
        ],
    )?;
    // No frames at all.
    let stream = connect(scene).map_err(|error| error.to_string())?;
    let _ = (&stream).write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let _ = (&stream).write_all(&noise);
    let closed = matches!((&stream).read(&mut [0; 100]), Ok(_) | Err(_));
    check(closed, refused)
}

fn halves(scene: &Scene) -> Seen {
    let mut kept = Vec::new();
    for bytes in [&b""[..], b"\0", b"\0\0\0", b"\0\0\0\x10", b"\0\0\0\x10{\"op\":", b"\0\x3f\xff\xff{"] {
        let stream = connect(scene).map_err(|error| error.to_string())?;
        let _ = (&stream).write_all(bytes);
        kept.push(stream);
    }
    match ask(scene, &Request::Status, None) {
        Ok(Reply::End) => Ok(format!("{} of them, and the next is answered", kept.len())),
        other => Err(format!("{other:?}")),
    }
}

fn huge(scene: &Scene) -> Seen {
    for length in [u32::MAX, 1 << 31, u32::try_from(FRAME_MAX).expect("small") + 1] {
        let stream = connect(scene).map_err(|error| error.to_string())?;
        (&stream).write_all(&length.to_be_bytes()).map_err(|error| error.to_string())?;
        match (&stream).read(&mut [0; 16]) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => return Err(format!("{length} bytes: {other:?}")),
        }
    }
    let refused = refuses_bodies(
        scene,
        &[vec![b' '; FRAME_MAX], vec![b'['; FRAME_MAX], {
            let name = "x".repeat(FRAME_MAX - 100);
            serde_json::to_vec(&Request::Hold { add: true, name }).expect("JSON")
        }],
    )?;
    Ok(format!("closed at once; as large as allowed: {refused}"))
}

fn descriptors(scene: &Scene) -> Seen {
    let usage = |fd: Option<BorrowedFd<'_>>| match ask(scene, &Request::Stat, fd) {
        Ok(Reply::Error { code: 2 | 5, message }) => Ok(message),
        other => Err(format!("{other:?}")),
    };
    usage(None)?;
    let null = File::open("/dev/null").expect("open");
    let (pipe, _write) = io::pipe().expect("pipe");
    let passwd = File::open("/etc/passwd").expect("open");
    let sidecar = File::open(scene.at("a/b/f.seal")).expect("open");
    let keys = File::open(scene.at(".seal/keys.pem")).expect("open");
    all(
        [null.as_fd(), pipe.as_fd(), passwd.as_fd(), sidecar.as_fd(), keys.as_fd()].map(|fd| usage(Some(fd)))
    )?;
    // As many as a message can carry.
    let stream = connect(scene).map_err(|error| error.to_string())?;
    let fds = [null.as_fd(); 250];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let body = b"\0\0\0\x0f{\"op\":\"status\"}";
    sendmsg(&stream, &[IoSlice::new(body)], &mut control, SendFlags::NOSIGNAL).expect("sendmsg");
    check(last_reply(&stream).is_err(), "refused; 250 of them: closed")
}

fn descriptors_of_daemon(scene: &Scene) -> usize {
    as_root(|| {
        let pid = scene.mount.ctl_json(&["status"])[0]["pid"].as_u64().expect("a number");
        fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
    })
}

/// The connections that the daemon has not closed.
fn alive(streams: &[UnixStream]) -> usize {
    let open = |stream: &&UnixStream| {
        let mut stream: &UnixStream = stream;
        stream.set_nonblocking(true).expect("nonblocking");
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    };
    streams.iter().filter(open).count()
}

fn thousand(scene: &Scene) -> Seen {
    let before = descriptors_of_daemon(scene);
    let mut streams = Vec::new();
    for n in 0..1000 {
        streams.push(connect(scene).map_err(|error| format!("{n}: {error}"))?);
    }
    let root = rustix::process::geteuid().is_root();
    // Root is not counted: nobody can lock it out. Others have their places, and no more.
    let wanted = |count: usize| if root { count == 1000 } else { count <= 16 };
    in_time("the rest is closed", || wanted(alive(&streams)))?;
    let left = alive(&streams);
    serves(scene)?;
    drop(streams);
    in_time("nothing is left of them", || descriptors_of_daemon(scene) <= before + 2)?;
    Ok(format!("{left} kept, the others closed; everybody is served meanwhile"))
}

/// More users than there are places, each with as many connections as it may have.
fn many_users(scene: &Scene) -> Seen {
    if !rustix::process::geteuid().is_root() {
        // One user alone has no more of them.
        return thousand(scene);
    }
    let mut streams = Vec::new();
    for uid in 20_000..20_020 {
        let of_one = as_user(uid, || (0..20).filter_map(|_| connect(scene).ok()).collect::<Vec<_>>());
        streams.extend(of_one.map_err(|_| "panicked".to_owned())?);
    }
    serves(scene)?;
    let left = alive(&streams);
    Ok(format!("20 users, {left} connections kept; others are served"))
}

fn left_waiting(scene: &Scene) -> Seen {
    let name = format!("left-{}", rustix::process::geteuid().as_raw());
    let held = as_root(|| File::create(scene.free(&name))).map_err(|error| error.to_string())?;
    (&held).write_all(b"never closed").map_err(|error| error.to_string())?;
    let before = descriptors_of_daemon(scene);
    let body = serde_json::to_vec(&Request::Wait { timeout_ms: None }).expect("JSON");
    for _ in 0..40 {
        let file: OwnedFd =
            rustix::fs::open(scene.free(&name), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
        // Where there is no place, the daemon has closed it already.
        if let Ok(stream) = connect(scene) {
            let _ = frame::send(&stream, &body, Some(file.as_fd()));
        }
    }
    in_time("their places are free again", || {
        matches!(ask(scene, &Request::Status, None), Ok(Reply::End))
            && descriptors_of_daemon(scene) <= before + 2
    })?;
    drop(held);
    Ok("given up when they are gone".to_owned())
}

fn trickle(scene: &Scene) -> Seen {
    let streams: Vec<_> = (0..10).filter_map(|_| connect(scene).ok()).collect();
    for _ in 0..10 {
        for stream in &streams {
            let mut stream = stream;
            let _ = stream.write_all(b"\0");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match ask(scene, &Request::Status, None) {
        Ok(Reply::End) => Ok("others are served meanwhile".to_owned()),
        other => Err(format!("{other:?}")),
    }
}

fn unread(scene: &Scene) -> Seen {
    let body = serde_json::to_vec(&Request::Status).expect("JSON");
    let streams: Vec<_> = (0..10).filter_map(|_| connect(scene).ok()).collect();
    for stream in &streams {
        stream.set_write_timeout(Some(Duration::from_millis(200))).expect("timeout");
        for _ in 0..5_000 {
            if frame::send(stream, &body, None).is_err() {
                break;
            }
        }
    }
    match ask(scene, &Request::Status, None) {
        Ok(Reply::End) => Ok("others are served meanwhile".to_owned()),
        other => Err(format!("{other:?}")),
    }
}

fn socket_itself(scene: &Scene) -> Seen {
    let path = socket(scene);
    let wanted = [libc::EACCES, libc::EPERM];
    super::scene::refused(&wanted, fs::remove_file(&path))?;
    super::scene::refused(&wanted, fs::rename(&path, path.with_extension("x")))?;
    super::scene::refused(&wanted, File::create(path.with_extension("new")))
}

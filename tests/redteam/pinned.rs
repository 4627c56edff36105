//! Pages of a file that outlive mapping and descriptor: no lease knows of them, and what is written to them leaves no
//! trace. And pages that somebody only reads, which must not keep a file from being sealed.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::harness::{sha256sum, xattr};
use super::scene::{Data, Scene, Seen, Table, Who, check, in_time};

const PAGE: usize = 4096;

pub fn attacks(table: &mut Table) {
    for data in Data::BOTH {
        let scene = Scene::new("pinned", data);
        let label = format!("{}, {}", Who::Root.word(), data.word());
        let program = compiled(&scene);
        for (attack, how) in [
            ("a page pinned by a direct read is written after the seal", "direct"),
            ("a page pinned by process_vm_writev is written after the seal", "vm"),
        ] {
            table.add(attack, &label, pinned(&scene, &program, how));
        }
        table.add("a file is mapped by a reader for ever while it is sealed", &label, mapped(&scene));
        table.add("(verify --all after them)", &label, scene.verifies());
        let scene = scene.mounted_again();
        for how in ["direct", "vm"] {
            let attack = format!("{how}: the sealed file after another mount");
            table.add(&attack, &label, is_as_written(&scene.at(how)));
        }
    }
}

fn compiled(scene: &Scene) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redteam/pin.c");
    let program = scene.mount.dir.join("pin");
    let status = Command::new("gcc").args(["-O1", "-pthread", "-o"]).args([&program, &source]).status();
    assert!(status.expect("gcc").success(), "pin.c does not compile");
    program
}

fn pinned(scene: &Scene, program: &Path, how: &str) -> Seen {
    let (victim, slow) = (scene.at(how), scene.mount.dir.join(format!("slow-{how}")));
    fs::create_dir(&slow).map_err(|error| error.to_string())?;
    let mut attacker = Command::new(program)
        .args([&victim, &slow])
        .arg(how)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut said = BufReader::new(attacker.stdout.take().ok_or("no output")?).lines();
    let mut next = || said.next().and_then(Result::ok).unwrap_or_default();
    check(next() == "pinned", "the page is pinned")?;
    // An open before the seal has the kernel let go of what it has cached: once with it, once without.
    let early = (how == "vm").then(|| File::open(&victim)).transpose().map_err(|error| error.to_string())?;
    let sealed = scene.seal(&victim).and_then(|()| is_as_written(&victim));
    let told = attacker.stdin.take().ok_or("no input")?.write_all(b"go\n");
    told.map_err(|error| error.to_string())?;
    let written = next() == "written";
    attacker.wait().map_err(|error| error.to_string())?;
    sealed?;
    check(written, "the kernel has written into the page")?;
    let after = is_as_written(&victim)?;
    if let Some(early) = early.filter(|_| scene.data == Data::Daemon) {
        let mut content = [0; PAGE];
        early.read_exact_at(&mut content, 0).map_err(|error| error.to_string())?;
        check(content == [b'A'; PAGE], "a descriptor from before the seal reads what was sealed")?;
    }
    let backing = scene.backing(&victim);
    check(sha256sum(&backing) == sha256sum(&victim), "the store has what the mount shows")?;
    Ok(after)
}

/// Every way to look at a sealed file shows what was hashed, which is what its writer had written.
fn is_as_written(path: &Path) -> Seen {
    let content = fs::read(path).map_err(|error| error.to_string())?;
    check(content == [b'A'; PAGE], format!("reads {:?} …", content.first().map(|byte| *byte as char)))?;
    let sealed = xattr(path, "user.seal.sha256").ok_or("it is not sealed")?;
    check(sha256sum(path) == sealed, "sealed, and every byte is what was hashed")
}

/// A mapping for reading only, which is there before the seal and stays.
fn mapped(scene: &Scene) -> Seen {
    let path = scene.at("mapped");
    let open = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    open.and_then(|file| file.write_all_at(&[b'A'; PAGE], 0)).map_err(|error| error.to_string())?;
    // A program that runs from a file maps it.
    let script = "import mmap,sys; f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)\nassert m[0]==65\n\
                  print('mapped',flush=True); sys.stdin.readline(); assert m[4095]==65; print('same',flush=True)";
    let mut reader = Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut said = BufReader::new(reader.stdout.take().ok_or("no output")?).lines();
    let mut next = || said.next().and_then(Result::ok).unwrap_or_default();
    check(next() == "mapped", "it is mapped")?;
    let open = File::open(&path).map_err(|error| error.to_string())?;
    let sealed = scene.seal(&path).and_then(|()| is_as_written(&path));
    drop(reader.stdin.take());
    let same = next() == "same";
    reader.wait().map_err(|error| error.to_string())?;
    sealed?;
    check(same, "the mapping shows what it showed")?;
    let mut byte = [0];
    open.read_exact_at(&mut byte, 1).map_err(|error| error.to_string())?;
    check(byte == *b"A", "a descriptor from before the seal reads on")?;
    in_time("the name is of the sealed inode", || {
        fs::metadata(&path).is_ok_and(|meta| meta.atime() > meta.mtime() + 1800)
    })?;
    Ok("sealed while it is mapped; the mapping shows what it showed".to_owned())
}

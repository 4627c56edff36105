//! Jobs of real tools on a real mount. Each does what the same job does on the bare file system: the same
//! files, contents, modes and times; and all of it is sealed afterwards and stands up to `verify`.

mod harness;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Mount, scratch, sh};

/// Seals a second after the close: on a busy machine the steps of a tool that opens again what it has closed may be that
/// far apart.
const QUICK: &str = "version = 1\n[defaults]\nsettle = \"1s\"\nretention = \"1h\"\n";

/// The quiet time that `init` gives: for tools that take their time between two writes to a file, on a busy machine more.
const CALM: &str = "version = 1\n[defaults]\nsettle = \"10s\"\nretention = \"1h\"\n";

/// Whether all tools of a test are there. Says so loudly if not; where the tests must be whole (`CI`), fails.
fn have(tools: &[&str]) -> bool {
    let missing = |tool: &&&str| {
        let found =
            Command::new("sh").arg("-c").arg(format!("command -v {tool}")).stdout(Stdio::null()).status();
        !found.is_ok_and(|status| status.success())
    };
    let Some(tool) = tools.iter().find(missing) else { return true };
    assert!(std::env::var_os("CI").is_none(), "{tool} is missing; scripts/test installs it");
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not eprintln!: the test runner keeps that to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {tool} is missing; scripts/test installs it");
    false
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        harness::remove(&self.0);
    }
}

/// What is compared of two trees.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    /// The job sets them: they must be the same.
    Same,
    /// They tell when the job ran.
    Free,
}

/// Every name below a folder, with what a user sees of it.
fn tree(root: &Path, times: Times) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            let meta = path.symlink_metadata().expect("metadata");
            let mut line = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if meta.is_symlink() {
                let _ = write!(line, " -> {}", fs::read_link(&path).expect("link").display());
            } else if meta.is_dir() {
                folders.push(path.clone());
            } else {
                let content = fs::read(&path).expect("content");
                assert_eq!(content.len() as u64, meta.size(), "size of {}", path.display());
                let _ =
                    write!(line, " {} bytes {}", content.len(), sealfs::crypto::sha256(&content).to_hex());
                if times == Times::Same {
                    let _ = write!(line, " {}.{:09}", meta.mtime(), meta.mtime_nsec());
                }
            }
            found.insert(path.strip_prefix(root).expect("below").to_owned(), line);
        }
    }
    found
}

/// Fails with the first names in which two trees differ.
#[track_caller]
fn assert_same(ours: &Path, bare: &Path, times: Times) {
    let (ours, bare) = (tree(ours, times), tree(bare, times));
    assert!(!bare.is_empty(), "the job on the bare file system made nothing");
    let names = bare.keys().chain(ours.keys()).collect::<std::collections::BTreeSet<_>>();
    let differ = names.into_iter().filter(|name| ours.get(*name) != bare.get(*name));
    let told: Vec<_> = differ
        .map(|name| format!("{}: {:?}, bare {:?}", name.display(), ours.get(name), bare.get(name)))
        .collect();
    assert!(told.is_empty(), "{} differ:\n{}", told.len(), told[..told.len().min(20)].join("\n"));
}

/// A mount, and a bare folder on the file system below it.
struct Bench {
    mount: Mount,
    /// For the same job without sealfs.
    bare: PathBuf,
    /// What the job needs, outside of both.
    src: PathBuf,
}

impl Bench {
    fn new(name: &str, policy: &str) -> Self {
        let mount = Mount::new(name, policy);
        let (bare, src) = (mount.dir.join("bare"), mount.dir.join("src"));
        fs::create_dir(&bare).expect("bare");
        fs::create_dir(&src).expect("src");
        Bench { mount, bare, src }
    }

    /// Runs a script outside of both; it must succeed.
    #[track_caller]
    fn prepare(&self, script: &str) {
        sh(&self.src, script);
    }

    /// Runs the same script in the bare folder and in the mount. `$SRC` is where [`Bench::prepare`] worked.
    #[track_caller]
    fn job(&self, script: &str) -> [String; 2] {
        [&self.bare, &self.mount.mnt].map(|place| {
            let job = format!(
                "export SRC='{}' OUT=\"$PWD\" SOURCE_DATE_EPOCH=1700000000 LC_ALL=C\n{script}",
                self.src.display()
            );
            sh(place, &job)
        })
    }

    /// Compares, waits until all is sealed, compares again, and has the store verified.
    #[track_caller]
    fn check(&self, times: Times) {
        assert_same(&self.mount.mnt, &self.bare, times);
        self.sealed();
        assert_same(&self.mount.mnt, &self.bare, times);
    }

    /// Waits until every file with content is sealed; empty ones are demanded. Then `verify` must pass.
    #[track_caller]
    fn sealed(&self) {
        let files = || {
            let all = tree(&self.mount.mnt, Times::Free).into_iter();
            all.filter(|(_, line)| line.starts_with("10")).map(|(path, _)| path).collect::<Vec<_>>()
        };
        let until = Instant::now() + Duration::from_secs(120);
        let (mut waiting, mut all) = (files(), 0);
        assert!(!waiting.is_empty(), "no file in the mount");
        for path in &waiting {
            all += 1;
            if fs::metadata(self.mount.path(path)).expect("metadata").len() == 0 {
                self.mount.ctl_ok(&["seal".as_ref(), self.mount.path(path).as_os_str()]);
            }
        }
        loop {
            waiting.retain(|path| self.mount.state(path) != "sealed");
            let Some(first) = waiting.first() else { break };
            let state = self.mount.state(first);
            let log = self.mount.log();
            assert!(
                Instant::now() < until,
                "{} of {all} not sealed, such as {} ({state}):\n{log}",
                waiting.len(),
                first.display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let verified = self.mount.ctl_ok(&["verify", "--all"]);
        assert!(verified.contains("verified") && !verified.contains("not sealed"), "{verified}");
        let count = self.mount.sql("select count(*) from artifacts where state = 'sealed'");
        assert_eq!(count, all.to_string(), "rows of the index");
    }
}

/// A small tree: nested folders, modes, old times, an executable, a symbolic link, an empty file.
const TREE: &str = "
    mkdir -p a/b/c empty
    printf 'one\\n' > a/one; printf 'two\\n' > a/b/two; : > a/b/nothing
    head -c 3000000 /dev/urandom > a/b/c/big
    printf '#!/bin/sh\\necho hello\\n' > a/run; chmod 755 a/run
    chmod 600 a/one; chmod 444 a/b/two; chmod 2750 a/b; chmod 700 a/b/c
    ln -s b/two a/link; ln -s /nowhere a/dangling
    find . -exec touch -h -d '2020-02-02 02:02:02.123456789 UTC' {} +
";

/// A small C program and library.
const PROGRAM: &str = r#"
    printf 'int twice(int x) { return 2 * x; }\n' > lib.c
    printf 'int thrice(int x) { return 3 * x; }\n' > more.c
    printf '#include <stdio.h>\nint twice(int);\nint main(void) { printf("%%d\\n", twice(21)); return 0; }\n' > main.c
"#;

#[test]
fn install_copies_with_mode_and_time() {
    let bench = Bench::new("install", QUICK);
    bench.prepare(TREE);
    bench.job(
        "install -d bin share/doc; install -m 755 $SRC/a/run bin/run; install -p -m 640 $SRC/a/one share/one
         install -D $SRC/a/b/two share/doc/deep/two; install -t share/doc $SRC/a/b/c/big",
    );
    bench.check(Times::Free);
    let time = |path: PathBuf| fs::metadata(path).expect("metadata").mtime_nsec();
    assert_eq!(
        time(bench.mount.path("share/one")),
        time(bench.src.join("a/one")),
        "install -p keeps the time"
    );
}

#[test]
fn install_strips_a_program() {
    if !have(&["gcc", "strip"]) {
        return;
    }
    let bench = Bench::new("install-s", QUICK);
    bench.prepare(&format!("{PROGRAM} gcc -g -o prog main.c lib.c"));
    bench.job("install -s -m 755 $SRC/prog prog; [ $(./prog) = 42 ]");
    bench.check(Times::Free);
    assert_eq!(sh(&bench.mount.mnt, "./prog"), "42\n", "it also runs once sealed");
}

#[test]
fn cp_a_keeps_modes_and_times() {
    let bench = Bench::new("cp-a", QUICK);
    bench.prepare(TREE);
    bench.job("cp -a $SRC/. copy");
    bench.check(Times::Same);
}

#[test]
fn cp_a_of_hard_links_makes_copies() {
    let bench = Bench::new("cp-links", QUICK);
    bench.prepare(
        "printf 'linked\\n' > one; ln one two; mkdir sub; ln one sub/three; touch -d '2021-01-01 UTC' one",
    );
    bench.job("cp -a $SRC links");
    bench.check(Times::Same);
    let links = |name: &str| fs::metadata(bench.mount.path(name)).expect("metadata").nlink();
    assert_eq!([links("links/one"), links("links/two"), links("links/sub/three")], [1, 1, 1]);
}

#[test]
fn rsync_a_is_quiet_the_second_time() {
    if !have(&["rsync"]) {
        return;
    }
    let bench = Bench::new("rsync", QUICK);
    bench.prepare(TREE);
    bench.job("rsync -a $SRC/ copy/");
    assert_eq!(bench.job("rsync -ai $SRC/ copy/"), ["", ""], "before the seal");
    bench.check(Times::Same);
    assert_eq!(bench.job("rsync -ai $SRC/ copy/"), ["", ""], "after the seal");
    assert_eq!(bench.job("rsync -aic $SRC/ copy/"), ["", ""], "after the seal, by checksum");
}

#[test]
fn rsync_with_hard_links_and_delayed_updates_works() {
    if !have(&["rsync"]) {
        return;
    }
    // The scratch rule of `init` keeps the staging folder of --delay-updates from being sealed.
    let policy = format!("{QUICK}[[rule]]\nmatch = [\"**/.~tmp~/**\"]\nseal = \"never\"\n");
    let bench = Bench::new("rsync-links", &policy);
    bench.prepare(&format!("{TREE} ln a/one a/again"));
    bench.job("rsync -aH --delay-updates $SRC/ copy/");
    bench.check(Times::Same);
}

#[test]
fn tar_x_with_hard_links_works() {
    let bench = Bench::new("tar", QUICK);
    bench.prepare(&format!(
        "mkdir t; cd t; {TREE} ln a/one a/again; ln a/run run; cd ..; tar -cf t.tar t; tar -czf t.tgz t"
    ));
    bench.job("tar -xpf $SRC/t.tar; mkdir z; tar -xzf $SRC/t.tgz -C z");
    bench.check(Times::Same);
}

#[test]
fn tar_reads_back_what_it_wrote() {
    let bench = Bench::new("tar-c", QUICK);
    bench.prepare(TREE);
    bench.job("tar --sort=name -cf out.tar -C $SRC a; tar --sort=name -czf out.tgz -C $SRC a; tar -tf out.tar >/dev/null");
    bench.check(Times::Free);
    assert_eq!(sh(&bench.mount.mnt, "tar -df out.tar -C ../src"), "");
}

#[test]
fn gcc_links_into_the_mount() {
    if !have(&["gcc"]) {
        return;
    }
    let bench = Bench::new("gcc", QUICK);
    bench.prepare(PROGRAM);
    bench.job(
        "cd $SRC; gcc -c -o $OUT/lib.o lib.c; gcc -c -o $OUT/main.o main.c; gcc -o $OUT/prog main.c lib.c
         gcc -shared -fPIC -o $OUT/libtwice.so lib.c; gcc -o $OUT/prog $OUT/main.o $OUT/lib.o; [ $($OUT/prog) = 42 ]",
    );
    bench.check(Times::Free);
}

#[test]
fn ar_ranlib_and_strip_rewrite_what_they_closed() {
    if !have(&["gcc", "ar", "ranlib", "strip"]) {
        return;
    }
    let bench = Bench::new("ar", QUICK);
    bench.prepare(&format!("{PROGRAM} gcc -g -c lib.c more.c main.c; gcc -g -o prog main.o lib.o"));
    bench.job(
        "ar rc libx.a $SRC/lib.o; ar r libx.a $SRC/more.o; ranlib libx.a; strip -g libx.a; ranlib libx.a
         cp $SRC/prog prog; strip prog; cp $SRC/prog slim; strip --strip-unneeded -o slimmer slim; objcopy --only-keep-debug $SRC/prog prog.debug
         objcopy --add-gnu-debuglink=prog.debug slim",
    );
    bench.check(Times::Free);
    assert_eq!(sh(&bench.mount.mnt, "ar t libx.a; ./slim"), "lib.o\nmore.o\n42\n");
}

#[test]
fn make_install_with_a_static_library_works() {
    if !have(&["gcc", "make", "ar", "ranlib"]) {
        return;
    }
    let bench = Bench::new("make", QUICK);
    bench.prepare(&format!(
        r#"{PROGRAM}
        printf 'prog: main.o libx.a\n\t$(CC) -o $@ main.o libx.a\nlibx.a: lib.o more.o\n\t$(AR) rc $@ $^\n\tranlib $@\n' > Makefile
        printf 'install: prog libx.a\n\tinstall -d $(DESTDIR)/bin $(DESTDIR)/lib\n\tinstall -m 755 prog $(DESTDIR)/bin\n' >> Makefile
        printf '\tinstall -m 644 libx.a $(DESTDIR)/lib\n\tranlib $(DESTDIR)/lib/libx.a\n\tstrip $(DESTDIR)/bin/prog\n' >> Makefile
        printf '\tln -sf libx.a $(DESTDIR)/lib/liby.a\n' >> Makefile; make prog"#
    ));
    bench.job("make -s -C $SRC install DESTDIR=$OUT/usr; [ $(usr/bin/prog) = 42 ]");
    bench.check(Times::Free);
}

#[test]
fn a_make_build_inside_the_mount_works() {
    if !have(&["gcc", "make", "ar"]) {
        return;
    }
    let bench = Bench::new("make-in", CALM);
    bench.prepare(&format!(
        r#"{PROGRAM} printf 'prog: main.o libx.a\n\t$(CC) -o $@ main.o libx.a\nlibx.a: libx.a(lib.o more.o)\n\tranlib $@\n' > Makefile"#
    ));
    bench.job("cp -r $SRC/. build; make -s -C build; [ $(build/prog) = 42 ]");
    bench.check(Times::Free);
}

#[test]
fn cmake_install_works() {
    if !have(&["cmake", "gcc", "make"]) {
        return;
    }
    let bench = Bench::new("cmake", CALM);
    bench.prepare(&format!(
        r#"{PROGRAM}
        printf 'cmake_minimum_required(VERSION 3.13)\nproject(p C)\nadd_library(x STATIC lib.c more.c)\nadd_library(s SHARED lib.c)\n' > CMakeLists.txt
        printf 'add_executable(prog main.c)\ntarget_link_libraries(prog s)\n' >> CMakeLists.txt
        printf 'set_target_properties(prog PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")\n' >> CMakeLists.txt
        printf 'install(TARGETS prog x s RUNTIME DESTINATION bin LIBRARY DESTINATION lib ARCHIVE DESTINATION lib)\n' >> CMakeLists.txt
        cmake -S . -B build -DCMAKE_BUILD_TYPE=Release >/dev/null; cmake --build build >/dev/null"#
    ));
    // The second job strips, and sets the run path anew: cmake edits the installed file in place.
    bench.job("cmake --install $SRC/build --prefix $OUT/plain >&2; cmake --install $SRC/build --prefix $OUT/slim --strip >&2; [ $(slim/bin/prog) = 42 ]");
    bench.check(Times::Free);
}

#[test]
fn meson_install_works() {
    if !have(&["meson", "ninja", "gcc"]) {
        return;
    }
    let bench = Bench::new("meson", CALM);
    bench.prepare(&format!(
        r#"{PROGRAM}
        printf "project('p', 'c')\nx = static_library('x', 'lib.c', install: true)\ns = shared_library('s', 'lib.c', install: true)\n" > meson.build
        printf "executable('prog', 'main.c', link_with: s, install: true, install_rpath: '/opt/x/lib')\n" >> meson.build
        meson setup build --prefix=/usr >/dev/null; ninja -C build >/dev/null"#
    ));
    bench.job("DESTDIR=$OUT/root meson install -C $SRC/build >&2; DESTDIR=$OUT/slim meson install --strip -C $SRC/build >&2");
    bench.check(Times::Free);
}

#[test]
fn git_archive_works() {
    if !have(&["git"]) {
        return;
    }
    let bench = Bench::new("git-archive", QUICK);
    bench.prepare(&format!("{REPOSITORY} cd repo; git tag v1"));
    bench.job(
        "git -C $SRC/repo archive --prefix=p-1/ -o $OUT/p-1.tar v1; git -C $SRC/repo archive -o $OUT/p-1.tar.gz v1
         git -C $SRC/repo archive -o $OUT/p-1.zip v1; git -C $SRC/repo archive --prefix=p-1/ v1 | tar -x
         git -C $SRC/repo bundle create -q $OUT/p.bundle v1; git -C $SRC/repo format-patch -q -o $OUT/patches --root v1",
    );
    bench.check(Times::Free);
}

/// A repository with a few commits.
const REPOSITORY: &str = r#"
    export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
    export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
    git init -q -b main repo; cd repo; mkdir d
    for n in 1 2 3; do echo $n > file$n; echo $n > d/$n; git add .; git commit -q -m $n; done
    printf '#!/bin/sh\n' > run; chmod 755 run; ln -s run link; git add .; git commit -q -m run; git gc -q; cd ..
"#;

#[test]
fn git_clone_into_the_mount_works() {
    if !have(&["git"]) {
        return;
    }
    let bench = Bench::new("git-clone", CALM);
    bench.prepare(REPOSITORY);
    bench.job("GIT_CONFIG_GLOBAL=/dev/null git clone -q --no-local $SRC/repo clone; GIT_CONFIG_GLOBAL=/dev/null git clone -q --bare $SRC/repo bare.git");
    // The index, and the names of packs, tell inode numbers and times.
    let files = |place: &Path| {
        let all = tree(place, Times::Free).into_iter();
        all.filter(|(path, _)| path.starts_with("clone") && !path.starts_with("clone/.git"))
            .collect::<Vec<_>>()
    };
    assert_eq!(files(&bench.mount.mnt), files(&bench.bare));
    bench.sealed();
    let ask = "git -c safe.directory='*' -C clone fsck --full 2>&1; git -c safe.directory='*' -C clone log --oneline | wc -l";
    assert_eq!(sh(&bench.mount.mnt, ask), "4\n");
}

#[test]
fn zip_and_unzip_work() {
    if !have(&["zip", "unzip"]) {
        return;
    }
    let bench = Bench::new("zip", QUICK);
    bench.prepare(&format!("{TREE} zip -qr in.zip a"));
    // -X: the archive would hold times of access, and the first of the two runs changes those of the source.
    bench.job(
        "(cd $SRC && zip -qryX $OUT/new.zip a); unzip -q $SRC/in.zip; (cd $SRC && zip -qX $OUT/new.zip in.zip)
         unzip -tq new.zip >/dev/null",
    );
    bench.check(Times::Free);
}

#[test]
fn appends_reach_one_file() {
    let bench = Bench::new("append", QUICK);
    bench.job(
        "echo start > log; for i in $(seq 100); do echo line $i >> log; done
         { echo a; echo b; } >> log; echo x | tee -a log >/dev/null; exec 5>>log; echo one >&5; echo two >> log; echo three >&5",
    );
    bench.check(Times::Free);
}

#[test]
fn sed_i_replaces_a_file() {
    let bench = Bench::new("sed", QUICK);
    bench.job("printf 'version=@V@\\n' > conf; chmod 640 conf; sed -i 's/@V@/1.2/' conf; sed -i.bak 's/1.2/1.3/' conf; perl -pi -e 's/1.3/1.4/' conf");
    bench.check(Times::Free);
    assert_eq!(fs::read_to_string(bench.mount.path("conf")).expect("conf"), "version=1.4\n");
}

#[test]
fn patch_works() {
    if !have(&["patch"]) {
        return;
    }
    let bench = Bench::new("patch", QUICK);
    bench.prepare(
        "mkdir old new; seq 50 > old/f; seq 50 > new/f; sed -i 's/^25$/twenty-five/' new/f; echo new > new/g
         diff -ruN old new > change.diff || true",
    );
    bench.job("cp -a $SRC/old tree; patch -s -d tree -p1 < $SRC/change.diff; patch -s -b -d tree -p1 -R < $SRC/change.diff; patch -s -d tree -p1 < $SRC/change.diff; rm -f tree/*.orig");
    bench.check(Times::Free);
}

#[test]
fn mv_into_within_and_out_of_the_mount_works() {
    let bench = Bench::new("mv", QUICK);
    bench.prepare(TREE);
    bench.job(
        "cp -a $SRC/a $SRC/across; mv $SRC/across here; mv here/one here/uno; mkdir sub; mv here/b sub/
         echo new > next; mv -f next here/run; cp here/uno out; mv out $SRC/out; mv $SRC/out back; mv here there",
    );
    bench.check(Times::Free);
    let sealed = bench.mount.path("there/uno");
    sh(&bench.src, &format!("cp -p {} uno; cmp uno {0}", sealed.display()));
}

#[test]
fn dd_truncate_and_sparse_copies_work() {
    let bench = Bench::new("dd", QUICK);
    bench.prepare("truncate -s 20M sparse; printf head | dd of=sparse conv=notrunc status=none; printf tail >> sparse; head -c 5000000 /dev/urandom > noise");
    bench.job(
        "dd if=$SRC/noise of=plain bs=64k status=none; dd if=$SRC/noise of=direct bs=4k seek=3 conv=notrunc,fsync status=none
         printf xyz | dd of=plain bs=1 seek=1000 conv=notrunc status=none
         cp --sparse=always $SRC/sparse one; cp --sparse=never $SRC/sparse two; cp $SRC/sparse three; truncate -s 30M three; truncate -s 1k plain
         truncate -s 5M blank; fallocate -l 1M room; fallocate -l 100 -o 0 plain; split -b 1000000 $SRC/noise part.; cat part.* > whole; cmp whole $SRC/noise",
    );
    bench.check(Times::Free);
    let blocks = fs::metadata(bench.mount.path("one")).expect("metadata").blocks();
    assert!(blocks < 2048, "a sparse file stays sparse: {blocks} blocks");
}

#[test]
fn dd_with_direct_io_works() {
    let bench = Bench::new("dd-direct", QUICK);
    bench.prepare("head -c 4194304 /dev/urandom > noise");
    bench.job("dd if=$SRC/noise of=out bs=1M oflag=direct status=none; dd if=out of=/dev/null bs=1M iflag=direct status=none");
    bench.check(Times::Free);
}

#[test]
fn npm_install_of_a_local_package_works() {
    if !have(&["npm"]) {
        return;
    }
    let bench = Bench::new("npm", CALM);
    bench.prepare(
        r#"mkdir pkg; printf '{"name":"tiny","version":"1.0.0","bin":{"tiny":"cli.js"},"main":"index.js"}' > pkg/package.json
        echo 'module.exports = 42' > pkg/index.js; printf '#!/usr/bin/env node\nconsole.log(42)\n' > pkg/cli.js; chmod 755 pkg/cli.js
        npm_config_cache=$PWD/cache npm pack --silent ./pkg >/dev/null"#,
    );
    bench.job(
        "export npm_config_cache=$SRC/cache npm_config_update_notifier=false npm_config_audit=false npm_config_fund=false npm_config_offline=true HOME=$SRC
         mkdir app; cd app; echo '{\"name\":\"app\",\"version\":\"1.0.0\"}' > package.json; npm install --silent --install-links $SRC/pkg $SRC/tiny-1.0.0.tgz >&2
         [ $(node -p 'require(\"tiny\")') = 42 ]; npm install --silent --prefix $OUT/prefix -g $SRC/tiny-1.0.0.tgz >&2; [ $($OUT/prefix/bin/tiny) = 42 ]",
    );
    bench.check(Times::Free);
}

/// A wheel, made with nothing but Python.
const WHEEL: &str = r#"
python3 - <<'EOF'
import zipfile, base64, hashlib
files = {"tiny/__init__.py": "ANSWER = 42\n", "tiny/data.txt": "x" * 10000,
  "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
  "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
record = "".join("%s,sha256=%s,%d\n" % (n, base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=").decode(), len(t)) for n, t in files.items())
files["tiny-1.0.dist-info/RECORD"] = record + "tiny-1.0.dist-info/RECORD,,\n"
with zipfile.ZipFile("tiny-1.0-py3-none-any.whl", "w") as z:
    for name, text in files.items(): z.writestr(name, text)
EOF
"#;

#[test]
fn pip_install_target_works() {
    if !have(&["python3"]) {
        return;
    }
    let bench = Bench::new("pip", CALM);
    bench.prepare(WHEEL);
    // Byte code tells the time of its source, and is left out.
    bench.job(
        "export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
         python3 -m pip install --quiet --no-compile --target lib $SRC/tiny-1.0-py3-none-any.whl; [ $(PYTHONPATH=lib python3 -c 'import tiny; print(tiny.ANSWER)') = 42 ]",
    );
    bench.check(Times::Free);
}

#[test]
fn pip_and_python_compile_into_the_mount() {
    if !have(&["python3"]) {
        return;
    }
    let bench = Bench::new("pip-pyc", CALM);
    bench.prepare(WHEEL);
    sh(
        &bench.mount.mnt,
        "unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX; python3 -m pip install --quiet --no-index --disable-pip-version-check --root-user-action=ignore --target lib ../src/tiny-1.0-py3-none-any.whl
         echo 'x = 1' > mod.py; PYTHONPATH=.:lib python3 -c 'import mod, tiny'; ls __pycache__ lib/tiny/__pycache__ >/dev/null",
    );
    bench.sealed();
}

#[test]
fn python_zipfile_works() {
    if !have(&["python3"]) {
        return;
    }
    let bench = Bench::new("py-zip", QUICK);
    bench.prepare(TREE);
    bench.job("python3 -m zipfile -c out.zip $SRC/a/run $SRC/a/b; python3 -m zipfile -e out.zip out; python3 -m tarfile -c out.tar $SRC/a/run");
    bench.check(Times::Free);
}

#[test]
fn cargo_install_root_works() {
    if !have(&["cargo"]) {
        return;
    }
    let bench = Bench::new("cargo", CALM);
    bench.prepare(
        r#"mkdir -p tiny/src; printf '[package]\nname = "tiny"\nversion = "1.0.0"\nedition = "2021"\n[workspace]\n' > tiny/Cargo.toml
        echo 'fn main() { println!("42") }' > tiny/src/main.rs"#,
    );
    bench.job("env -u CARGO_TARGET_DIR cargo install --quiet --offline --debug --path $SRC/tiny --target-dir $SRC/target --root $OUT/root 2>&1 >/dev/null | grep -v PATH >&2 || true; [ $(root/bin/tiny) = 42 ]");
    // Cargo's own lists are empty at first and opened again; the program is what counts.
    assert_same(&bench.mount.path("root/bin"), &bench.bare.join("root/bin"), Times::Free);
    bench.sealed();
}

#[test]
fn shell_redirections_and_pipes_work_under_any_user() {
    let bench = Bench::new("users", QUICK);
    fs::set_permissions(bench.mount.mnt.as_path(), fs::Permissions::from_mode(0o1777)).expect("mode");
    fs::set_permissions(&bench.bare, fs::Permissions::from_mode(0o1777)).expect("mode");
    fs::set_permissions(&bench.mount.dir, fs::Permissions::from_mode(0o755)).expect("mode");
    bench.job(
        "export -n OUT; setpriv --reuid 65534 --regid 65534 --clear-groups bash -euc 'umask 027; mkdir theirs; seq 10000 | gzip -n > theirs/n.gz; gzip -dc theirs/n.gz > theirs/n
         sha256sum theirs/n > theirs/SHA256SUMS; sha256sum -c --quiet theirs/SHA256SUMS; cp theirs/n theirs/m; chmod 400 theirs/m; ln -s n theirs/l'
         echo root > ours",
    );
    bench.check(Times::Free);
}

#[test]
fn a_child_that_execs_while_its_parent_writes_does_not_hang() {
    if !have(&["python3"]) {
        return;
    }
    let bench = Bench::new("exec", QUICK);
    // The child's descriptor is closed inside execve(2).
    bench.job(
        r#"timeout -s KILL 30 python3 - <<'EOF'
import os
fd = os.open("out", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
for n in range(20):
    os.write(fd, b"line\n")
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    assert os.waitpid(pid, 0)[1] == 0
EOF"#,
    );
    bench.check(Times::Free);
}

#[test]
fn checksums_and_archives_of_a_release_agree_with_the_seals() {
    let bench = Bench::new("sums", QUICK);
    bench.prepare(TREE);
    bench.job("mkdir r; cp $SRC/a/b/c/big r/; (cd r && sha256sum big > SHA256SUMS)");
    bench.check(Times::Free);
    let sum = harness::xattr(&bench.mount.path("r/big"), "user.seal.sha256").expect("sha256");
    assert!(fs::read_to_string(bench.mount.path("r/SHA256SUMS")).expect("sums").starts_with(&sum));
}

#[test]
fn a_policy_as_init_writes_it_takes_a_whole_install() {
    let dir = Folder(scratch("init-policy"));
    let store = dir.0.join("store");
    harness::run(harness::sealctl().arg("init").arg(&store));
    let policy = fs::read_to_string(store.join("policy.toml")).expect("policy");
    assert!(policy.contains("settle = \"10s\""), "what init writes has changed");
    let bench = Bench::new("default-policy", &policy);
    bench.prepare(&format!("{TREE} {PROGRAM} gcc -o prog main.c lib.c"));
    bench.job(
        "cp -a $SRC/a copy; install -s $SRC/prog prog; echo scratch > notes.tmp; mv notes.tmp notes
         mkdir stage.tmp; echo staged > stage.tmp/file; mv stage.tmp stage; f=$(mktemp -p . tmp.XXXXXXXXXX); echo temp > $f; rm $f",
    );
    assert_eq!(bench.mount.state("copy/one"), "settling");
    bench.check(Times::Free);
}

#[test]
fn the_libraries_of_the_rust_toolchain_go_in_whole() {
    if !have(&["rustc", "rsync"]) {
        return;
    }
    let sysroot = sh(Path::new("/"), "rustc --print sysroot");
    let lib = format!("{}/lib", sysroot.trim());
    let bench = Bench::new("sysroot", QUICK);
    sh(&bench.mount.mnt, &format!("cp -a {lib} lib"));
    assert_same(&bench.mount.path("lib"), Path::new(&lib), Times::Same);
    bench.sealed();
    assert_eq!(sh(&bench.mount.mnt, &format!("rsync -ai {lib}/ lib/")), "", "rsync finds nothing to do");
}

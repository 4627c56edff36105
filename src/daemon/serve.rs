//! The daemon: everything wired together, in the order in which it must come up and go down.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use fuser::Session;
use parking_lot::Mutex;

use super::about::Daemon;
use super::args::Options;

use super::comparing::Comparing;
use super::guard::Guarding;
use super::housekeeping::Housekeeper;
use super::link::Message;
use super::worker::{self, Start};
use super::{
    Args, StartError, background, exporting, fallbacks, handshake, keys, mount, mountpoint, process, recover,
    session,
};
use crate::clock::{Anchor, Clock, SystemTime, TimeSource};
use crate::control::{About, Listener};
use crate::crypto::{self, PublicKey};
use crate::fuse::{Adapter, Wishes};
use crate::ledger::anchor::of_last_entry;
use crate::ledger::{Change, Exporter, Index, ReadIndex, check_rollback, log_keys};
use crate::model::Origin;
use crate::policy::{Current, Policy};
use crate::provenance::{self, Observer, Settings};
use crate::sched;
use crate::seal::{Journal, Life, Lives, Pipeline, Setup};
use crate::store::{self, Abilities, Layout, LockError, Places, Reserve, StoreLock, SystemNames, Tree};
use crate::vfs::{CacheEvent, Changed, Notes, NotesInbox, Parts, Refusals, Vfs};

/// Threads that serve the kernel: some requests wait for the disk, but each further thread that takes its turn makes all of
/// them a little slower, since the kernel wakes the one that has slept longest.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(4, |cores| cores.get() * 2).clamp(4, 16)
}
/// How long a start waits for a daemon of the same store that is unmounted and ending.
const LAST_SEALS: std::time::Duration = std::time::Duration::from_secs(10);
/// How long a start waits for the comparison of the index with the log, before it mounts.
const COMPARED_FIRST: std::time::Duration = std::time::Duration::from_millis(200);

pub(super) fn failed(what: impl std::fmt::Display, error: impl std::fmt::Display) -> StartError {
    StartError::failed(format!("{what}: {error}"))
}

/// Nothing can be closed safely without the journal, and nothing in it can be given up for room.
fn journal_failed(layout: &Layout, error: &std::io::Error) -> StartError {
    let what = match error.kind() {
        std::io::ErrorKind::StorageFull => "the disk is full, free some room outside of the store: ",
        _ => "",
    };
    failed(layout.journal().display(), format_args!("{what}{error}"))
}

/// Runs the daemon until it is unmounted or told to end: all in one process, so that its death ends the mount.
pub fn run_alone(args: &Args, options: &Options) -> Result<(), StartError> {
    process::begin()?;
    let layout = Layout::open(&args.store).map_err(|error| StartError::failed(error.to_string()))?;
    let mountpoint = mountpoint::check(&args.mountpoint, layout.root(), options)?;
    let who = format!("sealfs (process {}), mounted on {}", std::process::id(), mountpoint.display());
    let _lock = take_lock(&layout, &who)?;
    let guarding = Arc::new(Guarding::begin(&mountpoint, options));
    let served = serve(args, options, &layout, &mountpoint, None, &guarding);
    guarding.lift(&mountpoint);
    served
}

/// Serves a mount that the parent process holds, from its beginning or where another worker died.
pub fn run_worker(args: &Args, options: &Options) -> Result<(), StartError> {
    process::begin()?;
    let mut start = worker::inherit().map_err(|error| failed("taking over", error))?;
    let layout = Layout::open(&args.store).map_err(|error| StartError::failed(error.to_string()))?;
    // Checked by the parent; to ask now would ask this process.
    let mountpoint = std::path::absolute(&args.mountpoint).map_err(|error| failed("mount point", error))?;
    let guarding = Arc::new(std::mem::take(&mut start.guarding));
    let link = Arc::clone(&start.link);
    serve(args, options, &layout, &mountpoint, Some(start), &guarding).inspect_err(|error| {
        let _ = link.send(&Message::Failed(error.to_string()));
    })
}

fn serve(
    args: &Args,
    options: &Options,
    layout: &Layout,
    mountpoint: &Path,
    mut start: Option<Start>,
    guarding: &Arc<Guarding>,
) -> Result<(), StartError> {
    // The kernel is told of seals through this, once there is one to be told.
    let kernel = Arc::new(OnceLock::<fuser::Notifier>::new());
    let to_kernel = Arc::clone(&kernel);
    let changed: Changed = Arc::new(move |ino| {
        if let Some(notifier) = to_kernel.get() {
            crate::fuse::attributes_changed(notifier, ino);
        }
    });
    let (cache, told) = crossbeam_channel::unbounded();
    let built = build(layout, args, options, &changed, cache, start.as_mut())?;
    let vfs = Arc::clone(&built.vfs);

    let wishes = Arc::new(Wishes::default());
    wishes.passthrough.store(options.passthrough && !options.read_only, Ordering::Relaxed);
    let adapter = Adapter::new(Arc::clone(&vfs), Arc::clone(&wishes));
    let backings = adapter.backings();
    let (session, takeover) = match &start {
        None => (mount::mount(adapter, layout.root(), mountpoint, options, threads())?, false),
        Some(start) => shake_hands(adapter, start, options)?,
    };
    backings.attach(&session).map_err(|error| failed("device", error))?;
    let passthrough = wishes.passthrough.load(Ordering::Relaxed) && try_passthrough(layout, &session);
    vfs.parts().passthrough.store(passthrough, Ordering::Relaxed);
    if let Some(start) = &start
        && !start.live.is_new()
    {
        vfs.take_over(&start.live);
        backings.take_over(&start.live, |handle| vfs.knows_handle(handle));
        handshake::ask_again(&start.device).map_err(|error| failed("asking the kernel again", error))?;
        tracing::info!(
            inodes = start.live.nodes.len(),
            handles = start.live.handles.len(),
            "live mount taken over"
        );
    }
    let fallbacks = fallbacks::of(vfs.parts(), options, takeover, guarding.note.as_deref());
    for fallback in &fallbacks {
        tracing::warn!("{fallback}");
    }

    let notifier = session.notifier();
    let _ = kernel.set(session.notifier());
    spawn("notify", move || crate::fuse::run_notifier(&notifier, &told))?;

    let (renewing, to_renew) = (Arc::clone(&vfs), built.to_renew);
    spawn("renew", move || renewing.renew_all(&to_renew))?;
    let index = Arc::clone(&vfs.parts().index);
    spawn("names", move || {
        // On Linux, of this thread alone. Whoever has just mounted has better things to do with a core.
        let _ = rustix::process::setpriority_process(None, 19);
        if let Err(error) = index.read_names() {
            tracing::warn!(%error, "names of seals not read: each name that is looked up costs a query");
        }
    })?;
    let (counted, ending) = (Arc::clone(&vfs), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&ending);
    spawn("census", move || {
        let _ = rustix::process::setpriority_process(None, 19);
        counted.census(&ending);
    })?;
    let export_error = exporting::ExportError::default();
    let exporting = built
        .exporter
        .map(|exporter| exporting::start(exporter, &vfs, Arc::clone(&export_error)))
        .transpose()?;
    let policy_error = Arc::new(Mutex::new(None));
    let reload = Arc::new(AtomicBool::new(false));
    let housekeeper = Arc::new(Housekeeper {
        vfs: Arc::clone(&vfs),
        notes: built.notes,
        policy_file: layout.policy(),
        policy_error: Arc::clone(&policy_error),
        stopped: Arc::clone(&stopped),
        reload: Arc::clone(&reload),
        unclaimed: Mutex::new(built.unclaimed),
    });
    let keeping = Arc::clone(&housekeeper);
    let keeper = spawn("housekeeping", move || keeping.run())?;

    let socket = Layout::socket_of(layout.root(), rustix::process::geteuid().as_raw(), crypto::sha256);
    let listener = Listener::bind(&socket).map_err(|error| failed(socket.display(), error))?;
    let about: Arc<dyn About> = Arc::new(Daemon {
        vfs: Arc::clone(&vfs),
        store: layout.root().to_owned(),
        mountpoint: mountpoint.to_owned(),
        started: Instant::now(),
        fallbacks,
        policy_error,
        clock_edited: built.clock_edited,
        export_error,
        device: Mutex::new(None),
        link: start.as_ref().map(|start| Arc::clone(&start.link)),
        expired: sched::Seldom::default(),
        unsealed: sched::Seldom::default(),
        restarts: start.as_ref().map_or(0, |start| start.restarts),
        why: start.as_ref().map(|start| start.why.clone()).unwrap_or_default(),
    });
    let served = Arc::clone(&vfs);
    let listening = Arc::new(listener);
    let accepting = Arc::clone(&listening);
    spawn("control-accept", move || {
        // Whoever asks takes turns as other programs do, and so do the threads that are started for them.
        sched::ordinary();
        accepting.serve(&served, &about);
    })?;

    if let Some(start) = &start {
        let (link, vfs) = (Arc::clone(&start.link), Arc::clone(&vfs));
        spawn("beat", move || worker::beat(&link, &vfs))?;
    }
    let ready = || match &start {
        Some(start) => {
            start.link.send(&Message::Ready)?;
            background::leave_terminal(&socket.with_extension("log"))
        }
        None => {
            background::notify_systemd("READY=1");
            background::tell_ready(&socket.with_extension("log"))
        }
    };
    session::serve_until_unmounted(session, mountpoint, reload, guarding, ready)?;

    // Unmounted: nothing new comes in. What is under way is finished, what settles is left marked.
    if start.is_none() {
        background::notify_systemd("STOPPING=1");
    }
    let _ = std::fs::remove_file(&socket);
    stopped.store(true, Ordering::Release);
    vfs.parts().index.belief().stop();
    let _ = keeper.join();
    vfs.parts().pipeline.release_flushed();
    vfs.parts().pipeline.stop();
    if !vfs.parts().read_only {
        vfs.parts().pipeline.mark_closed(true);
    }
    housekeeper.keep_anchor();
    if let Some(exporting) = exporting {
        exporting.finish();
    }
    tracing::info!("unmounted");
    Ok(())
}

/// Takes the store's lock. A daemon that was just unmounted still finishes its seals: it is waited for.
pub fn take_lock(layout: &Layout, who: &str) -> Result<StoreLock, StartError> {
    let until = Instant::now() + LAST_SEALS;
    loop {
        match StoreLock::take(layout, who) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Busy(_)) if !mountpoint::is_mounted(layout.root()) && Instant::now() < until => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(error) => return Err(failed(layout.root().display(), error)),
        }
    }
}

struct Built {
    vfs: Arc<Vfs>,
    notes: NotesInbox,
    exporter: Option<Arc<Exporter>>,
    /// Files that were open and that nobody has open as far as is known.
    unclaimed: Vec<Arc<Life>>,
    /// Whether the clock's row in the index was not believed.
    clock_edited: bool,
    /// Files that need another inode before they can be sealed.
    to_renew: crossbeam_channel::Receiver<Arc<Life>>,
}

/// The clock's anchor, if the row in the index is what a log key of this store signed; else the time of the last entry in the
/// log. Also, whether the row was not believed. A store has a row from its beginning.
fn believed_anchor(
    index: &ReadIndex,
    log_keys: &[PublicKey],
    origin: &str,
) -> Result<(Option<Anchor>, bool), crate::ledger::LedgerError> {
    if let Some(kept) = index.kept_anchor()?
        && log_keys.iter().any(|key| kept.is_signed_by(key, origin))
    {
        return Ok((Some(kept.anchor), false));
    }
    let last = index.entries()?.checked_sub(1).map(|last| index.entry(last)).transpose()?.flatten();
    let last = last.map(|row| row.parse()).transpose()?;
    tracing::error!(
        "the clock's row in index.db is not signed by this store's log key: sealfs time goes on from the last entry of the log"
    );
    Ok((last.map(|entry| of_last_entry(entry.time, entry.wall)), true))
}

/// Everything below the mount.
fn build(
    layout: &Layout,
    args: &Args,
    options: &Options,
    changed: &Changed,
    cache: crossbeam_channel::Sender<CacheEvent>,
    mut start: Option<&mut Start>,
) -> Result<Built, StartError> {
    let policy = read_policy(&layout.policy())?;
    let reserve = Arc::new(Reserve::open(layout));
    let index = Index::open(&layout.index()).map_err(|error| failed(layout.index().display(), error))?;
    let index = Arc::new(index);
    let read = |error: crate::ledger::LedgerError| failed(layout.root().display(), error);
    if options.read_only {
        index.refuse_writes().map_err(read)?;
    }
    let origin: Origin =
        index.read().origin().map_err(read)?.parse().map_err(|error| failed("origin", error))?;
    let key_files = keys::files(layout, args);
    let (keys, adopted) = keys::load(&key_files, index.read(), options.read_only)?;
    // On a read-only mount nothing is mended, and nothing written; what was put back is noticed all the same.
    let log_keys = log_keys(&layout.keys());
    check_rollback(index.read(), origin.as_str(), &log_keys).map_err(read)?;
    let exporter = (!options.read_only)
        .then(|| Exporter::open(Arc::clone(&index), origin.as_str(), &log_keys))
        .transpose()
        .map_err(read)?;
    let keys = Arc::new(keys);
    let signing = Arc::clone(&keys);
    index.sign_anchors(origin.as_str(), Box::new(move |message| signing.log().sign_raw(message)));
    let (anchor, clock_edited) = believed_anchor(index.read(), &log_keys, origin.as_str()).map_err(read)?;
    let (clock, gap) = Clock::start(Box::new(SystemTime), anchor, policy.max_gap);
    if !options.read_only {
        layout.clear_staging().map_err(|error| failed(layout.staging().display(), error))?;
    }
    let tree = Tree::open(&layout.tree()).map_err(|error| failed(layout.tree().display(), error))?;
    store::room::look(tree.root(), &reserved_for(layout))
        .map_err(|error| failed(layout.tree().display(), error))?;
    let staging = Tree::open(&layout.staging()).map_err(|error| failed(layout.staging().display(), error))?;

    let mut abilities = Abilities { leases: true, immutable: true, pages: true };
    if !options.read_only {
        abilities = store::probe(layout).map_err(|error| failed(layout.root().display(), error))?;
        let mut batch = index.batch(&clock).map_err(read)?;
        if let Some(gap) = gap {
            tracing::warn!(?gap, "the host was off");
            batch
                .note(Change::ClockGap {
                    wall_seconds: gap.wall.as_secs(),
                    believed_seconds: gap.believed.as_secs(),
                    doubted_seconds: gap.doubted.as_secs(),
                })
                .map_err(read)?;
        }
        batch.note(Change::Policy { sha256: policy.digest() }).map_err(read)?;
        for change in adopted {
            batch.note(change).map_err(read)?;
        }
        batch.commit().map_err(read)?;
        keys::refresh(&keys, index.read())?;
    }

    let boot = SystemTime.boot_id();
    let journal = Journal::read(&layout.journal(), &boot).map_err(|error| journal_failed(layout, &error))?;
    let rebooted = journal.is_none();
    let mut files = recover::known(journal, &index).map_err(read)?;
    if rebooted {
        recover::trusted(&mut files, &index, &tree).map_err(read)?;
    }
    if let Some(start) = &mut start {
        for (old, new) in start.live.settle(&tree) {
            for (_, file) in &mut files {
                file.path = file.path.rebased(&old, &new).unwrap_or_else(|| file.path.clone());
            }
        }
        recover::add_written(&mut files, &start.live, &index, &tree);
    }
    let kept = files.iter().cloned().collect();
    let journal = if options.read_only {
        Journal::read_only(&layout.journal(), &boot)
    } else {
        Journal::start(&layout.journal(), &boot, &kept).map_err(|error| journal_failed(layout, &error))?
    };

    let tree = Arc::new(tree);
    let (clock, policy) = (Arc::new(clock), Arc::new(Current::new(policy)));
    let comparing = Comparing {
        index: Arc::clone(&index),
        clock: Arc::clone(&clock),
        origin: origin.to_string(),
        keys: layout.keys(),
        read_only: options.read_only,
    };
    comparing.start()?;
    if start.as_ref().is_none_or(|start| start.live.is_new()) {
        // Of a small store, it is done before anybody can ask for anything.
        let _ = index.belief().wait(COMPARED_FIRST);
    }
    let to_next = start.as_ref().map(|start| Arc::clone(&start.handover));
    let lost = Box::new(move |ino| {
        if let Some(handover) = &to_next {
            handover.lost(ino);
        }
    });
    let (renew, to_renew) = crossbeam_channel::unbounded();
    let sealed = Arc::clone(changed);
    let setup = Setup {
        tree: Arc::clone(&tree),
        lives: Arc::new(Lives::default()),
        index: Arc::clone(&index),
        clock: Arc::clone(&clock),
        policy: Arc::clone(&policy),
        keys: Arc::clone(&keys),
        origin: origin.to_string(),
        journal,
        abilities,
        read_only: options.read_only,
        sealed: Box::new(move |ino| sealed(ino)),
        renew,
        lost,
    };
    let pipeline = Pipeline::start(setup).map_err(|error| failed("pipeline", error))?;
    let live = start.as_ref().map(|start| &start.live).filter(|live| !live.is_new());
    let recover::Adopted { settling, torn, open, unclaimed } =
        recover::adopt(files, live, &index, &tree, &pipeline, options.read_only);
    let last_handle = live.map_or(0, |live| live.last_handle);
    let (handover, places) = match start {
        Some(start) => {
            let places =
                Places::restore(&start.live, std::mem::take(&mut start.ghosts), Arc::clone(&start.handover));
            (Arc::clone(&start.handover), places)
        }
        None => (Arc::default(), Places::default()),
    };
    if settling + torn + open > 0 {
        tracing::info!(settling, torn, open, "files of the last daemon taken over");
    }
    let (notes, inbox) = Notes::new();
    let told = policy.get().provenance.clone();
    let observer = Observer::start(Settings { env: told.env, arguments: told.arguments, boot_id: boot })
        .map_err(|error| failed("thread", error))?;
    let parts = Parts {
        tree,
        reserve,
        staging,
        handover,
        places: Arc::new(places),
        pipeline: Arc::new(pipeline),
        index,
        clock,
        policy,
        observer: Arc::new(observer),
        keys,
        key_files,
        origin,
        abilities,
        refusals: Arc::new(Refusals::default()),
        notes,
        cache,
        changed: Arc::clone(changed),
        passthrough: Arc::new(AtomicBool::new(false)),
        read_only: options.read_only,
        sees_exits: provenance::self_test(),
    };
    let vfs = Vfs::new(parts, last_handle).map_err(|error| failed("tree", error))?;
    Ok(Built {
        vfs: Arc::new(vfs),
        notes: inbox,
        exporter: exporter.map(Arc::new),
        unclaimed,
        clock_edited,
        to_renew,
    })
}

/// The users that the file system of the tree keeps room for.
fn reserved_for(layout: &Layout) -> Vec<u32> {
    let device = std::fs::metadata(layout.tree()).ok().map(|meta| meta.dev());
    let device = device.map(|device| (rustix::fs::major(device), rustix::fs::minor(device)));
    let mounts = crate::mounts::read().unwrap_or_default();
    mounts
        .iter()
        .filter(|mount| Some(mount.device) == device)
        .filter_map(|mount| mount.reserved_for)
        .collect()
}

fn read_policy(path: &Path) -> Result<Policy, StartError> {
    let text = std::fs::read_to_string(path).map_err(|error| failed(path.display(), error))?;
    Policy::parse(&text, &path.display().to_string(), &SystemNames::default())
        .map_err(|error| StartError::failed(error.to_string()))
}

/// Whether the kernel takes backing files from here.
fn try_passthrough(layout: &Layout, session: &Session<Adapter>) -> bool {
    let path = layout.root().join("probe");
    let probe = File::create(&path).and_then(|_| File::open(&path));
    let works = probe.is_ok_and(|file| crate::fuse::passthrough_works(session, &file));
    let _ = std::fs::remove_file(&path);
    works
}

/// Begins the session: with the kernel, or in its stead. Answers whether a later worker can take the mount over.
fn shake_hands(
    adapter: Adapter,
    start: &Start,
    options: &Options,
) -> Result<(Session<Adapter>, bool), StartError> {
    let first = || handshake::first_request(&start.device);
    let init = match &start.live.init {
        Some(init) => init.clone(),
        None => first().map_err(|error| failed("the kernel's first request", error))?,
    };
    let config = mount::config(options, threads());
    let session = handshake::begin(adapter, &start.device, &init, start.live.is_new(), config)
        .map_err(|error| failed("handshake with the kernel", error))?;
    if start.live.is_new() {
        start.handover.init(&init);
    }
    Ok((session, handshake::can_resend(&init)))
}

pub(super) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| failed("thread", error))
}

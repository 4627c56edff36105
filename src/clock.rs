//! Sealfs time: it cannot be turned back, nor leapt forward to free a file early.
//!
//! While the host is up it advances by `CLOCK_BOOTTIME`, across restarts of the daemon too. What passed
//! while the host was off is believed from the wall clock, up to one budget in all since the last
//! acceptance; the rest counts as nothing until somebody accepts it.

use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{Span, Timestamp};

/// Where the clock reads from; the system, or a test.
pub trait TimeSource: Send + Sync {
    /// Nanoseconds since boot, also while suspended (`CLOCK_BOOTTIME`).
    fn boottime(&self) -> i64;
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// What tells this boot from every other.
    fn boot_id(&self) -> String;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemTime;

impl TimeSource for SystemTime {
    fn boottime(&self) -> i64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
    }

    /// By the C library, unlike the boot clock: what lays itself before it (libfaketime) must not free a file.
    fn wall(&self) -> Timestamp {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Timestamp(nanos(since)),
            Err(before) => Timestamp(nanos(before.duration()).saturating_neg()),
        }
    }

    fn boot_id(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
    }
}

/// A moment in which sealfs time, boot clock and wall clock were seen together. Kept in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Sealfs time then.
    pub sealfs: Timestamp,
    /// The boot it was seen in.
    pub boot_id: String,
    /// `CLOCK_BOOTTIME` then, nanoseconds.
    pub boottime: i64,
    /// The wall clock then.
    pub wall: Timestamp,
    /// How much of the budget of belief is used, since the last acceptance.
    pub believed: Duration,
    /// How much passed by the wall clock and was not believed, since the last acceptance.
    pub doubted: Duration,
}

/// What was made of the time in which the host was off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How far the wall clock had moved; zero if it went backwards.
    pub wall: Duration,
    /// How much of that counts.
    pub believed: Duration,
    /// How much does not, until somebody accepts it.
    pub doubted: Duration,
}

/// An acceptance, see [`Clock::accept`].
#[derive(Debug)]
pub struct Accepted {
    /// How far sealfs time leapt.
    pub span: Span,
    before: Anchor,
}

/// The running clock.
pub struct Clock {
    source: Box<dyn TimeSource>,
    state: Mutex<Running>,
}

struct Running {
    anchor: Anchor,
    last: Timestamp,
}

impl Clock {
    /// Starts from the last anchor in the index, or from the wall clock in a new store. The gap is what
    /// must be logged if the host was off in between.
    #[must_use]
    pub fn start(source: Box<dyn TimeSource>, last: Option<Anchor>, max_gap: Span) -> (Self, Option<Gap>) {
        let (boottime, wall, boot_id) = (source.boottime(), source.wall(), source.boot_id());
        let (anchor, gap) = match last {
            None => {
                let none = Duration::ZERO;
                (Anchor { sealfs: wall, boot_id, boottime, wall, believed: none, doubted: none }, None)
            }
            Some(last) if last.boot_id == boot_id && boottime >= last.boottime => (last, None),
            Some(last) => {
                let passed = wall.since(last.wall);
                let budget = max_gap.longest().saturating_sub(last.believed);
                let believed = passed.min(budget);
                let sealfs = last.sealfs.plus(Span::of(believed));
                // Where the wall clock was wrong and has come right again, nothing is left to doubt.
                let ahead = wall.since(sealfs);
                let gap = Gap { wall: passed, believed, doubted: passed.saturating_sub(believed) };
                let anchor = Anchor {
                    sealfs,
                    boot_id,
                    boottime,
                    wall,
                    believed: last.believed.saturating_add(believed),
                    doubted: last.doubted.saturating_add(gap.doubted).min(ahead),
                };
                (anchor, Some(gap))
            }
        };
        let last = anchor.sealfs;
        let clock = Clock { source, state: Mutex::new(Running { anchor, last }) };
        clock.now();
        (clock, gap)
    }

    /// Sealfs time now. Never decreases.
    pub fn now(&self) -> Timestamp {
        let mut state = self.state.lock();
        let passed = self.source.boottime().saturating_sub(state.anchor.boottime).max(0);
        let now = Timestamp(state.anchor.sealfs.0.saturating_add(passed)).min(Timestamp::MAX);
        state.last = state.last.max(now);
        state.last
    }

    /// The wall clock now; for the record beside sealfs time, never for decisions.
    pub fn wall(&self) -> Timestamp {
        self.source.wall()
    }

    /// Accepts what was doubted: sealfs time leaps forward by it, but never past the wall clock, and the budget of
    /// belief is whole again. Returns how far it leapt. To be logged and kept; if that fails, [`Clock::unaccept`].
    pub fn accept(&self) -> Accepted {
        let now = self.now();
        let mut state = self.state.lock();
        let before = state.anchor.clone();
        let span = Span::of(before.doubted.min(self.source.wall().since(now)));
        state.anchor.sealfs = before.sealfs.plus(span);
        (state.anchor.believed, state.anchor.doubted) = (Duration::ZERO, Duration::ZERO);
        Accepted { span, before }
    }

    /// Takes an acceptance back that could not be logged. Time that was told meanwhile is not taken back.
    pub fn unaccept(&self, accepted: Accepted) {
        self.state.lock().anchor = accepted.before;
    }

    /// How much an acceptance would free now: what was doubted, as far as the wall clock still says it.
    #[must_use]
    pub fn acceptable(&self) -> Duration {
        let now = self.now();
        self.state.lock().anchor.doubted.min(self.source.wall().since(now))
    }

    /// Both clocks seen together, to be kept in the index.
    pub fn anchor(&self) -> Anchor {
        let sealfs = self.now();
        let state = self.state.lock();
        Anchor { sealfs, boottime: self.source.boottime(), wall: self.source.wall(), ..state.anchor.clone() }
    }
}

/// Refuses a time namespace in which `CLOCK_BOOTTIME` is offset (time_namespaces(7)): there it would say that years have
/// passed since the boot.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_namespace() -> Result<(), String> {
    // Kernels without time namespaces have no such file.
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    match offset_of_boottime(&offsets) {
        None => Ok(()),
        Some(seconds) => Err(format!(
            "this process runs in a time namespace whose boot clock is offset by {seconds} s, so retention cannot be judged; \
             run it outside (nsenter --time --target 1)"
        )),
    }
}

/// The offset of the boot clock, `SECONDS.NANOSECONDS`, if there is one.
fn offset_of_boottime(offsets: &str) -> Option<String> {
    let line = offsets.lines().find(|line| line.split_whitespace().next() == Some("boottime"))?;
    let numbers: Vec<&str> = line.split_whitespace().skip(1).collect();
    numbers.iter().any(|number| !number.trim_matches('0').is_empty()).then(|| numbers.join("."))
}

/// Sealfs time as a reader without a daemon can know it: exact in the same boot, else as last kept.
#[must_use]
pub fn reading(anchor: &Anchor, source: &dyn TimeSource) -> Timestamp {
    if anchor.boot_id != source.boot_id() {
        return anchor.sealfs;
    }
    let passed = source.boottime().saturating_sub(anchor.boottime).max(0);
    Timestamp(anchor.sealfs.0.saturating_add(passed)).min(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Clone)]
    struct Fake {
        boot: Arc<AtomicI64>,
        wall: Arc<AtomicI64>,
        id: &'static str,
    }

    impl TimeSource for Fake {
        fn boottime(&self) -> i64 {
            self.boot.load(Ordering::Relaxed)
        }
        fn wall(&self) -> Timestamp {
            Timestamp(self.wall.load(Ordering::Relaxed))
        }
        fn boot_id(&self) -> String {
            self.id.to_owned()
        }
    }

    const DAY: i64 = 86_400_000_000_000;

    fn fake(id: &'static str, boot: i64, wall: i64) -> Fake {
        Fake { boot: Arc::new(boot.into()), wall: Arc::new(wall.into()), id }
    }

    #[test]
    fn offsets_of_the_boot_clock_are_found() {
        assert_eq!(
            offset_of_boottime("monotonic           0         0\nboottime            0         0\n"),
            None
        );
        assert_eq!(offset_of_boottime(""), None);
        let offset = offset_of_boottime("monotonic 0 0\nboottime   252288000         0\n");
        assert_eq!(offset.as_deref(), Some("252288000.0"));
        assert!(
            offset_of_boottime("boottime -1 0").is_some() && offset_of_boottime("boottime 0 5").is_some()
        );
    }

    #[test]
    fn leaps_of_the_wall_clock_change_nothing_while_up() {
        let source = fake("a", 10, 1000);
        let (clock, gap) = Clock::start(Box::new(source.clone()), None, "7d".parse().unwrap());
        assert_eq!((clock.now(), gap), (Timestamp(1000), None));
        source.wall.store(900 * DAY, Ordering::Relaxed);
        source.boot.store(15, Ordering::Relaxed);
        assert_eq!(clock.now(), Timestamp(1005));
        source.boot.store(5, Ordering::Relaxed);
        assert_eq!(clock.now(), Timestamp(1005), "never backwards");
        let again = Clock::start(Box::new(fake("a", 25, 0)), Some(clock.anchor()), Span::default()).0;
        assert!(again.now() >= Timestamp(1005));
    }

    #[test]
    fn reboots_share_one_budget_of_belief() {
        let week = "7d".parse().unwrap();
        let (mut clock, _) = Clock::start(Box::new(fake("boot0", 0, 0)), None, week);
        let mut doubted = Duration::ZERO;
        for (n, id) in ["boot1", "boot2", "boot3", "boot4", "boot5"].into_iter().enumerate() {
            let wall = i64::try_from(n + 1).unwrap() * 3 * DAY;
            let (next, gap) = Clock::start(Box::new(fake(id, 0, wall)), Some(clock.anchor()), week);
            doubted += gap.unwrap().doubted;
            clock = next;
        }
        assert_eq!(clock.now(), Timestamp(7 * DAY));
        assert_eq!(doubted, Duration::from_secs(8 * 86_400));
        assert_eq!(clock.anchor().doubted, doubted);
    }

    #[test]
    fn accepting_frees_what_was_doubted_once() {
        let (clock, _) = Clock::start(Box::new(fake("a", 0, 0)), None, Span::default());
        let (clock, gap) =
            Clock::start(Box::new(fake("b", 0, 10 * DAY)), Some(clock.anchor()), "7d".parse().unwrap());
        assert_eq!((clock.now(), gap.unwrap().doubted.as_secs()), (Timestamp(7 * DAY), 3 * 86_400));
        let accepted = clock.accept();
        assert_eq!((accepted.span.longest().as_secs(), clock.now()), (3 * 86_400, Timestamp(10 * DAY)));
        let anchor = clock.anchor();
        assert_eq!((anchor.believed, anchor.doubted), (Duration::ZERO, Duration::ZERO));
        assert_eq!(clock.accept().span.longest(), Duration::ZERO);
        clock.unaccept(accepted);
        assert_eq!(clock.anchor().doubted.as_secs(), 3 * 86_400);
        assert_eq!(clock.now(), Timestamp(10 * DAY), "never backwards");
    }

    #[test]
    fn a_wall_clock_that_has_come_right_again_takes_its_doubt_back() {
        let week: Span = "7d".parse().unwrap();
        let (clock, _) = Clock::start(Box::new(fake("a", 0, 0)), None, week);
        // One boot in the year 2099, the next one a day after the first.
        let (clock, gap) = Clock::start(Box::new(fake("b", 0, 30_000 * DAY)), Some(clock.anchor()), week);
        assert_eq!(gap.unwrap().doubted.as_secs(), 29_993 * 86_400);
        let right = fake("c", 0, DAY);
        let (clock, _) = Clock::start(Box::new(right.clone()), Some(clock.anchor()), week);
        assert_eq!((clock.now(), clock.acceptable()), (Timestamp(7 * DAY), Duration::ZERO));
        assert_eq!(clock.accept().span.longest(), Duration::ZERO);
        assert_eq!(clock.now(), Timestamp(7 * DAY), "past the wall clock");
        right.wall.store(40_000 * DAY, Ordering::Relaxed);
        assert_eq!(clock.accept().span.longest(), Duration::ZERO, "nothing was left to doubt");
    }

    #[test]
    fn an_acceptance_never_leaps_past_the_wall_clock() {
        let (clock, _) = Clock::start(Box::new(fake("a", 0, 0)), None, Span::default());
        let source = fake("b", 0, 100 * DAY);
        let (clock, _) = Clock::start(Box::new(source.clone()), Some(clock.anchor()), Span::default());
        assert_eq!(clock.acceptable().as_secs(), 100 * 86_400);
        // Set right while the host is up.
        source.wall.store(2 * DAY, Ordering::Relaxed);
        assert_eq!(clock.acceptable().as_secs(), 2 * 86_400);
        assert_eq!(clock.accept().span.longest().as_secs(), 2 * 86_400);
        assert_eq!((clock.now(), clock.anchor().doubted), (Timestamp(2 * DAY), Duration::ZERO));
    }

    #[test]
    fn a_wall_clock_set_back_while_off_counts_as_nothing() {
        let (clock, _) = Clock::start(Box::new(fake("a", 0, 5 * DAY)), None, Span::default());
        let (clock, gap) =
            Clock::start(Box::new(fake("b", 0, DAY)), Some(clock.anchor()), "7d".parse().unwrap());
        assert_eq!(clock.now(), Timestamp(5 * DAY));
        assert_eq!(gap.unwrap().wall, Duration::ZERO);
    }
}

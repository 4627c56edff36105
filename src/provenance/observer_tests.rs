use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

fn observer(env: &[&str], arguments: bool) -> Observer {
    let env = env.iter().map(|name| (*name).to_owned()).collect();
    Observer::start(Settings { env, arguments, boot_id: "b".to_owned() }).unwrap()
}

struct Running(Child);

impl Running {
    fn start(script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = format!("echo; {script}");
        command.args(["-c", &script, "name", "--token=hunter2"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
        command
            .env("GITHUB_SHA", "0".repeat(40))
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_TOKEN", "hunter2");
        command.env("OWN", "1").env("PRIVATE", "hunter2");
        let mut child = command.spawn().unwrap();
        // spawn() returns while execve(2) still lays out the program, which a look would take for another one later.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Running(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn known(outcome: Outcome) -> Arc<Writer> {
    match outcome {
        Outcome::Known(writer) => writer,
        Outcome::Unknown(why) => panic!("unknown: {why}"),
    }
}

#[test]
fn a_process_is_seen_without_its_secrets() {
    let process = Running::start("read line");
    let observer = observer(&["OWN"], true);
    let writer = known(observer.observe(process.0.id()).wait());
    let json = writer.to_json();
    assert_eq!(json["pid"], process.0.id());
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(json["executable"].as_str(), shell.to_str());
    let digest = crate::crypto::sha256(&std::fs::read(&shell).unwrap());
    assert_eq!(json["executableSha256"].as_str(), Some(digest.to_hex().as_str()));
    assert_eq!(json["directory"].as_str(), std::env::current_dir().unwrap().to_str());
    assert_eq!(json["arguments"][4], "--token=***");
    assert_eq!(
        json["environment"],
        serde_json::json!({
            "GITHUB_ACTIONS": "true", "GITHUB_SHA": "0".repeat(40), "OWN": "1",
        })
    );
    assert_eq!(json["claims"]["commit"], "0".repeat(40));
    assert_eq!(json["parents"][0]["pid"], std::process::id());
    assert_eq!(json["uid"]["real"], rustix::process::getuid().as_raw());
    let age = crate::model::Timestamp::from_parts(
        rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec,
        0,
    );
    let started: crate::model::Timestamp = json["started"].as_str().unwrap().parse().unwrap();
    assert!(age.since(started).as_secs() < 60 && started.since(age).as_secs() < 3);
    let text = json.to_string();
    assert!(
        !text.contains("hunter2") && !text.contains("PRIVATE") && !text.contains("GITHUB_TOKEN"),
        "{text}"
    );
}

#[test]
fn arguments_can_be_kept_out() {
    let process = Running::start("read line");
    let writer = known(observer(&[], false).observe(process.0.id()).wait());
    assert_eq!(writer.to_json()["arguments"], "off");
    assert_eq!(writer.to_json()["parents"][0]["arguments"], "off");
}

#[test]
fn a_process_is_read_once_and_another_program_in_it_anew() {
    let mut process = Running::start("read line; exec sleep 60");
    let observer = observer(&[], true);
    let first = known(observer.observe(process.0.id()).wait());
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&first, &known(observer.observe(process.0.id()).wait())));
    }
    assert_eq!(observer.reads(), 1);
    process.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let now = observer.observe(process.0.id()).wait();
        if let Outcome::Known(now) = now
            && now.to_json()["arguments"][0] == "sleep"
        {
            assert_ne!(now.to_json()["executable"], first.to_json()["executable"]);
            break;
        }
        assert!(Instant::now() < until, "the new program was not noticed");
    }
}

#[test]
fn who_is_gone_is_unknown() {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    assert!(matches!(observer(&[], true).observe(child.id()).wait(), Outcome::Unknown(_)));
    assert!(matches!(observer(&[], true).observe(0).wait(), Outcome::Unknown(_)));
}

#[test]
fn a_look_that_hangs_has_a_deadline_and_others_go_on() {
    // A process that no thread gets to: both are held where a look waits for what it remembers.
    let observer = observer(&[], true);
    let begun = Instant::now();
    let held = observer.shared.known.lock();
    let looks: Vec<_> = (0..3).map(|_| observer.observe(std::process::id())).collect();
    for look in &looks {
        assert!(matches!(look.wait(), Outcome::Unknown(why) if why.starts_with("late")));
    }
    assert!(begun.elapsed() >= DEADLINE && begun.elapsed() < DEADLINE * 3);
    let until = Instant::now() + DEADLINE * 3;
    while observer.shared.threads.load(Ordering::Relaxed) <= THREADS {
        assert!(Instant::now() < until, "no thread took the place of those that hang");
        std::thread::sleep(TICK);
    }
    drop(held);
    known(observer.observe(std::process::id()).wait());
    // So many that the next is told at once that it is not looked at.
    observer.shared.recent.clear();
    let held = observer.shared.known.lock();
    let more: Vec<_> = (0..WAITING + 100).map(|_| observer.observe(std::process::id())).collect();
    assert!(
        more.iter()
            .any(|look| matches!(look.outcome(), Some(Outcome::Unknown(why)) if why.starts_with("too many")))
    );
    drop(held);
}

#[test]
fn thousands_of_looks_cost_the_caller_little() {
    let observer = observer(&[], true);
    known(observer.observe(std::process::id()).wait());
    // Its own time on a core: other tests are running too.
    let spent = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(now).expect("not negative")
    };
    let before = spent();
    let looks: Vec<_> = (0..1000).map(|_| observer.observe(std::process::id())).collect();
    let cost = spent().saturating_sub(before);
    assert!(cost < Duration::from_millis(100), "{cost:?}");
    for look in looks {
        known(look.wait());
    }
}

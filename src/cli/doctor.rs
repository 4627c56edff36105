//! `sealctl doctor`: is everything here that a store needs?

use serde_json::json;

use super::context::Context;
use super::doctor_checks as checks;
use super::exit::{Exit, Failure};

/// Check the environment and the store, and tell what to do about what is wrong
#[derive(Debug, clap::Args)]
pub struct Args {}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Works, but not as well as it could.
    Poor,
    /// Does not work.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it came out.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do; none for what is well.
    pub remedy: Option<&'static str>,
}

impl Check {
    /// All is well.
    pub fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Check { what: what.into(), grade: Grade::Good, found: found.into(), remedy: None }
    }

    /// It could be better.
    pub fn poor(what: impl Into<String>, found: impl Into<String>, remedy: &'static str) -> Self {
        Check { what: what.into(), grade: Grade::Poor, found: found.into(), remedy: Some(remedy) }
    }

    /// It does not work.
    pub fn bad(what: impl Into<String>, found: impl Into<String>, remedy: &'static str) -> Self {
        Check { what: what.into(), grade: Grade::Bad, found: found.into(), remedy: Some(remedy) }
    }
}

/// Does it. Without a store only the environment is looked at.
pub fn run(_: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let mut all = checks::environment();
    let stated = cx.store.is_some();
    match cx.here() {
        Ok(target) => all.extend(checks::store(&target.store)),
        Err(failure) if stated => return Err(failure),
        Err(_) => {
            all.push(Check::good("store", "none given; --store STORE has it checked too"));
        }
    }
    let mut exit = Exit::Done;
    for check in &all {
        let (word, shown) = match check.grade {
            Grade::Good => ("ok", cx.paint.good("ok  ")),
            Grade::Poor => ("warn", cx.paint.warn("warn")),
            Grade::Bad => ("fail", cx.paint.bad("fail")),
        };
        if check.grade == Grade::Bad {
            exit = Exit::Failed;
        }
        if cx.json {
            let (what, found, remedy) = (&check.what, &check.found, check.remedy);
            cx.value(&json!({ "check": what, "result": word, "found": found, "remedy": remedy }))?;
        } else {
            let remedy = check.remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
            cx.line(&format!("{shown}  {}: {}{remedy}", check.what, check.found))?;
        }
    }
    Ok(exit)
}

//! `sealctl policy check|show|explain`: what holds, and why.

use std::path::PathBuf;

use super::access;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::render::{count, fields};
use crate::policy::{Explanation, Policy};
use crate::store::Layout;

/// Check, show or explain the policy
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Look for mistakes, in the store's policy or in a file, and for what is likely not meant
    Check {
        /// End with 1 if something is likely not meant
        #[arg(long)]
        strict: bool,
        /// A policy that is not in force yet
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Print the store's policy
    Show,
    /// Tell what holds for a path, existing or not, and where each setting comes from
    Explain {
        /// A path in a mount, or with --store from the mount's root
        #[arg(value_hint = clap::ValueHint::AnyPath)]
        path: PathBuf,
    },
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    match &args.what {
        What::Check { file, strict } => {
            let path = match file {
                Some(file) => file.clone(),
                None => Layout::open(&cx.here()?.store)?.policy(),
            };
            let policy = access::policy(&path)?;
            let shown = path.display().to_string();
            check(&shown, &policy, cx)?;
            let warnings = policy.warnings();
            for warning in &warnings {
                cx.complain(&Failure::about(&shown, Exit::Failed, format_args!("warning: {warning}")));
            }
            if *strict && !warnings.is_empty() {
                return Ok(Exit::Failed);
            }
        }
        What::Show => {
            let policy = access::policy(&Layout::open(&cx.here()?.store)?.policy())?;
            if cx.json {
                let digest = policy.digest().to_hex();
                cx.value(&serde_json::json!({ "sha256": digest, "text": policy.text() }))?;
            } else {
                cx.text(policy.text())?;
            }
        }
        What::Explain { path } => {
            let target = cx.target(path)?;
            let policy = access::policy(&Layout::open(&target.store)?.policy())?;
            let explanation = policy.explain(&target.path);
            if cx.json {
                cx.value(&explanation)?;
            } else {
                cx.text(&explained(&explanation))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn check(file: &str, policy: &Policy, cx: &mut Context) -> Result<(), Failure> {
    let rules = policy.rules().len() as u64;
    if cx.json {
        let digest = policy.digest().to_hex();
        return cx.value(&serde_json::json!({ "file": file, "valid": true, "rules": rules, "sha256": digest,
                "warnings": policy.warnings() }));
    }
    let rules = count(rules, "rule", "rules");
    cx.line(&format!("{file}: no mistakes; {rules}, sha256 {}", policy.digest()))
}

fn explained(explanation: &Explanation) -> String {
    let width = explanation.settings.iter().map(|setting| setting.value.len()).max().unwrap_or(0);
    let settings: Vec<_> = explanation
        .settings
        .iter()
        .map(|setting| (setting.name, format!("{:width$}  from {}", setting.value, setting.from)))
        .collect();
    let path = if explanation.path.is_empty() { "/" } else { &explanation.path };
    let glob = explanation.glob.as_ref().map_or_else(String::new, |glob| format!(", matched by {glob:?}"));
    format!("{path}: {}{glob}\n{}", explanation.label, fields("  ", &settings))
}

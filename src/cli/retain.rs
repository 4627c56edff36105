//! `sealctl retain PATH`: another end of retention.

use std::path::PathBuf;

use super::access;
use super::below;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::view;
use crate::control::protocol::{FileView, Request};
use crate::model::{Span, Timestamp};

/// Extend a file's retention, or shorten it where that is allowed
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub struct Args {
    /// Sealed files, and folders: all files in them
    #[arg(required = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Until then: 2027-01-31 (its beginning, UTC), or RFC 3339 such as 2027-01-31T18:00:00+01:00
    #[arg(long, value_name = "DATE", group = "end", value_parser = parse_date)]
    until: Option<Timestamp>,
    /// So long from now, such as 90d
    #[arg(long = "for", value_name = "D", group = "end")]
    span: Option<Span>,
    /// Shorten although retained: role governance, mode governance only
    #[arg(long, requires = "reason")]
    bypass_governance: bool,
    /// Retain a file in mode compliance beyond the rule's max, or for more than 30 years: nobody can take that back
    #[arg(long)]
    yes: bool,
    /// Why; it stands in the log for ever
    #[arg(long, value_name = "R", requires = "bypass_governance", value_parser = parse_reason)]
    reason: Option<String>,
}

/// RFC 3339, or a day, which begins at midnight in UTC.
pub fn parse_date(text: &str) -> Result<Timestamp, String> {
    let day = format!("{text}T00:00:00Z");
    let full = if text.len() == 10 { &day } else { text };
    full.parse().map_err(|_| {
        "expected a day such as 2027-01-31, or RFC 3339 with an offset such as 2027-01-31T18:00:00Z"
            .to_owned()
    })
}

fn parse_reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 500 || text.contains(char::is_control) {
        return Err("expected a reason of 1 to 500 characters on one line".to_owned());
    }
    Ok(text.to_owned())
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let request = Request::Retain {
        until: args.until,
        // A part of a second counts as a whole one: never too short.
        seconds: args.span.map(|span| span.rest.as_secs() + u64::from(span.rest.subsec_nanos() > 0)),
        months: args.span.map_or(0, |span| span.months),
        yes: args.yes,
        bypass: args.bypass_governance,
        reason: args.reason.clone(),
    };
    below::each(cx, &args.paths, |cx, target| {
        let view: FileView = access::ask_one(target, &request)?;
        if cx.json {
            cx.value(&view)?;
        } else {
            cx.line(&format!("{}: {}", target.shown, view::summary(&view, access::wall())))?;
        }
        Ok(Exit::Done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let at = |text| parse_date(text).map(crate::model::Timestamp::to_rfc3339);
        assert_eq!(at("2027-01-31").unwrap(), "2027-01-31T00:00:00Z");
        assert_eq!(at("2027-01-31T18:00:00+01:00").unwrap(), "2027-01-31T17:00:00Z");
        for bad in ["", "tomorrow", "2027-13-01", "2027-01-31 18:00", "2027-01-31T18:00:00", "31.01.2027"] {
            assert!(at(bad).is_err(), "{bad}");
        }
        assert!(parse_reason(" \n").is_err() && parse_reason("a\nb").is_err());
    }
}

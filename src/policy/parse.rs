//! From the text of a `policy.toml` to a [`Policy`].

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::decision::{Decision, KEYS, Settings};
use super::error::{PolicyError, Source};
use super::globs::RuleGlobs;
use super::read::{At, Table};
use super::{NameLookup, Policy, Provenance, Roles};
use crate::model::{Digest, Span};

/// See [`Policy::parse`].
pub(super) fn policy(text: &str, file: &str, names: &dyn NameLookup) -> Result<Policy, PolicyError> {
    let source = Source { text, file };
    let document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
    let known = ["version", "defaults", "sidecars", "clock", "roles", "provenance", "rule"];
    let top = Table::new(source, "the policy", document.get_ref(), &known)?;
    version(&top)?;

    let default_settings = Settings::read(&top.table("defaults", &KEYS)?)?;
    let fallback = Decision::built_in().overlaid(&default_settings, &Settings::default(), source)?;

    let (mut globs, mut excepted) = (Vec::new(), Vec::new());
    let (mut decisions, mut rule_settings) = (Vec::new(), Vec::new());
    for (number, table) in rules(&top)?.into_iter().enumerate() {
        let (matches, except, settings) = rule(source, table)?;
        let mut decision = fallback.overlaid(&settings, &default_settings, source)?;
        decision.rule = Some(number);
        decision.label = label(number, &matches);
        globs.push(matches);
        excepted.push(except);
        decisions.push(decision);
        rule_settings.push(settings);
    }

    let max_gap = top.table("clock", &["max_gap"])?.span("max_gap")?;
    Ok(Policy {
        digest: Digest(Sha256::digest(text).into()),
        text: text.to_owned(),
        globs: RuleGlobs::new(&globs, &excepted, source)?,
        fallback,
        decisions,
        default_settings,
        rule_settings,
        sidecars_listed: top.table("sidecars", &["listed"])?.boolean("listed")?.unwrap_or(false),
        max_gap: max_gap.map_or(Span::of(Duration::from_hours(7 * 24)), |at| at.value),
        roles: Roles::read(&top.table("roles", &Roles::KEYS)?, names)?,
        provenance: provenance(&top.table("provenance", &["env", "arguments"])?)?,
    })
}

/// A missing version means 1.
fn version(top: &Table<'_>) -> Result<(), PolicyError> {
    let Some(value) = top.get("version") else { return Ok(()) };
    let expected = "version = 1";
    let Some(number) = value.get_ref().as_integer() else {
        return Err(top.wrong_type("version", value, expected));
    };
    if i64::from_str_radix(number.as_str(), number.radix()) == Ok(1) {
        return Ok(());
    }
    Err(top.source.error(&value.span(), format!("version is {number}"), expected))
}

/// The tables of `[[rule]]`, in order.
fn rules<'a>(top: &Table<'a>) -> Result<Vec<&'a Spanned<DeValue<'a>>>, PolicyError> {
    let Some(value) = top.get("rule") else { return Ok(Vec::new()) };
    let expected = "each rule under its own [[rule]] (two brackets)";
    match value.get_ref() {
        DeValue::Array(rules) => Ok(rules.iter().collect()),
        _ => Err(top.wrong_type("rule", value, expected)),
    }
}

/// Globs, as they stand in the policy.
type Written<'a> = Vec<At<&'a str>>;

/// One rule's globs, what it excepts from them, and its settings.
fn rule<'a>(
    source: Source<'a>,
    value: &'a Spanned<DeValue<'a>>,
) -> Result<(Written<'a>, Written<'a>, Settings), PolicyError> {
    let DeValue::Table(entries) = value.get_ref() else {
        let kind = value.get_ref().type_str();
        return Err(source.error(&value.span(), format!("a rule is of type {kind}"), "a table [[rule]]"));
    };
    let known: Vec<&str> = ["match", "except"].into_iter().chain(KEYS).collect();
    let table = Table::new(source, "[[rule]]", entries, &known)?;
    let expected = "a glob, or a list of globs, such as [\"releases/**\"]";
    let Some(globs) = table.strings("match", true, expected)? else {
        return Err(source.error(&value.span(), "this [[rule]] has no match", expected));
    };
    if globs.is_empty() {
        let span = table.get("match").map_or(value.span(), Spanned::span);
        return Err(source.error(&span, "match in [[rule]] is an empty list", expected));
    }
    let except = table.strings("except", true, expected)?.unwrap_or_default();
    Ok((globs, except, Settings::read(&table)?))
}

/// `rule 2 (releases/**)`; of several globs the first.
fn label(number: usize, globs: &[At<&str>]) -> String {
    let first = globs.first().map_or("", |glob| glob.value);
    let more = if globs.len() > 1 { ", …" } else { "" };
    format!("rule {} ({first}{more})", number + 1)
}

fn provenance(table: &Table<'_>) -> Result<Provenance, PolicyError> {
    let expected = "a list of names of environment variables, such as [\"CI_JOB_ID\"]";
    let mut env = Vec::new();
    for name in table.strings("env", false, expected)?.unwrap_or_default() {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            return Err(table.wrong_text("an entry of env", &name, "the name of an environment variable"));
        }
        env.push(name.value.to_owned());
    }
    let arguments = table.choice("arguments", &[("on", true), ("off", false)])?.unwrap_or(true);
    Ok(Provenance { env, arguments })
}

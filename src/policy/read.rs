//! Typed access to TOML tables that keeps places, so that each mistake can be shown where it stands.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{PolicyError, Source, nearest};
use crate::model::Span;

/// A value and where it stands (bytes of the text).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// What a length of time looks like, for errors.
const SPAN_EXPECTED: &str =
    "a length of time such as \"10s\", \"30d\", \"6mo\" or \"7y\" (units ms, s, m, h, d, w, mo, y)";

/// One table of the policy, with its name as errors call it.
pub(super) struct Table<'a> {
    pub source: Source<'a>,
    pub name: Cow<'static, str>,
    entries: Option<&'a DeTable<'a>>,
}

impl<'a> Table<'a> {
    /// A table whose keys are all of `known`.
    pub fn new(
        source: Source<'a>,
        name: impl Into<Cow<'static, str>>,
        entries: &'a DeTable<'a>,
        known: &[&str],
    ) -> Result<Self, PolicyError> {
        let name = name.into();
        let unknown = entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let one_of = if known.len() > 1 { "one of " } else { "" };
            let hint = nearest(key.get_ref(), known)
                .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            let expected = format!("{one_of}{}{hint}", known.join(", "));
            return Err(source.error(
                &key.span(),
                format!("unknown key {:?} in {name}", key.get_ref()),
                expected,
            ));
        }
        Ok(Table { source, name, entries: Some(entries) })
    }

    /// The table under `key`; an empty one if it is missing.
    pub fn table(&self, key: &'static str, known: &[&str]) -> Result<Table<'a>, PolicyError> {
        let name = format!("[{key}]");
        match self.get(key) {
            None => Ok(Table { source: self.source, name: name.into(), entries: None }),
            Some(value) => match value.get_ref() {
                DeValue::Table(entries) => Table::new(self.source, name, entries, known),
                _ => Err(self.wrong_type(key, value, &format!("a table {name}"))),
            },
        }
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries?.get(key)
    }

    /// The error that the value under `key` is of another type.
    pub fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> PolicyError {
        let kind = value.get_ref().type_str();
        let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
        self.source.error(&value.span(), format!("{key} in {} is {article} {kind}", self.name), expected)
    }

    /// The error that the string under `key` is not what it should be.
    pub fn wrong_text(&self, key: &str, text: &At<&str>, expected: &str) -> PolicyError {
        self.source.error(&text.span, format!("{key} in {} is {:?}", self.name, text.value), expected)
    }

    /// The string under `key`.
    pub fn string(&self, key: &str, expected: &str) -> Result<Option<At<&'a str>>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some(At { value: text, span: value.span() })),
            None => Err(self.wrong_type(key, value, expected)),
        }
    }

    /// The length of time under `key`.
    pub fn span(&self, key: &str) -> Result<Option<At<Span>>, PolicyError> {
        let Some(text) = self.string(key, SPAN_EXPECTED)? else { return Ok(None) };
        match text.value.parse() {
            Ok(value) => Ok(Some(At { value, span: text.span })),
            Err(_) => Err(self.wrong_text(key, &text, SPAN_EXPECTED)),
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, PolicyError> {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let expected = match quoted.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => quoted.concat(),
        };
        let Some(text) = self.string(key, &expected)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text.value) {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(self.wrong_text(key, &text, &expected)),
        }
    }

    /// `true` or `false` under `key`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(self.wrong_type(key, value, "true or false, without quotes")),
        }
    }

    /// A list of strings under `key`; with `single`, one string stands for a list of one.
    pub fn strings(
        &self,
        key: &str,
        single: bool,
        expected: &str,
    ) -> Result<Option<Vec<At<&'a str>>>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) if single => {
                Ok(Some(vec![At { value: text.as_ref(), span: value.span() }]))
            }
            DeValue::Array(items) => items
                .iter()
                .map(|item| match item.get_ref().as_str() {
                    Some(text) => Ok(At { value: text, span: item.span() }),
                    None => Err(self.wrong_type(&format!("an entry of {key}"), item, expected)),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            _ => Err(self.wrong_type(key, value, expected)),
        }
    }
}

//! A file as `stat` and `ls` show it, made of what lies in the store.

use super::render::{self, Cell, Paint};
use crate::control::protocol::FileView;
use crate::ledger::Pending;
use crate::model::{RelPath, SealRecord, State, Timestamp};
use crate::policy::Policy;
use crate::store::{EntryKind, Meta};

/// A sealed or expired file, with the rule its name falls under.
pub fn of_record(record: &SealRecord, now: Timestamp, policy: Option<&Policy>) -> FileView {
    let rule = policy.map(|policy| policy.decide(&record.path).label.clone());
    FileView { rule, ..FileView::of_record(record, now) }
}

/// Something in the tree without a seal, as far as it can be known without a daemon.
pub fn of_tree(path: &RelPath, meta: &Meta, pending: Option<&Pending>, policy: Option<&Policy>) -> FileView {
    let file = meta.kind == EntryKind::File;
    let state = pending.filter(|_| file).map(|found| if found.torn { State::Torn } else { State::Settling });
    let waits_for = file.then(|| "the daemon, which is not running; nothing is sealed without it".to_owned());
    let rule = policy.map(|policy| policy.decide(path).label.clone());
    FileView { state, rule, waits_for, ..FileView::of_tree(path, meta) }
}

/// The word for its state: `unsealed` where only the daemon would know more, `-` for what has none.
pub fn state_word(view: &FileView) -> &'static str {
    match view.state {
        Some(state) => state.as_str(),
        None if view.kind == "file" => "unsealed",
        None => "-",
    }
}

/// Its row in a list.
pub fn row(view: &FileView, now: Timestamp) -> [Cell; 6] {
    let plain = |text: String| (text, None);
    let until = view.retain_until.map_or_else(
        || "-".to_owned(),
        |until| format!("{} ({})", render::minute(until), render::relative(until, now)),
    );
    [
        plain(view.path.clone()),
        plain(render::size(view.size)),
        (state_word(view).to_owned(), view.state),
        plain(until),
        plain(view.retention_mode.clone().unwrap_or_else(|| "-".to_owned())),
        plain(view.holds.join(",")),
    ]
}

/// All of it, as `stat` shows it.
pub fn details(view: &FileView, now: Timestamp, paint: Paint) -> String {
    let mut fields: Vec<(&str, String)> = Vec::new();
    let state = paint.state(view.state, state_word(view));
    fields.push(("state", if view.kind == "file" { state } else { format!("{state} ({})", view.kind) }));
    fields.push((
        "size",
        format!("{} ({})", render::size(view.size), render::count(view.size, "byte", "bytes")),
    ));
    if let Some(sha256) = &view.sha256 {
        fields.push(("sha256", sha256.clone()));
    }
    if let Some(at) = view.sealed_at {
        fields.push(("sealed", format!("{} ({})", render::second(at), render::relative(at, now))));
    }
    if let Some(until) = view.retain_until {
        let mode = view.retention_mode.as_deref().unwrap_or("unknown mode");
        let relative = render::relative(until, now);
        fields.push(("retained", format!("until {} ({relative}), {mode}", render::second(until))));
    }
    if !view.holds.is_empty() {
        fields.push(("holds", view.holds.join(", ")));
    }
    fields.push(("mode", format!("{}, uid {}, gid {}", view.mode, view.uid, view.gid)));
    fields.push(("modified", view.mtime.clone()));
    if let Some(index) = view.log_index {
        fields.push(("log", format!("entry {index}")));
    }
    for (name, value) in [
        ("key", &view.key),
        ("namespace", &view.namespace),
        ("rule", &view.rule),
        ("waits for", &view.waits_for),
    ] {
        if let Some(value) = value {
            fields.push((name, value.clone()));
        }
    }
    let path = if view.path.is_empty() { "/" } else { &view.path };
    format!("{}\n{}", paint.bold(path), render::fields("  ", &fields))
}

/// What stands about a file, in one line.
pub fn summary(view: &FileView, now: Timestamp) -> String {
    let mut text = state_word(view).to_owned();
    if let (Some(until), Some(State::Sealed | State::Expired)) = (view.retain_until, view.state) {
        let mode = view.retention_mode.as_deref().unwrap_or("unknown mode");
        let relative = render::relative(until, now);
        text += &format!(", retained until {} ({relative}, {mode})", render::minute(until));
    }
    if !view.holds.is_empty() {
        text += &format!(", held by {}", view.holds.join(", "));
    }
    if let Some(waits) = &view.waits_for {
        text += &format!(", waits for {waits}");
    }
    text
}

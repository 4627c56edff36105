//! A file goes on as another inode with the same content: pages of the first one stay in use, perhaps by somebody who
//! still writes to them.

use std::sync::Arc;

use super::life::{Life, LifeState, NotSealed};
use super::pipeline::{Pipeline, tell_all};
use crate::model::State;

impl Pipeline {
    /// The inode `ino` of `size` bytes has taken the place of a file whose life ends with that: it begins where that
    /// stood, for the same people. Its seal is asked for by [`Pipeline::seal_renewed`]. The caller holds the namespace
    /// lock for writing, and has noted the new inode in the journal.
    pub fn renewed(&self, old: &Arc<Life>, state: &mut LifeState, ino: u64, size: u64) -> Arc<Life> {
        state.over = true;
        old.disturb(state);
        self.journal().over([old.ino]);
        self.lives().end(old);
        if std::mem::take(&mut state.marked) {
            self.unmark(&state.path);
        }
        // It is in nobody's hands before the namespace lock is let go.
        let life = self.lives().begin(ino, old.kind, state.path.clone(), state.state);
        let mut new = life.lock();
        new.size = size;
        new.since = state.since;
        new.demanded = state.demanded;
        new.keep_torn = state.keep_torn;
        new.request = state.request;
        new.observed = std::mem::take(&mut state.observed);
        new.waiters = std::mem::take(&mut state.waiters);
        if new.state == State::Torn {
            self.journal().torn(ino, &new.path);
        }
        if new.demanded.is_some() {
            self.journal().demanded(ino, new.demanded);
        }
        if let Some(until) = new.request {
            self.journal().requested(ino, until);
        }
        drop(new);
        life
    }

    /// Its seal is due, as that of the file was whose place it has taken.
    pub fn seal_renewed(&self, life: &Arc<Life>) {
        let mut state = life.lock();
        if !state.over && state.writers.is_empty() {
            let size = state.size;
            self.enqueue(life, &mut state, size);
        }
    }

    /// No other inode could be made for it. That is reported; it goes on to be tried as it is, and then again so.
    pub fn not_renewed(&self, life: &Life, why: &str) {
        let mut state = life.lock();
        let what = format!("pages of it are in use, and no copy of it could be made: {why}");
        if let Some(failure) = &mut state.failure {
            failure.what.clone_from(&what);
        }
        let (path, waiters) = (state.path.clone(), std::mem::take(&mut state.waiters));
        drop(state);
        tracing::warn!(%path, "cannot seal yet: {what}");
        tell_all(waiters, &Err(NotSealed::Failed(what)));
    }
}

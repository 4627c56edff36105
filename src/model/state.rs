//! The life of a file, as one pure function over states and events.

use std::fmt;

/// Where a file is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Created, empty, scratch, or held by a writer. Content, name and attributes change freely.
    Open,
    /// Closed by its last writer; sealed after a quiet time or on demand.
    Settling,
    /// Content, name and attributes are frozen until retention is over.
    Sealed,
    /// Retention is over and no hold stands: content is frozen for ever, the name is free.
    Expired,
    /// Its writer was killed, or daemon or host died while it was open: never sealed by itself.
    Torn,
}

impl State {
    /// Every state, for tables and tests.
    pub const ALL: [State; 5] = [State::Open, State::Settling, State::Sealed, State::Expired, State::Torn];

    /// The state's name as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Settling => "settling",
            State::Sealed => "sealed",
            State::Expired => "expired",
            State::Torn => "torn",
        }
    }

    /// Whether content can never change again.
    #[must_use]
    pub fn is_frozen(self) -> bool {
        matches!(self, State::Sealed | State::Expired)
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`Illegal`] if a write-once tree does not allow the event in this state; nothing may then change.
    pub fn on(self, event: Event) -> Result<State, Illegal> {
        use Event as E;
        use State as S;
        let illegal = Err(Illegal { state: self, event });
        match (self, event) {
            // Writing. A rewrite from scratch is the usual way out of torn; a frozen file is never written.
            (S::Open | S::Settling, E::WriterOpened { .. } | E::Emptied)
            | (S::Torn, E::WriterOpened { truncate: true } | E::Emptied) => Ok(S::Open),
            (S::Torn, E::WriterOpened { truncate: false }) => Ok(S::Torn),
            (S::Sealed | S::Expired, E::WriterOpened { .. } | E::Emptied) => illegal,

            // The last writer is gone.
            (S::Open | S::Settling, E::LastClosed { settles: true }) => Ok(S::Settling),
            (S::Open | S::Settling, E::LastClosed { settles: false }) => Ok(S::Open),
            (S::Torn, E::LastClosed { .. }) => Ok(S::Torn),
            (S::Sealed | S::Expired, E::LastClosed { .. }) => illegal,
            (S::Open | S::Settling | S::Torn, E::WriterKilled) => Ok(S::Torn),
            (S::Sealed | S::Expired, E::WriterKilled) => illegal,

            // Names and attributes.
            (S::Open | S::Settling, E::Renamed { settles: true }) => Ok(S::Settling),
            (S::Open | S::Settling, E::Renamed { settles: false }) => Ok(S::Open),
            (S::Torn, E::Renamed { .. }) => Ok(S::Torn),
            // The old seal ends; the bytes begin a new life under the new name.
            (S::Expired, E::Renamed { settles }) => Ok(if settles { S::Settling } else { S::Open }),
            (S::Sealed, E::Renamed { .. }) => illegal,
            (S::Open | S::Settling | S::Torn, E::AttributesChanged) => Ok(self),
            (S::Sealed | S::Expired, E::AttributesChanged) => illegal,

            // Sealing. A torn file only when somebody says so.
            (S::Open | S::Settling, E::Committed { .. }) | (S::Torn, E::Committed { torn: true }) => {
                Ok(S::Sealed)
            }
            (S::Torn, E::Committed { torn: false }) | (S::Sealed | S::Expired, E::Committed { .. }) => {
                illegal
            }

            // Retention.
            (S::Sealed, E::RetentionOver) => Ok(S::Expired),
            (S::Sealed | S::Expired, E::RetentionExtended) => Ok(S::Sealed),
            (S::Expired, E::RetentionOver) => Ok(S::Expired),
            (S::Open | S::Settling | S::Torn, E::RetentionOver | E::RetentionExtended) => illegal,

            // The end of this life. The state is what the free name has: nothing, which is as good as open.
            (S::Open | S::Settling | S::Torn | S::Expired, E::Removed) => Ok(S::Open),
            (S::Sealed, E::Removed) => illegal,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Opened for writing; `truncate`: from scratch (`O_TRUNC`).
    WriterOpened {
        /// Whether the open empties the file.
        truncate: bool,
    },
    /// Truncated to no bytes at all.
    Emptied,
    /// The last writable handle was released by a process that ended well; `settles`: the rule seals on
    /// close and there is content.
    LastClosed {
        /// Whether a quiet time begins.
        settles: bool,
    },
    /// A writer was killed by a signal, or daemon or host died while it was open.
    WriterKilled,
    /// Renamed; `settles`: the rule of the new name seals on close, there is content and no writer.
    Renamed {
        /// Whether a quiet time begins.
        settles: bool,
    },
    /// Mode, owner, times or extended attributes were changed.
    AttributesChanged,
    /// The seal is durable; `torn`: somebody asked for a torn file to be kept.
    Committed {
        /// Whether a torn file was explicitly kept.
        torn: bool,
    },
    /// Sealfs time has passed the end of retention and no hold stands.
    RetentionOver,
    /// Retention was extended, or a hold was placed.
    RetentionExtended,
    /// Unlinked, replaced by a rename, or rewritten from scratch.
    Removed,
}

impl Event {
    /// Every event, for tables and tests.
    pub const ALL: [Event; 14] = [
        Event::WriterOpened { truncate: false },
        Event::WriterOpened { truncate: true },
        Event::Emptied,
        Event::LastClosed { settles: false },
        Event::LastClosed { settles: true },
        Event::WriterKilled,
        Event::Renamed { settles: false },
        Event::Renamed { settles: true },
        Event::AttributesChanged,
        Event::Committed { torn: false },
        Event::Committed { torn: true },
        Event::RetentionOver,
        Event::RetentionExtended,
        Event::Removed,
    ];
}

/// The event is not allowed in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a file that is {state} allows no {event:?}")]
pub struct Illegal {
    /// The state it stays in.
    pub state: State,
    /// What was refused.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, state by state, in the order of [`Event::ALL`]; `-` is a refusal.
    const TABLE: [(State, &str); 5] = [
        // w w+ emp lc lc+ kil rn rn+ att com com! over ext rem
        (State::Open, "o o o o s t o s o S S - - o"),
        (State::Settling, "o o o o s t o s s S S - - o"),
        (State::Sealed, "- - - - - - - - - - - E S -"),
        (State::Expired, "- - - - - - o s - - - E S o"),
        (State::Torn, "t o o t t t t t t - S - - o"),
    ];

    #[test]
    fn every_state_and_event() {
        for (state, row) in TABLE {
            let cells: Vec<&str> = row.split(' ').collect();
            assert_eq!(cells.len(), Event::ALL.len(), "{state}");
            for (event, cell) in Event::ALL.into_iter().zip(cells) {
                let expected = match cell {
                    "o" => Some(State::Open),
                    "s" => Some(State::Settling),
                    "S" => Some(State::Sealed),
                    "E" => Some(State::Expired),
                    "t" => Some(State::Torn),
                    _ => None,
                };
                assert_eq!(state.on(event).ok(), expected, "{state} on {event:?}");
            }
        }
    }

    #[test]
    fn frozen_content_is_never_writable_again() {
        for state in State::ALL.into_iter().filter(|state| state.is_frozen()) {
            for event in [Event::WriterOpened { truncate: false }, Event::Emptied, Event::AttributesChanged] {
                assert!(state.on(event).is_err(), "{state} on {event:?}");
            }
        }
    }
}

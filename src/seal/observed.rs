//! Who wrote a file.

use std::sync::Arc;

use crate::provenance::{Observation, Outcome};
use crate::statement::{provenance_body, unknown_writer};

/// Writers kept of a file; of more, the first ones and the last.
const MOST: usize = 8;
/// Bytes of JSON kept of all of them; of more, the first ones.
const BYTES: usize = 64 * 1024;

/// The writers of a file, in the order in which they first opened it.
#[derive(Clone, Default)]
pub struct Observed {
    writers: Vec<Arc<Observation>>,
    /// Writers that were not kept.
    more: u64,
}

impl Observed {
    /// Another writer has opened it.
    pub fn add(&mut self, observation: Arc<Observation>) {
        if let Some(Outcome::Known(new)) = observation.outcome()
            && self.writers.iter().any(
                |writer| matches!(writer.outcome(), Some(Outcome::Known(known)) if Arc::ptr_eq(&known, &new)),
            )
        {
            return;
        }
        self.settle();
        if self.writers.len() >= MOST {
            self.writers.pop();
            self.more += 1;
        }
        self.writers.push(observation);
    }

    /// A look at a writer that is not done yet.
    #[must_use]
    pub fn under_way(&self) -> Option<Arc<Observation>> {
        self.writers.iter().find(|writer| writer.outcome().is_none()).cloned()
    }

    /// Keeps once who was looked at twice.
    fn settle(&mut self) {
        let mut kept: Vec<Arc<Observation>> = Vec::with_capacity(self.writers.len());
        for writer in self.writers.drain(..) {
            let twice = match writer.outcome() {
                Some(Outcome::Known(new)) => kept.iter().any(
                    |kept| matches!(kept.outcome(), Some(Outcome::Known(known)) if Arc::ptr_eq(&known, &new)),
                ),
                Some(Outcome::Unknown(_)) | None => false,
            };
            if !twice {
                kept.push(writer);
            }
        }
        self.writers = kept;
    }

    /// What is kept of them: see [`provenance_body`]. One writer's is made once.
    ///
    /// # Errors
    /// If it cannot be stated.
    pub fn to_body(mut self) -> Result<Arc<str>, String> {
        self.settle();
        if let [writer] = self.writers.as_slice()
            && self.more == 0
            && let Some(Outcome::Known(writer)) = writer.outcome()
        {
            let mut failed = None;
            let body = writer.made_once(|json| {
                provenance_body(std::slice::from_ref(json), 0).unwrap_or_else(|error| {
                    failed = Some(error.to_string());
                    String::new()
                })
            });
            return match failed {
                Some(error) => Err(error),
                None => Ok(body),
            };
        }
        let mut writers: Vec<_> = self
            .writers
            .iter()
            .map(|writer| match writer.outcome() {
                Some(Outcome::Known(writer)) => writer.to_json().clone(),
                Some(Outcome::Unknown(why)) => unknown_writer(why),
                None => unknown_writer("late: it was not read before the seal"),
            })
            .collect();
        if writers.is_empty() {
            writers.push(unknown_writer(
                "nobody was seen: it was written before this daemon started, moved here after its retention, or put in \
                 from outside",
            ));
        }
        let (mut bytes, known) = (0, writers.len());
        writers.retain(|writer| {
            bytes += writer.to_string().len();
            bytes <= BYTES
        });
        self.more += (known - writers.len()) as u64;
        provenance_body(&writers, self.more).map(Into::into).map_err(|error| error.to_string())
    }
}

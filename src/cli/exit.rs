//! How a command ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::control::client::ClientError;
use crate::ledger::LedgerError;
use crate::policy::PolicyError;
use crate::store::LayoutError;

/// Exit codes (contract, section 7). Never reused for another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exit {
    /// Done.
    #[default]
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Verification failed.
    Verification = 3,
    /// Refused by policy or retention.
    Refused = 4,
    /// No such file, or not sealed.
    NoFile = 5,
    /// No daemon.
    NoDaemon = 6,
}

impl Exit {
    /// The exit code that the daemon asks for; what it cannot ask for is a failure.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Exit::Done,
            2 => Exit::Usage,
            3 => Exit::Verification,
            4 => Exit::Refused,
            5 => Exit::NoFile,
            6 => Exit::NoDaemon,
            _ => Exit::Failed,
        }
    }

    /// This one, unless it is [`Exit::Done`]; then the other.
    #[must_use]
    pub fn or(self, other: Exit) -> Exit {
        if self == Exit::Done { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why something was not done: one line, `PATH: what happened; what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    message: String,
    quiet: bool,
}

impl Failure {
    /// A failure that is about nothing in particular, or whose message names it.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Failure { exit, message: message.to_string(), quiet: false }
    }

    /// A failure about a path.
    pub fn about(subject: impl fmt::Display, exit: Exit, message: impl fmt::Display) -> Self {
        Failure::new(exit, format_args!("{subject}: {message}"))
    }

    /// The same, about a path.
    #[must_use]
    pub fn with_path(self, subject: impl fmt::Display) -> Self {
        Failure { message: format!("{subject}: {}", self.message), ..self }
    }

    /// Nobody reads our output any more: end without a word.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Of writing to standard output.
    #[must_use]
    pub fn output(error: &io::Error) -> Self {
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        let exit = if quiet { Exit::Done } else { Exit::Failed };
        Failure { quiet, ..Failure::new(exit, format_args!("standard output: {error}; is the disk full?")) }
    }

    /// Of reading the index.
    pub fn index(error: &LedgerError) -> Self {
        Failure::new(Exit::Failed, format_args!("{error}; 'sealctl doctor' looks at the store"))
    }
}

impl fmt::Display for Failure {
    /// One line, whatever the message holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sealctl: {}", self.message.trim().replace(char::is_control, " "))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::new(Exit::from_code(error.exit_code()), error)
    }
}

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        Failure::new(Exit::Failed, error)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Failure::index(&error)
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Failure::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_one_line() {
        let failure = Failure::about("a\nb", Exit::NoFile, "is not there;\n look\n");
        assert_eq!(failure.to_string(), "sealctl: a b: is not there;  look");
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(Failure::output(&broken).is_quiet());
        assert_eq!(Failure::output(&broken).exit, Exit::Done);
        assert_eq!(Exit::Done.or(Exit::NoFile).or(Exit::Refused), Exit::NoFile);
        assert_eq!(Exit::from_code(77), Exit::Failed);
    }
}

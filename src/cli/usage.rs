//! What is said of wrong arguments: one line, like every other error.

use clap::error::ErrorKind;
use std::io::Write as _;

use super::exit::Exit;

/// Prints what clap has to say and answers the exit code.
pub fn end(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is the reader's decision.
            let _ = error.print();
            Exit::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let _ = writeln!(std::io::stderr(), "sealctl: no command given; 'sealctl --help' lists them");
            Exit::Usage
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "sealctl: {}", one_line(&error.render().to_string()));
            Exit::Usage
        }
    }
}

/// The first paragraph and the first tip of clap's message, on one line.
fn one_line(text: &str) -> String {
    let text = text.trim_start().trim_start_matches("error:");
    let first: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let advice = tip.unwrap_or("'sealctl --help' and 'sealctl COMMAND --help' tell what goes");
    format!("{}; {advice}", first.join(" ").trim()).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claps_messages_become_one_line() {
        let text = "error: the following required arguments were not provided:\n  <PATH>\n\nUsage: x\n";
        assert_eq!(
            one_line(text),
            "the following required arguments were not provided: <PATH>; 'sealctl --help' and 'sealctl COMMAND \
             --help' tell what goes"
        );
        let text =
            "error: unrecognized subcommand 'stauts'\n\n  tip: a similar subcommand exists: 'status'\n\nU";
        assert_eq!(one_line(text), "unrecognized subcommand 'stauts'; a similar subcommand exists: 'status'");
    }
}

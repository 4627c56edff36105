//! How much of what is seen of a writer is kept: it lands in the index and in the log's attachments, which have no quota,
//! and whoever writes a byte chooses the length of command lines, paths and variables.

/// Bytes of JSON that are kept of a writer's own command line, of its paths, of its variables, and of all its parents.
pub const COMMAND_LINE: usize = 8 * 1024;
/// See [`COMMAND_LINE`].
pub const PATHS: usize = 8 * 1024;
/// See [`COMMAND_LINE`].
pub const VARIABLES: usize = 8 * 1024;
/// See [`COMMAND_LINE`].
pub const PARENTS: usize = 4 * 1024;

/// Room for texts, counted as JSON writes them.
#[derive(Debug)]
pub struct Room {
    left: usize,
    /// Whether something found no room.
    pub full: bool,
}

impl Room {
    /// Room for so many bytes.
    pub fn of(bytes: usize) -> Self {
        Room { left: bytes, full: false }
    }

    /// Whether the text has room; it then takes it.
    pub fn takes(&mut self, text: &str) -> bool {
        let needed = length(text);
        if needed > self.left {
            self.full = true;
            return false;
        }
        self.left -= needed;
        true
    }

    /// The text if it has room.
    pub fn keep(&mut self, text: Option<String>) -> Option<String> {
        text.filter(|text| self.takes(text))
    }

    /// As many of the texts as have room, from the first on.
    pub fn keep_all(&mut self, mut texts: Vec<String>) -> Vec<String> {
        let kept = texts.iter().take_while(|text| self.takes(text)).count();
        texts.truncate(kept);
        texts
    }
}

/// Bytes of a text in JSON, with its quotes and a comma.
fn length(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_as_it_is_written() {
        let mut room = Room::of(20);
        assert!(room.takes("\"\"\"") && !room.full);
        assert_eq!(room.keep_all(vec!["ab".to_owned(), "cdefghi".to_owned(), String::new()]), ["ab"]);
        assert!(room.full);
        assert_eq!(room.keep(Some("x".to_owned())), Some("x".to_owned()));
        assert_eq!(length("\u{1}é\n"), serde_json::to_string("\u{1}é\u{1}").unwrap().len() + 1);
    }
}

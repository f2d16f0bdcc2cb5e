//! Texts that are kept or sent have a limit: of a longer one, the beginning says most.

/// Most bytes of the message of a task's failure. What may be put before it on its way to the client fits
/// [`ERROR_BYTES`].
pub const FAILURE_BYTES: usize = 3 << 10;

/// Most bytes of the message of a job's error. gRPC sends it in a header, where three bytes may stand for one, and
/// clients take 16 KiB of headers.
pub const ERROR_BYTES: usize = 4 << 10;

/// The text, if it has at most `most` bytes; else its beginning, with a note of how long it was, in so many bytes (or
/// what the note takes, if that is more).
pub fn head(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let mark = format!("… (cut: {} bytes in all)", text.len());
    let kept = text.floor_char_boundary(most.saturating_sub(mark.len()));
    format!("{}{mark}", &text[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_text_that_is_too_long_when_cut_then_its_beginning_and_its_length_are_left() {
        assert_eq!(head("short".to_owned(), 5), "short");
        // The limit is in the middle of a character.
        let cut = head(format!("x{}", "ß".repeat(1000)), 100);
        assert!(cut.starts_with("xßßß") && cut.ends_with("… (cut: 2001 bytes in all)"), "{cut}");
        assert_eq!(cut.len(), 99);
        assert_eq!(head(cut.clone(), 100), cut, "once is enough");
        assert_eq!(head("long".to_owned(), 0), "… (cut: 4 bytes in all)");
    }
}

//! What the shell itself understands: commands that begin with '\'.

use clap::ValueEnum;

use super::options::Format;

/// Shown by `\?`.
pub(super) const HELP: &str = r"Statements end with a semicolon and may go over several lines. Ctrl-C cancels a running query.

  \d               lists tables and views
  \d NAME          describes the columns of a table or view
  \timing [on|off] tells how long statements take, or stops doing so
  \format FORMAT   table, csv, json or vertical
  \?               this help
  \q               leaves, as Ctrl-D does
";

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// List the tables.
    Tables,
    /// Describe the table with this name, which is written as in SQL.
    Describe(String),
    /// Switch the timing on or off; `None`: to what it is not now.
    Timing(Option<bool>),
    /// Change how results are written.
    Format(Format),
    /// Show the help.
    Help,
    /// Leave.
    Quit,
}

impl Command {
    /// Reads a command, with its '\'. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // `\d nation;` is what fingers type.
        let text = text.trim().trim_end_matches(';').trim_end();
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let argument = argument.trim();
        match (name, argument) {
            ("\\d", "") => Ok(Command::Tables),
            ("\\d", table) => Ok(Command::Describe(table.to_owned())),
            ("\\timing", "") => Ok(Command::Timing(None)),
            ("\\timing", "on") => Ok(Command::Timing(Some(true))),
            ("\\timing", "off") => Ok(Command::Timing(Some(false))),
            ("\\format", format) => {
                let unknown = |_| format!("\\format takes table, csv, json or vertical, not {format:?}");
                Format::from_str(format, true).map(Command::Format).map_err(unknown)
            }
            ("\\?", "") => Ok(Command::Help),
            ("\\q", "") => Ok(Command::Quit),
            _ => Err(format!("there is no command {text}; \\? lists them")),
        }
    }

    /// Words that mean a command when typed alone.
    pub fn of_word(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "quit" | "exit" => Some(Command::Quit),
            "help" => Some(Command::Help),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_commands_then_each_is_read_with_its_argument() {
        assert_eq!(Command::parse("\\d"), Ok(Command::Tables));
        assert_eq!(
            Command::parse("\\d  public.\"My Table\" ;"),
            Ok(Command::Describe("public.\"My Table\"".to_owned()))
        );
        assert_eq!(Command::parse("\\timing"), Ok(Command::Timing(None)));
        assert_eq!(Command::parse("\\timing off"), Ok(Command::Timing(Some(false))));
        assert_eq!(Command::parse("\\format CSV"), Ok(Command::Format(Format::Csv)));
        assert_eq!(Command::parse("\\?"), Ok(Command::Help));
        assert_eq!(Command::parse("\\q"), Ok(Command::Quit));
        assert_eq!(Command::of_word(" Exit "), Some(Command::Quit));
        assert_eq!(Command::of_word("exited"), None);
    }

    #[test]
    fn given_anything_else_then_the_error_shows_the_way() {
        assert_eq!(Command::parse("\\x"), Err("there is no command \\x; \\? lists them".to_owned()));
        assert!(Command::parse("\\format xml").expect_err("no such format").contains("vertical"));
        assert!(Command::parse("\\timing maybe").is_err());
    }
}

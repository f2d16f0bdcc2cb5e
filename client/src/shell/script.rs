//! Statements that are not typed: of `-c`, a file, or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::Path;

use super::error::ShellError;
use super::options::ShellOptions;
use super::runner::{Next, Runner};
use super::splitter::{Item, Splitter};

/// Largest statement: servers take no larger message.
const MAX_STATEMENT_BYTES: usize = 16 << 20;

/// One source of statements.
pub(super) struct Script {
    /// What users call it; `None` for `-c`, which is before their eyes.
    name: Option<String>,
    reader: Box<dyn BufRead>,
    splitter: Splitter,
    /// Line of the item that runs.
    line: usize,
}

impl Script {
    /// All scripts that the options name, in order.
    ///
    /// # Errors
    /// [`ShellError::Usage`] if a file cannot be opened.
    pub fn open_all(options: &ShellOptions) -> Result<Vec<Self>, ShellError> {
        match &options.file {
            Some(path) if path != Path::new("-") => {
                let failed = |error| ShellError::Usage(format!("cannot read {}: {error}", path.display()));
                let reader = BufReader::new(File::open(path).map_err(failed)?);
                Ok(vec![Self::new(Some(path.display().to_string()), reader)])
            }
            None if !options.command.is_empty() => {
                let texts = options.command.iter().cloned();
                Ok(texts.map(|text| Self::new(None, Cursor::new(text))).collect())
            }
            _ => Ok(vec![Self::new(Some("standard input".to_owned()), BufReader::new(io::stdin()))]),
        }
    }

    fn new(name: Option<String>, reader: impl BufRead + 'static) -> Self {
        Self { name, reader: Box::new(reader), splitter: Splitter::default(), line: 0 }
    }

    /// Where it is, to stand before an error; empty where that is no news.
    pub fn position(&self) -> String {
        match &self.name {
            Some(name) if self.line > 0 => format!("{name}, statement at line {}: ", self.line),
            _ => String::new(),
        }
    }

    /// Runs all statements, until one fails. Each runs as soon as it is read: standard input may come from a program
    /// that waits for results.
    ///
    /// # Errors
    /// Of the first statement that failed, or of reading.
    pub async fn run(&mut self, runner: &mut Runner, out: &mut dyn Write) -> Result<(), ShellError> {
        while let Some(items) = self.read_line()? {
            for item in items {
                self.line = item.line;
                if runner.run(&item, out).await? == Next::Leave {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What ended in the next line; `None` after the last line.
    fn read_line(&mut self) -> Result<Option<Vec<Item>>, ShellError> {
        let mut line = String::new();
        let limit = MAX_STATEMENT_BYTES as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_line(&mut line);
        let name = self.name.as_deref().unwrap_or("the statement");
        let read = read.map_err(|error| ShellError::Usage(format!("cannot read {name}: {error}")))?;
        if read == 0 {
            let last = self.splitter.finish();
            return Ok(last.map(|item| vec![item]));
        }
        let items = self.splitter.push_line(&line);
        if line.len().max(self.splitter.pending_bytes()) > MAX_STATEMENT_BYTES {
            return Err(ShellError::Usage(format!("{name} has a statement of more than {MAX_STATEMENT_BYTES} bytes")));
        }
        Ok(Some(items))
    }
}

//! Statements as they are typed: line editing, history, and going on after errors.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use reedline::{
    FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, Signal,
    ValidationResult, Validator,
};

use super::commands::Command;
use super::error::ShellError;
use super::runner::{Next, Runner};
use super::{End, splitter};

/// Statements kept in the history.
const HISTORY_LENGTH: usize = 5000;

/// Reads and runs statements until the user leaves.
pub(super) async fn run(runner: &mut Runner) -> End {
    println!("Connected to {}. \\? helps, \\q leaves.", runner.url());
    let mut editor = editor();
    loop {
        // Reading blocks, and the connection must go on meanwhile.
        let read = tokio::task::spawn_blocking(move || {
            let signal = editor.read_line(&ShellPrompt);
            (editor, signal)
        });
        let signal = match read.await {
            Ok((back, signal)) => {
                editor = back;
                signal
            }
            Err(error) => {
                eprintln!("error: reading from the terminal: {error}");
                return End::Failed;
            }
        };
        match signal {
            Ok(Signal::Success(text)) => {
                if run_text(runner, &text).await == Next::Leave {
                    return End::Done;
                }
            }
            Ok(Signal::CtrlC) => {}
            Ok(_) => return End::Done,
            Err(error) => {
                eprintln!("error: reading from the terminal: {error}");
                return End::Failed;
            }
        }
    }
}

/// Runs what was entered at once. After an error, what is left of it does not run.
async fn run_text(runner: &mut Runner, text: &str) -> Next {
    let mut out = BufWriter::new(io::stdout());
    let result = match Command::of_word(text) {
        Some(command) => runner.command(command, &mut out).await,
        None => run_items(runner, text, &mut out).await,
    };
    // If the terminal is gone, there is nobody to tell.
    let _ = out.flush();
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        Next::GoOn
    })
}

async fn run_items(runner: &mut Runner, text: &str, out: &mut dyn Write) -> Result<Next, ShellError> {
    for item in splitter::split(text) {
        if runner.run(&item, out).await? == Next::Leave {
            return Ok(Next::Leave);
        }
    }
    Ok(Next::GoOn)
}

fn editor() -> Reedline {
    let editor = Reedline::create()
        .with_validator(Box::new(EndOfStatement))
        .use_bracketed_paste(true)
        // As in other shells: what begins with a blank is not kept, for statements with secrets.
        .with_history_exclusion_prefix(Some(" ".to_owned()));
    match history() {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(reason) => {
            eprintln!("there is no history: {reason}");
            editor
        }
    }
}

/// The history in the user's data directory, readable for the user only.
fn history() -> Result<FileBackedHistory, String> {
    let directory = dirs::data_dir().ok_or("the user has no data directory")?.join("springald");
    let path: PathBuf = directory.join("history.txt");
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    fs::create_dir_all(&directory)
        .and_then(|()| options.open(&path))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    FileBackedHistory::with_file(HISTORY_LENGTH, path.clone()).map_err(|error| format!("{}: {error}", path.display()))
}

/// Enter runs what was typed when every statement in it has ended, and begins a new line otherwise.
struct EndOfStatement;

impl Validator for EndOfStatement {
    fn validate(&self, text: &str) -> ValidationResult {
        if Command::of_word(text).is_some() || splitter::is_complete(text) {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

struct ShellPrompt;

impl Prompt for ShellPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "springald".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "         > ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = matches!(search.status, PromptHistorySearchStatus::Failing);
        format!(" ({}: {}) ", if failing { "not in the history" } else { "history" }, search.term).into()
    }
}

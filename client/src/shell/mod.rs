//! The SQL shell: `springald sql`.
//!
//! ```text
//! -c TEXT, -f FILE, standard input ── script ──┐ lines           ┌─ statement ─▶ runner ──▶ Client
//! terminal ───────────────────── interactive ──┴▶ splitter ──▶ Item              └▶ output: table, csv, json, vertical
//!                                                               └─ command ───▶ runner
//! ```
//!
//! The shell knows SQL only as far as it must to see where a statement ends; what a statement means is the server's
//! business. Results go to standard output, everything else to standard error, so that scripts can rely on both.

mod commands;
mod error;
mod interactive;
mod options;
mod output;
mod runner;
mod script;
mod splitter;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use crate::client::Client;
use crate::error::ClientError;
use error::ShellError;
pub use options::{Format, ShellOptions};
use runner::Runner;
use script::Script;

/// How the shell ended. The numbers are its exit codes, on which scripts rely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All statements succeeded.
    Done = 0,
    /// A statement failed, or its result could not be written.
    Failed = 1,
    /// The command line, or what it names, cannot be used.
    Usage = 2,
    /// No server can be reached.
    Unreachable = 3,
}

/// Runs the shell until its statements are done or the user leaves.
///
/// The exit code is 0 if all statements succeeded, 1 if one failed, 2 if the options or the files they name cannot be
/// used, and 3 if no server can be reached. Errors are written to standard error.
pub async fn run(options: ShellOptions) -> ExitCode {
    ExitCode::from(session(options).await as u8)
}

async fn session(options: ShellOptions) -> End {
    let interactive = options.reads_standard_input() && io::stdin().is_terminal() && io::stdout().is_terminal();
    // Before the connection: a file that is missing is the user's mistake, whatever the server does.
    let scripts = if interactive { Ok(Vec::new()) } else { Script::open_all(&options) };
    let scripts = match scripts {
        Ok(scripts) => scripts,
        Err(error) => return report("", &error),
    };
    let client = match Client::connect(&options.url).await {
        Ok(client) => client,
        Err(error) => return report("", &ShellError::Connect(error)),
    };
    let mut runner = Runner::new(client, &options, interactive);
    if interactive {
        return interactive::run(&mut runner).await;
    }
    let mut out = BufWriter::new(io::stdout());
    for mut script in scripts {
        if let Err(error) = script.run(&mut runner, &mut out).await {
            // What was printed before the error belongs before it; if it cannot be written, the error is what counts.
            let _ = out.flush();
            return report(&script.position(), &error);
        }
    }
    End::Done
}

/// Writes an error, with where it happened, and says how the shell ends by it.
fn report(position: &str, error: &ShellError) -> End {
    let end = end_of(error);
    if end != End::Done {
        eprintln!("{position}{error}");
    }
    end
}

fn end_of(error: &ShellError) -> End {
    match error {
        ShellError::Connect(ClientError::Address { .. }) | ShellError::Usage(_) => End::Usage,
        ShellError::Connect(_) => End::Unreachable,
        // As with `springald sql … | head`: the reader has seen enough, and nothing is wrong.
        ShellError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => End::Done,
        ShellError::Statement(_) | ShellError::Cancelled | ShellError::Output(_) => End::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_each_error_then_the_exit_code_says_whose_it_is() {
        let address = ClientError::Address { url: "x".to_owned(), reason: "y".to_owned() };
        assert_eq!(end_of(&ShellError::Connect(address)) as u8, 2);
        assert_eq!(end_of(&ShellError::Usage("no file".to_owned())) as u8, 2);
        let unreachable = ClientError::Connect { attempts: "refused".to_owned() };
        assert_eq!(end_of(&ShellError::Connect(unreachable)) as u8, 3);
        assert_eq!(end_of(&ShellError::Statement(ClientError::Protocol("z".to_owned()))) as u8, 1);
        assert_eq!(end_of(&ShellError::Cancelled) as u8, 1);
        assert_eq!(end_of(&ShellError::Output(io::ErrorKind::StorageFull.into())) as u8, 1);
        assert_eq!(end_of(&ShellError::Output(io::ErrorKind::BrokenPipe.into())) as u8, 0);
    }
}

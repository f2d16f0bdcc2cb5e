//! Runs statements and commands of one session.

use std::future::pending;
use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use futures::TryStreamExt;
use tokio::signal::ctrl_c;
use tokio::time::timeout;

use super::commands::{Command, HELP};
use super::error::ShellError;
use super::options::{Format, ShellOptions};
use super::output::{self, Style};
use super::splitter::{Item, Kind};
use crate::client::Client;
use crate::query::QueryStream;
use crate::tables::TableInfo;

/// How long the server may take to say that it cancels: the user waits.
const CANCEL_DEADLINE: Duration = Duration::from_secs(5);

/// What is to happen after an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next one.
    GoOn,
    /// The shell ends.
    Leave,
}

/// A session and how it shows results.
pub(super) struct Runner {
    client: Client,
    style: Style,
    timing: bool,
}

impl Runner {
    /// A runner; people see how long statements take without asking for it.
    pub fn new(client: Client, options: &ShellOptions, interactive: bool) -> Self {
        let style = Style { format: options.format, header: !options.no_header };
        Self { client, style, timing: options.timing || interactive }
    }

    /// The server in use.
    pub fn url(&self) -> String {
        self.client.url()
    }

    /// Runs a statement or a command, and writes its result.
    ///
    /// # Errors
    /// What the server says of it, Ctrl-C, or that its result cannot be written.
    pub async fn run(&mut self, item: &Item, out: &mut dyn Write) -> Result<Next, ShellError> {
        let next = match item.kind {
            Kind::Statement => self.statement(&item.text, out).await.map(|()| Next::GoOn)?,
            Kind::Command => self.command(Command::parse(&item.text).map_err(ShellError::Usage)?, out).await?,
        };
        out.flush()?;
        Ok(next)
    }

    /// Runs a command.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub async fn command(&mut self, command: Command, out: &mut dyn Write) -> Result<Next, ShellError> {
        match command {
            Command::Quit => return Ok(Next::Leave),
            Command::Help => out.write_all(HELP.as_bytes())?,
            Command::Format(format) => self.style.format = format,
            Command::Timing(wanted) => {
                self.timing = wanted.unwrap_or(!self.timing);
                eprintln!("timing is {}", if self.timing { "on" } else { "off" });
            }
            Command::Describe(table) => self.statement(&format!("DESCRIBE {table}"), out).await?,
            Command::Tables => {
                let started = Instant::now();
                let batch = table_list(&self.client.tables().await?)?;
                let mut writer = output::writer(self.style, batch.schema(), out);
                writer.batch(&batch)?;
                writer.end()?;
                drop(writer);
                self.summary(batch.num_columns(), batch.num_rows(), started.elapsed(), out)?;
            }
        }
        Ok(Next::GoOn)
    }

    async fn statement(&self, sql: &str, out: &mut dyn Write) -> Result<(), ShellError> {
        let started = Instant::now();
        let mut interrupted = pin!(interrupt());
        let mut stream = tokio::select! {
            biased;
            () = &mut interrupted => return Err(ShellError::Cancelled),
            stream = self.client.query(sql) => stream?,
        };
        let handle = stream.cancel_handle();
        match self.copy(&mut stream, interrupted, out).await {
            Ok(rows) => self.summary(stream.schema().fields().len(), rows, started.elapsed(), out),
            Err(error) => {
                if !matches!(error, ShellError::Statement(_)) {
                    // Closing the stream would do it too, but only after the server's time of grace.
                    let _ = timeout(CANCEL_DEADLINE, handle.cancel()).await;
                }
                Err(error)
            }
        }
    }

    /// Writes the result as it arrives, and returns its number of rows.
    async fn copy(
        &self,
        stream: &mut QueryStream,
        mut interrupted: Pin<&mut impl Future<Output = ()>>,
        out: &mut dyn Write,
    ) -> Result<usize, ShellError> {
        let mut writer = output::writer(self.style, stream.schema().clone(), out);
        let mut rows = 0;
        loop {
            let batch = tokio::select! {
                biased;
                () = &mut interrupted => return Err(ShellError::Cancelled),
                batch = stream.try_next() => batch?,
            };
            let Some(batch) = batch else { break };
            rows += batch.num_rows();
            writer.batch(&batch)?;
        }
        writer.end()?;
        Ok(rows)
    }

    /// Tells what came of a statement: after tables beside them, otherwise where it does not disturb programs.
    fn summary(&self, columns: usize, rows: usize, took: Duration, out: &mut dyn Write) -> Result<(), ShellError> {
        let time = format!("{:.3} s", took.as_secs_f64());
        let what = match (columns, rows) {
            (0, _) => "OK".to_owned(),
            (_, 1) => "1 row".to_owned(),
            (_, rows) => format!("{rows} rows"),
        };
        // Both may go to one terminal.
        out.flush()?;
        match (self.style.format, self.timing) {
            (Format::Table | Format::Vertical, true) => writeln!(out, "({what}, {time})")?,
            (Format::Table | Format::Vertical, false) => writeln!(out, "({what})")?,
            (Format::Csv | Format::Json, true) => eprintln!("({what}, {time})"),
            (Format::Csv | Format::Json, false) => {}
        }
        Ok(())
    }
}

/// Returns at Ctrl-C.
async fn interrupt() {
    if ctrl_c().await.is_err() {
        // Without signals there is no Ctrl-C to wait for.
        pending::<()>().await;
    }
}

fn table_list(tables: &[TableInfo]) -> Result<RecordBatch, ShellError> {
    let column = |text: fn(&TableInfo) -> Option<&str>| -> ArrayRef {
        Arc::new(tables.iter().map(text).collect::<StringArray>())
    };
    let columns = [
        ("catalog", column(|table| table.catalog.as_deref())),
        ("schema", column(|table| table.schema.as_deref())),
        ("name", column(|table| Some(&table.name))),
        ("type", column(|table| Some(&table.kind))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?)
}

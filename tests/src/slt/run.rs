//! Runs scripts: every record in the reference, and then in a session of each mode.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::engine::{Engine, Outcome, Run};
use super::expected::Expected;
use super::explain::SecondOpinions;
use super::mirror::{Applied, COPY_SETTINGS, Mirror};
use super::report::{Difference, Judgement, Report};
use super::rows::{Answer, Class, compare, compare_limited};
use super::script::{self, Record};
use super::server::{Mode, Server, Session};
use super::statement::{Classified, Kind, classify};

/// Name of DataFusion's catalog in scripts that spell it out.
const DATAFUSION_CATALOG: &str = "datafusion.public.";

/// Runs scripts against one server.
pub struct Runner {
    /// The server; started again when it has ended.
    server: Server,
    executors: usize,
    modes: Vec<Mode>,
    expected: Expected,
    /// What was found so far.
    pub report: Report,
}

/// Everything that belongs to one script.
struct Script {
    engine: Engine,
    mirror: Mirror,
    sessions: Vec<(Mode, Session)>,
    admin: Session,
}

impl Runner {
    /// A runner with a server of so many executors.
    pub async fn start(executors: usize, modes: Vec<Mode>, expected: Expected) -> Self {
        let server = Server::start(executors).await;
        Self { server, executors, modes, expected, report: Report::default() }
    }

    /// Runs a script. The working directory is `root`; a script of the same name in `own`, below `setup`, runs before it.
    ///
    /// # Errors
    /// The script cannot be read, or the server is not there.
    pub async fn run(&mut self, root: &Path, own: &Path, path: &Path) -> Result<(), String> {
        let started = Instant::now();
        let setup = own.join("setup").join(path.file_name().unwrap_or_default());
        let mut records = if setup.is_file() { script::read(own, &setup)? } else { vec![] };
        records.extend(script::read(&root.join("test_files"), path)?);
        let scratch = root.join("test_files/scratch").join(path.file_stem().unwrap_or_default());
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
        let mut script = self.open(root).await.map_err(|error| error.to_string())?;
        self.report.files += 1;
        self.report.records += records.len();
        for (number, record) in records.iter().enumerate() {
            self.report.ids.insert(record.id.clone());
            self.record(&mut script, record).await;
            if !self.server.is_running() {
                let left = records.len() - number - 1;
                self.report.aborted.push(format!("{}: the server has ended; {left} records not run", record.id));
                self.server = Server::start(self.executors).await;
                break;
            }
        }
        if let Err(why) = clean(&script.admin).await {
            self.report.aborted.push(format!("{}: its tables cannot be dropped: {why}", path.display()));
            self.server = Server::start(self.executors).await;
        }
        let name = path.strip_prefix(root.join("test_files")).unwrap_or(path).display().to_string();
        self.report.seconds.insert(name, started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Closes the books: names lines of the list that did not occur.
    pub fn finish(mut self) -> Report {
        self.report.stale = self.expected.stale(&self.report.ids, &self.modes);
        self.report
    }

    async fn open(&self, root: &Path) -> Result<Script, Box<dyn std::error::Error>> {
        let admin = self.server.session(Mode::Default).await?;
        for setting in COPY_SETTINGS {
            admin.execute(setting).await.map_err(|outcome| outcome.shown())?;
        }
        let mut sessions = Vec::new();
        for mode in &self.modes {
            sessions.push((*mode, self.server.session(*mode).await?));
        }
        Ok(Script { engine: Engine::new(), mirror: Mirror::new(root)?, sessions, admin })
    }

    async fn record(&mut self, script: &mut Script, record: &Record) {
        let sql = record.sql.replace(DATAFUSION_CATALOG, "springald.public.");
        let classified = classify(&sql, &script.engine.dialect());
        match &classified.kind {
            Kind::Skipped(kind) => self.report.skip(kind),
            Kind::Local(kind) => {
                self.report.skip(kind);
                drop(script.engine.execute(&sql).await);
            }
            Kind::Setting => self.setting(script, record, &sql).await,
            Kind::Query { is_volatile } => self.query(script, record, &sql, (&classified, *is_volatile)).await,
            kind => self.change(script, record, &sql, kind).await,
        }
    }

    /// `SET` and `RESET`, in all sessions. Those that the server does not have hold in the reference alone.
    async fn setting(&mut self, script: &Script, record: &Record, sql: &str) {
        let here = script.engine.execute(sql).await;
        for (mode, session) in &script.sessions {
            let there = session.execute(sql).await;
            match (&here, there) {
                (Ok(()), Err(refused)) => {
                    self.report.skip("settings that the server refuses");
                    self.report.refuse(format!("{}: {}", sql.trim(), refused.shown()));
                }
                (Err(failed), Ok(())) => {
                    let difference = (Class::DataFusionError, failed.shown());
                    self.judge(record, *mode, difference);
                }
                _ => {}
            }
        }
        // Tables are made with the script's settings.
        drop(script.admin.execute(sql).await);
        for setting in COPY_SETTINGS {
            drop(script.admin.execute(setting).await);
        }
    }

    /// Statements that change tables.
    async fn change(&mut self, script: &mut Script, record: &Record, sql: &str, kind: &Kind) {
        let outcome = script.engine.execute(sql).await;
        let Some((mode, native)) = script.sessions.first() else { return };
        let sessions = (native, &script.admin);
        match script.mirror.apply(kind, sql, outcome, &script.engine, sessions).await {
            Applied::Same => self.report.skip("statements that change tables, done"),
            Applied::Copied(reason) => {
                self.report.skip("statements that change tables, copied");
                self.report.refuse(format!("copied: {}", first_line(&reason)));
            }
            Applied::Missing(reason) => {
                self.report.skip("statements that change tables, refused");
                self.report.refuse(format!("{}: {reason}", record.id));
            }
            Applied::Differs(class, text) => self.judge(record, *mode, (class, text)),
        }
    }

    async fn query(
        &mut self,
        script: &Script,
        record: &Record,
        sql: &str,
        (classified, is_volatile): (&Classified, bool),
    ) {
        if let Some(why) = script.mirror.missing(&script.engine, &classified.tables) {
            self.report.skip("queries over tables that are not on the server");
            self.report.refuse(format!("{}: {why}", record.id));
            return;
        }
        let run = script.engine.query(sql).await;
        if matches!(run.outcome, Outcome::Timeout) {
            self.report.skip("queries that take DataFusion too long");
            return;
        }
        let mut unlimited: Option<Option<Answer>> = None;
        let mut opinions = SecondOpinions::default();
        for (mode, session) in &script.sessions {
            let mut found = session.run(sql).await;
            if matches!(&found, Outcome::Error { .. } | Outcome::Timeout) && !self.server.is_running() {
                found = Outcome::Crash;
            }
            self.report.tallies.entry(*mode).or_default().compared += 1;
            let Err(difference) = compare_outcomes(&run, &found, is_volatile) else {
                let tally = self.report.tallies.entry(*mode).or_default();
                match found {
                    Outcome::Answer(_) => tally.equal += 1,
                    _ => tally.failing += 1,
                }
                continue;
            };
            if unlimited.is_none() {
                unlimited = Some(unlimited_answer(&script.engine, &run).await);
            }
            if is_another_choice(&run, &found, unlimited.as_ref().and_then(Option::as_ref)) {
                self.report.tallies.entry(*mode).or_default().equal += 1;
                continue;
            }
            let is_same = |outcome: &Outcome| {
                let other = Run { outcome: outcome.clone(), order: run.order.clone(), unlimited: None };
                compare_outcomes(&other, &found, is_volatile).is_ok()
            };
            let explained = match found {
                Outcome::Crash | Outcome::Timeout => None,
                _ => opinions.explain(&script.mirror, &script.engine, sql, is_same).await,
            };
            match explained {
                Some(setup) => self.add(record, *mode, difference, Judgement::DataFusionToo(setup)),
                None => self.judge(record, *mode, difference),
            }
            if matches!(found, Outcome::Crash) {
                return;
            }
        }
    }

    fn judge(&mut self, record: &Record, mode: Mode, difference: (Class, String)) {
        let judgement = match self.expected.reason(&record.id, mode, difference.0) {
            Some(reason) => Judgement::Listed(reason),
            None => Judgement::Unexpected,
        };
        self.add(record, mode, difference, judgement);
    }

    fn add(&mut self, record: &Record, mode: Mode, (class, detail): (Class, String), judgement: Judgement) {
        let (id, sql) = (record.id.clone(), record.sql.clone());
        self.report.add(Difference { id, mode, class, sql, detail, judgement });
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Drops all tables and views of the server.
async fn clean(admin: &Session) -> Result<(), String> {
    for (name, is_view) in admin.tables().await.map_err(|error| error.to_string())? {
        let kind = if is_view { "VIEW" } else { "TABLE" };
        admin.execute(&format!("DROP {kind} IF EXISTS {name}")).await.map_err(|outcome| outcome.shown())?;
    }
    Ok(())
}

/// Compares a query's outcomes; of volatile ones, only whether they fail.
fn compare_outcomes(run: &Run, found: &Outcome, is_volatile: bool) -> Result<(), (Class, String)> {
    match (&run.outcome, found) {
        (_, Outcome::Crash) => Err((Class::Crash, found.shown())),
        (_, Outcome::Timeout) => Err((Class::Timeout, found.shown())),
        (Outcome::Answer(_), Outcome::Answer(_)) if is_volatile => Ok(()),
        (Outcome::Answer(expected), Outcome::Answer(found)) => compare(expected, found, &run.order),
        (Outcome::Answer(_), Outcome::Error { .. }) => Err((Class::ServerError, found.shown())),
        (_, Outcome::Answer(_)) => {
            Err((Class::DataFusionError, format!("{}; got {}", run.outcome.shown(), found.shown())))
        }
        _ => Ok(()),
    }
}

/// The answer without the top-level `LIMIT`.
async fn unlimited_answer(engine: &Engine, run: &Run) -> Option<Answer> {
    match engine.answer(run.unlimited.clone()?).await {
        Outcome::Answer(answer) => Some(answer),
        _ => None,
    }
}

/// True if the rows found are others that the query's `LIMIT` may have chosen.
fn is_another_choice(run: &Run, found: &Outcome, unlimited: Option<&Answer>) -> bool {
    match (&run.outcome, found, unlimited) {
        (Outcome::Answer(expected), Outcome::Answer(found), Some(unlimited)) => {
            compare_limited(expected, found, unlimited, &run.order).is_ok()
        }
        _ => false,
    }
}

//! Starts a cluster.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::{Plan, Planned};
use super::programs::Programs;
use super::state::State;
use super::{UpOptions, down, process, status};
use crate::setup::{self, SetupOptions};
use crate::{Error, Result, files};

/// Starts everything and waits until it is healthy. What was started is ended if that fails.
pub(super) async fn run(options: &UpOptions) -> Result<bool> {
    let directory = absolute(&options.place.directory)?;
    if let Some(state) = State::load(&directory)?
        && state.services.iter().any(process::lives)
    {
        return Err(Error::Invalid(format!(
            "a cluster runs in {}: `springald cluster down` ends it",
            directory.display()
        )));
    }
    let mut programs = Programs::find();
    if options.clickhouse.is_some() {
        programs.missing.remove("clickhouse");
    }
    refuse_incomplete(options, &programs)?;
    let springald = std::env::current_exe().map_err(Error::file("find", "springald"))?;
    let plan = Plan::new(options, &directory, &springald, &programs, &mut Ports::default())?;
    for folder in &plan.folders {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    for (path, text) in &plan.files {
        files::write(path, text)?;
    }
    let mut state = State { services: vec![], left_out: programs.missing.clone() };
    if let Err(error) = start(&plan, &directory, options, &mut state).await {
        down::end(&state, Duration::from_secs(10)).await;
        return Err(error);
    }
    status::print(&state).await;
    Ok(true)
}

/// etcd is needed in any case, and everything if that was said.
fn refuse_incomplete(options: &UpOptions, programs: &Programs) -> Result<()> {
    if let Some(why) = programs.missing.get("etcd") {
        return Err(Error::Invalid(format!("a cluster needs etcd: {why}")));
    }
    if options.full && !programs.missing.is_empty() {
        let missing: Vec<String> = programs.missing.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        return Err(Error::Invalid(format!("--full, and this machine lacks\n  {}", missing.join("\n  "))));
    }
    Ok(())
}

async fn start(plan: &Plan, directory: &Path, options: &UpOptions, state: &mut State) -> Result<()> {
    let patience = Duration::from_secs(options.wait);
    start_all(&plan.first, directory, patience, state).await?;
    if plan.nats.is_some() || plan.clickhouse.is_some() {
        let setup = SetupOptions {
            nats: plan.nats.clone(),
            replicas: 1,
            clickhouse: plan.clickhouse.clone(),
            clickhouse_cluster: None,
            wait: options.wait,
        };
        setup::run(&setup).await?;
    }
    start_all(&plan.second, directory, patience, state).await
}

/// Starts them one after the other, as etcd must be there for all others, and then waits for all.
async fn start_all(planned: &[Planned], directory: &Path, patience: Duration, state: &mut State) -> Result<()> {
    let before = state.services.len();
    for one in planned {
        let service = process::start(one, directory)?;
        state.services.push(service);
        // What was started is known, whatever happens next.
        state.save(directory)?;
    }
    for service in &state.services[before..] {
        process::healthy(service, patience).await?;
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).map_err(Error::file("create", path))?;
    fs::canonicalize(path).map_err(Error::file("find", path))
}

/// Free ports of this machine; all differ.
#[derive(Default)]
pub(super) struct Ports(Vec<TcpListener>);

impl Ports {
    /// One more. It stays taken until all were asked for.
    pub(super) fn next(&mut self) -> Result<u16> {
        let listener =
            TcpListener::bind("127.0.0.1:0").map_err(|error| Error::Invalid(format!("no free port: {error}")))?;
        let port = listener.local_addr().map_err(|error| Error::Invalid(format!("no free port: {error}")))?.port();
        self.0.push(listener);
        Ok(port)
    }
}

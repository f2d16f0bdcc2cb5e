//! The threads that tasks run on, apart from those that answer peers and schedulers.
//!
//! An operator may compute for a long time without giving its thread back (a nested loop join that finds no match,
//! a function over a large batch). On threads of its own it delays other tasks at most: the control streams and the
//! exchange service go on, so nobody takes this executor for dead.

use springald_core::error::{Error, ErrorCode, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime of tasks, one thread per slot. Dropped, it stops without waiting.
#[derive(Debug)]
pub(crate) struct Compute {
    handle: Handle,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl Compute {
    /// A runtime with `threads` threads.
    pub(crate) fn start(threads: u32) -> Result<Self> {
        let built = Builder::new_multi_thread()
            .worker_threads(threads.max(1) as usize)
            .thread_name("springald-task")
            .enable_all()
            .build();
        let runtime = built.map_err(|error| {
            let message = format!("starting {threads} threads for tasks (setting executor.slots): {error}");
            Error::new(ErrorCode::ResourcesExhausted, message).with_source(error)
        })?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where tasks are spawned.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        // A runtime must not be waited for on a thread of another one; and what still runs may never end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

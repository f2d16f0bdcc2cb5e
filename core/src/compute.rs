//! Threads for computing, apart from those that answer peers and clients.
//!
//! An operator may compute for a long time without giving its thread back (a nested loop join that finds no match,
//! a function over a large batch). On threads of its own it delays other computations at most: leases are kept, control
//! streams and services go on, and nobody takes this process for dead.

use std::any::Any;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, ErrorCode, Result};

/// Stack of a thread that plans or computes, in bytes; taken from the system only as it is used. Expressions and plans are
/// walked by recursion, a few frames of up to several KiB for each level.
pub const STACK_BYTES: usize = 32 << 20;

/// A runtime for computing. Dropped, it stops without waiting.
#[derive(Debug)]
pub struct Compute {
    handle: Handle,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl Compute {
    /// A runtime with `threads` threads of this name, one at least.
    ///
    /// # Errors
    /// [`ErrorCode::ResourcesExhausted`] if the system gives none.
    pub fn start(threads: usize, name: &str) -> Result<Self> {
        let built = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name(name)
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build();
        let runtime = built.map_err(|error| {
            let message = format!("starting {threads} threads, {name}: {error}");
            Error::new(ErrorCode::ResourcesExhausted, message).with_source(error)
        })?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where work is spawned.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// The error of a query of which an operator has panicked, with what it said.
pub fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message");
    Error::new(ErrorCode::Query, format!("operator panicked: {text}"))
}

impl Drop for Compute {
    fn drop(&mut self) {
        // A runtime must not be waited for on a thread of another one; and what still runs may never end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

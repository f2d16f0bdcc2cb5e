//! The exchange operators: where one stage ends and the next begins.
//!
//! ```text
//!   stage 1 (executor A)            stage 1 (executor B)              stage 2
//!   ExchangeWriterExec              ExchangeWriterExec                  …
//!     └─ plan partition 0             └─ plan partition 1               ExchangeReaderExec(stage 1)
//!          │ pieces (stage, task, attempt, partition)   │                   ▲ partition p: piece p of every task
//!          └──────────▶ exchange stores ◀───────────────┘───────────────────┘
//! ```
//!
//! The output partitions with rows may be followed by some with the [hashes of join keys](KeyHashes), by which
//! [`RuntimeFilterExec`] drops rows of another stage that would find no match.
//!
//! These are plan nodes only. Who stores pieces and how they travel is the executor's matter; a reader finds its
//! input through the [`ExchangeInput`] that the executor puts into the task's session configuration.

mod bloom;
mod filter;
mod keys;
mod reader;
mod writer;

use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;

pub use filter::RuntimeFilterExec;
pub use keys::{KeyHashes, is_key_hashes, key_hash_schema};
pub use reader::{ExchangeKind, ExchangeReaderExec};
pub use writer::ExchangeWriterExec;

use crate::ids::StageId;

/// Gives an [`ExchangeReaderExec`] the batches of its input stage. Installed by the executor as an extension of the
/// task's session configuration, as [`ExchangeInputRef`].
pub trait ExchangeInput: Send + Sync + 'static {
    /// All batches that the tasks of `stage` wrote for the given output partitions, task by task. Fails with
    /// [`InputLost`](crate::error::InputLost) in the stream where a piece cannot be had.
    fn read(
        &self,
        stage: StageId,
        schema: datafusion::arrow::datatypes::SchemaRef,
        partitions: std::ops::Range<usize>,
    ) -> datafusion::error::Result<SendableRecordBatchStream>;

    /// The batches of one output partition, as one stream per task of `stage`, each in the order in which that task wrote
    /// them. Fails like [`read`](Self::read).
    fn read_runs(
        &self,
        stage: StageId,
        schema: datafusion::arrow::datatypes::SchemaRef,
        partition: usize,
    ) -> datafusion::error::Result<Vec<SendableRecordBatchStream>>;
}

/// The extension under which a task's [`ExchangeInput`] is found.
pub struct ExchangeInputRef(pub Arc<dyn ExchangeInput>);

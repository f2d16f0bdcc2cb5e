//! Pieces on disk: one Arrow IPC stream (LZ4) per file, in [blocks](super::blocks) that are checked when they are read.
//!
//! Writing waits for the disk and belongs on a thread that may block. A file is deleted, and its bytes are given back, when the
//! last reader or piece that refers to it is gone: freeing a piece while somebody reads it is safe. The directory of a job
//! goes with its last file, and is made anew for the next one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use springald_core::error::Error;
use springald_core::ids::JobId;
use springald_core::telemetry::events::names;

use super::ReadError;
use super::blocks::{BlockReader, BlockWriter, Checksums};
use super::patient::{Patient, means_lost, patiently};
use crate::memory::SpillBudget;

/// A reader of a spilled piece takes at most this many batches from disk at a time.
const BATCHES_PER_READ: usize = 4;

/// Where pieces are spilled to.
#[derive(Debug)]
pub(crate) struct SpillArea {
    dir: PathBuf,
    budget: Arc<SpillBudget>,
    dirs: Directories,
    /// Makes file names unique: a piece can be spilled in several parts.
    next: AtomicU64,
}

/// The directories of jobs. The lock is held while one is made with a file in it, and while an empty one is deleted: none
/// goes before its first file is there.
#[derive(Clone, Debug, Default)]
struct Directories(Arc<Mutex<()>>);

/// A file with batches of one piece; deleted when dropped.
#[derive(Debug)]
pub(crate) struct SpillFile {
    path: PathBuf,
    bytes: AtomicU64,
    /// What must come back.
    sums: Arc<Checksums>,
    budget: Arc<SpillBudget>,
    dirs: Directories,
}

impl SpillArea {
    /// Files go below `dir`, and count against `budget`.
    pub(crate) fn new(dir: PathBuf, budget: Arc<SpillBudget>) -> Self {
        Self { dir, budget, dirs: Directories::default(), next: AtomicU64::new(0) }
    }

    /// Bytes on disk now.
    pub(crate) fn bytes(&self) -> u64 {
        self.budget.exchange_bytes()
    }

    /// Writes `batches` to a new file whose name starts with `name`. Blocks.
    pub(crate) fn write<'a>(
        &self,
        job: &JobId,
        name: &str,
        schema: &SchemaRef,
        batches: impl IntoIterator<Item = &'a RecordBatch>,
    ) -> Result<SpillFile> {
        let dir = self.dir.join(job.as_str());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{name}-{number}.arrow"));
        let output = self.dirs.make_file(&dir, &path).map_err(|error| spill_error("making", &path, error))?;
        // From here on the file is deleted if anything fails.
        let (budget, dirs) = (Arc::clone(&self.budget), self.dirs.clone());
        let mut file = SpillFile { path, bytes: AtomicU64::new(0), sums: Arc::default(), budget, dirs };
        file.sums = Arc::new(file.fill(output, schema, batches)?);
        Ok(file)
    }
}

impl Directories {
    /// Makes the file at `path`, which is in `dir`, and `dir` too if it is not there.
    fn make_file(&self, dir: &Path, path: &Path) -> io::Result<File> {
        let _held = self.0.lock();
        std::fs::create_dir_all(dir)?;
        File::create(path).inspect_err(|_| delete_if_empty(dir))
    }

    /// A file of `dir` has been deleted: the directory goes after the last one.
    fn deleted_in(&self, dir: &Path) {
        let _held = self.0.lock();
        delete_if_empty(dir);
    }
}

fn delete_if_empty(dir: &Path) {
    // Not empty: other files are needed still. Not there: another thread was first, or the process ends.
    let _ = std::fs::remove_dir(dir);
}

impl SpillFile {
    /// Size on disk in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn fill<'a>(
        &self,
        output: File,
        schema: &SchemaRef,
        batches: impl IntoIterator<Item = &'a RecordBatch>,
    ) -> Result<Checksums> {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let blocks = BlockWriter::new(Counted { output, file: self });
        let write_all = || {
            let mut writer = StreamWriter::try_new_with_options(blocks, schema, options)?;
            batches.into_iter().try_for_each(|batch| writer.write(batch))?;
            // Ends the stream.
            Ok(writer.into_inner()?.end()?)
        };
        write_all().map_err(|error| self.unwrap_limit(error))
    }

    /// Arrow wraps what our writer says: finds the limit's own error in it, or says which file failed.
    fn unwrap_limit(&self, error: ArrowError) -> DataFusionError {
        match error {
            ArrowError::IoError(message, error) => match error.downcast::<DataFusionError>() {
                Ok(limit) => limit,
                Err(error) => spill_error("writing", &self.path, io::Error::new(error.kind(), message)),
            },
            other => other.into(),
        }
    }

    /// What arrives at Arrow's reader is what its writer wrote: only the way there can fail.
    fn unreadable(&self, error: ArrowError) -> ReadError {
        match error {
            ArrowError::IoError(_, error) => self.failed(error),
            other => ReadError::Failed(other.into()),
        }
    }

    /// What an error means that has not passed while the file was read patiently.
    fn failed(&self, error: io::Error) -> ReadError {
        let path = self.path.display();
        if means_lost(&error) {
            return ReadError::Lost(format!("spilled data at {path} is lost: {error}"));
        }
        let message = format!("reading spilled data of the exchange at {path}: {error}");
        ReadError::Failed(Error::unavailable(message).with_source(error).into())
    }

    /// The file's batches, read on threads that may block, a few at a time and only when they are asked for.
    pub(crate) fn read(self: Arc<Self>) -> BoxStream<'static, Result<RecordBatch, ReadError>> {
        let chunks = futures::stream::try_unfold(Progress::Start(self), |progress| async move {
            tokio::task::spawn_blocking(move || progress.next_chunk()).await.map_err(|error| {
                DataFusionError::Execution(format!("reading spilled data of the exchange was broken off: {error}"))
            })?
        });
        chunks.map_ok(|chunk| futures::stream::iter(chunk.into_iter().map(Ok))).try_flatten().boxed()
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(event = names::SPILL_FILE_KEPT, file = %self.path.display(), %error, "could not delete spilled data of the exchange");
        }
        if let Some(dir) = self.path.parent() {
            self.dirs.deleted_in(dir);
        }
        self.budget.give_back(self.bytes());
    }
}

/// How far a reader of a file is.
enum Progress {
    Start(Arc<SpillFile>),
    /// The file is kept with the reader, so that it is not deleted before its end.
    Reading(Box<StreamReader<BlockReader<Patient<File>>>>, Arc<SpillFile>),
}

impl Progress {
    /// The next batches, and how to go on; `None` at the end. Blocks.
    fn next_chunk(self) -> Result<Option<(Vec<RecordBatch>, Self)>, ReadError> {
        let (mut reader, file) = match self {
            Self::Reading(reader, file) => (reader, file),
            Self::Start(file) => {
                let input = patiently(|| File::open(&file.path)).map_err(|error| file.failed(error))?;
                let blocks = BlockReader::new(Patient(input), Arc::clone(&file.sums));
                (Box::new(StreamReader::try_new(blocks, None).map_err(|error| file.unreadable(error))?), file)
            }
        };
        let chunk = reader.by_ref().take(BATCHES_PER_READ).collect::<Result<Vec<_>, _>>();
        let chunk = chunk.map_err(|error| file.unreadable(error))?;
        Ok((!chunk.is_empty()).then_some((chunk, Self::Reading(reader, file))))
    }
}

/// Counts the bytes of a file while they are written, and stops where the limit is.
struct Counted<'a> {
    output: File,
    file: &'a SpillFile,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.budget.take(bytes.len() as u64).map_err(io::Error::other)?;
        self.file.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.output.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn spill_error(doing: &str, path: &Path, error: io::Error) -> DataFusionError {
    let message = format!("{doing} spilled data of the exchange at {}: {error}", path.display());
    DataFusionError::IoError(io::Error::new(error.kind(), message))
}

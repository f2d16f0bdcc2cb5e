//! Writes the tables as Parquet, on all cores.
//!
//! ```text
//! <parent>/.<name>.lock      one process generates, another waits and then finds the data
//! <parent>/.<name>.partial   written here …
//! <dir>/<table>/part-<n>.parquet, <dir>/tpch-manifest.json    … and renamed when complete
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::manifest::{self, DataFile, Manifest, State};
use super::{Scale, Table};
use crate::error::{BenchError, Result};

/// Rows of a row group. Readers share a file out by row groups: a quarter of a million keeps 16 readers of scale 1's
/// `lineitem` busy, and is far above the size where the overhead of a group shows.
const ROW_GROUP_ROWS: usize = 262_144;

/// Rows generated at a time.
const BATCH_ROWS: usize = 8192;

/// Rows that [`generate`] will write at `scale`, for a progress bar; `lineitem` counts with its expected number.
pub fn expected_rows(scale: Scale) -> u64 {
    Table::ALL.into_iter().map(|table| table.rows(scale)).sum()
}

/// Makes sure that `dir` holds the eight tables at `scale`, as `<dir>/<table>/part-<n>.parquet`.
///
/// Complete data from an earlier call is left as it is. `progress` is called with the number of rows written since its
/// last call, from several threads. Keys are `Int64`, dates `Date32`, money and quantities `Decimal128(15, 2)`, text
/// `Utf8View`; no column is nullable.
///
/// # Errors
/// [`BenchError::ForeignDirectory`] if `dir` holds other files; otherwise what writing gave.
pub fn generate(dir: &Path, scale: Scale, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
    if manifest::inspect(dir, scale)? == State::Complete {
        return Ok(());
    }
    let dir = std::path::absolute(dir).map_err(BenchError::io("resolving", dir))?;
    let parent = dir.parent().unwrap_or(&dir);
    fs::create_dir_all(parent).map_err(BenchError::io("creating", parent))?;
    let _held_until_return = lock(&sibling(&dir, "lock"))?;
    match manifest::inspect(&dir, scale)? {
        State::Complete => return Ok(()),
        State::Foreign => return Err(BenchError::ForeignDirectory(dir)),
        State::Replaceable => {}
    }
    let staging = sibling(&dir, "partial");
    remove_dir(&staging)?;
    let files = write_tables(&staging, scale, progress)?;
    Manifest::new(scale, files).write(&staging)?;
    remove_dir(&dir)?;
    fs::rename(&staging, &dir).map_err(BenchError::io("renaming generated data to", &dir))
}

/// `.<name>.<suffix>` beside `dir`.
fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(dir.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

/// Waits for other generators of the same data. The system releases the lock when its holder ends, however it ends.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(BenchError::io("creating", path))?;
    file.lock().map_err(BenchError::io("locking", path))?;
    Ok(file)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(BenchError::io("removing", dir)(error)),
        _ => Ok(()),
    }
}

/// A file still to be written.
#[derive(Clone, Copy)]
struct Job {
    table: Table,
    file: u32,
    files: u32,
}

/// Writes all files below `root`, one worker per core taking the next job when it is done with one.
fn write_tables(root: &Path, scale: Scale, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<DataFile>> {
    let mut jobs = Vec::new();
    for table in Table::ALL {
        let dir = root.join(table.name());
        fs::create_dir_all(&dir).map_err(BenchError::io("creating", &dir))?;
        let files = table.files(scale);
        jobs.extend((0..files).map(|file| Job { table, file, files }));
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut written = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match write_file(root, scale, *job, progress) {
                Ok(file) => written.push(file),
                Err(error) => {
                    // The other workers find no further job and stop after their current file.
                    next.store(jobs.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(written)
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let results: Vec<Result<Vec<DataFile>>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|panic| Err(worker_panicked(&*panic)))).collect()
    });
    let mut files: Vec<DataFile> = results.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn worker_panicked(panic: &(dyn std::any::Any + Send)) -> BenchError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    BenchError::Worker(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
}

fn write_file(root: &Path, scale: Scale, job: Job, progress: &(dyn Fn(u64) + Sync)) -> Result<DataFile> {
    let relative = format!("{}/part-{}.parquet", job.table.name(), job.file);
    let path = root.join(&relative);
    let out = File::create(&path).map_err(BenchError::io("creating", &path))?;
    let rows =
        write_rows(out, scale, job, progress).map_err(|source| BenchError::Parquet { path: path.clone(), source })?;
    let bytes = fs::metadata(&path).map_err(BenchError::io("reading", &path))?.len();
    Ok(DataFile { path: relative, bytes, rows })
}

/// Writes the rows of one file and returns their number.
fn write_rows(out: File, scale: Scale, job: Job, progress: &(dyn Fn(u64) + Sync)) -> Result<u64, ParquetError> {
    let batches = job.table.batches(scale, job.file, job.files, BATCH_ROWS);
    let schema = batches.schema().clone();
    let mut writer = ArrowWriter::try_new(BufWriter::new(out), schema, Some(properties()))?;
    let mut rows = 0;
    for batch in batches {
        writer.write(&batch)?;
        rows += count(&batch);
        progress(count(&batch));
    }
    writer.close()?;
    Ok(rows)
}

fn count(batch: &RecordBatch) -> u64 {
    batch.num_rows() as u64
}

/// LZ4 decodes fastest of what all Parquet readers know. Statistics are on (the default), down to pages.
fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn read(path: &Path) -> ParquetRecordBatchReaderBuilder<File> {
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("data file")).expect("Parquet footer")
    }

    #[test]
    fn given_a_small_scale_when_generated_then_tables_have_the_specified_rows_and_types() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let dir = parent.path().join("sf0.01");
        let scale = "0.01".parse().expect("scale");
        let reported = AtomicUsize::new(0);
        generate(&dir, scale, &|rows| {
            reported.fetch_add(usize::try_from(rows).expect("few rows"), Ordering::Relaxed);
        })
        .expect("generated");

        let mut rows = 0;
        for table in Table::ALL {
            let file = read(&dir.join(table.name()).join("part-0.parquet"));
            let found = u64::try_from(file.metadata().file_metadata().num_rows()).expect("rows");
            if table != Table::Lineitem {
                assert_eq!(found, table.rows(scale), "{}", table.name());
            }
            rows += found;
        }
        assert_eq!(reported.into_inner() as u64, rows);

        let lineitem = read(&dir.join("lineitem/part-0.parquet"));
        let column = |name: &str| lineitem.schema().field_with_name(name).expect(name).data_type().clone();
        assert_eq!(lineitem.metadata().file_metadata().num_rows(), 60175);
        assert_eq!(column("l_orderkey"), DataType::Int64);
        assert_eq!(column("l_shipdate"), DataType::Date32);
        assert_eq!(column("l_extendedprice"), DataType::Decimal128(15, 2));
        assert!(lineitem.metadata().row_group(0).column(0).statistics().is_some());
    }

    #[test]
    fn given_generated_data_when_asked_again_then_nothing_is_written() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let dir = parent.path().join("data");
        let scale = "0.001".parse().expect("scale");
        generate(&dir, scale, &|_| ()).expect("generated");
        generate(&dir, scale, &|_| panic!("rows were written again")).expect("reused");
        assert!(!sibling(&dir, "partial").exists());
    }

    #[test]
    fn given_somebody_elses_directory_then_it_is_refused_and_kept() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let precious = dir.path().join("notes.txt");
        fs::write(&precious, "keep me").expect("file");
        let error = generate(dir.path(), "0.001".parse().expect("scale"), &|_| ()).expect_err("refused");
        assert!(matches!(error, BenchError::ForeignDirectory(_)), "{error}");
        assert!(precious.exists());
    }
}

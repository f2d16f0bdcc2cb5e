//! How many events a process can write, and that none is lost without a word. Shown with `--nocapture`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use springald_core::telemetry::events::{check_line, names};
use springald_core::telemetry::{EventLayer, Identity};
use tracing_subscriber::layer::SubscriberExt;

const THREADS: u32 = 4;
const EVENTS_PER_THREAD: u32 = 100_000;
/// What a process is to be able to write in a second.
const WANTED_PER_SECOND: f64 = 100_000.0;

#[test]
fn given_many_events_at_once_then_each_is_written_or_counted_as_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("events.jsonl");
    let identity = Identity::of_process("test", "throughput");
    let sink = File::create(&path).expect("a file");
    let (layer, events) = EventLayer::new(sink, &identity, 16 << 20).expect("a thread");
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let started = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let dispatch = dispatch.clone();
            std::thread::spawn(move || tracing::dispatcher::with_default(&dispatch, || emit(thread)))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it emits"));
    let emitted = started.elapsed();
    events.flush(Duration::from_secs(60));
    let written = started.elapsed();
    events.end(Duration::from_secs(60));

    let (mut lines, mut dropped, mut sequences) = (0u64, 0, BTreeSet::new());
    for line in BufReader::new(File::open(&path).expect("the file")).lines() {
        let line = line.expect("text");
        let event = check_line(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(sequences.insert(event["sequence"].as_u64()), "a number was used twice: {line}");
        match event["event"] == names::EVENTS_DROPPED {
            true => dropped += event["count"].as_u64().unwrap_or_default(),
            false => lines += 1,
        }
    }
    let total = u64::from(THREADS * EVENTS_PER_THREAD);
    assert_eq!(lines + dropped, total, "what is neither written nor counted is lost");
    let per_second = |time: Duration| total as f64 / time.as_secs_f64();
    println!(
        "{total} events of {THREADS} threads: {:.0} per second taken, {:.0} written, {dropped} dropped; {:.1} times of {WANTED_PER_SECOND}",
        per_second(emitted),
        per_second(written),
        per_second(written) / WANTED_PER_SECOND
    );
}

fn emit(thread: u32) {
    let span = tracing::info_span!(
        "task",
        job_id = "0192f0c5a4d87c3e9b1f",
        stage_id = 3u32,
        task_id = thread,
        attempt = 0u32,
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736",
        span_id = "00f067aa0ba902b7"
    );
    let _entered = span.enter();
    for rows in 0..u64::from(EVENTS_PER_THREAD) {
        tracing::info!(
            event = names::TASK_SUCCEEDED,
            rows,
            bytes = rows * 8,
            spilled_bytes = 0u64,
            micros = 1234i64,
            "task succeeded"
        );
    }
}

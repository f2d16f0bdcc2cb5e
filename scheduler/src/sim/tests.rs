//! The simulation as a test: many seeds, a few of them twice, and defects that it must find.

use std::env;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::{simulate, trace};
use crate::defect::{self, Defect};

/// Seeds that are run when nobody asks for others.
const SEEDS: u64 = 10_000;
/// Seeds after which a defect must have been found.
const FOUND_WITHIN: u64 = 500;
/// Seeds that are named when they fail.
const NAMED: usize = 10;
/// Simulations at one time.
const AT_ONCE: usize = 2;
/// What tells the events of one run is shared by all threads: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn asked(name: &str) -> Option<u64> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Runs the seeds on a few threads until so many have failed; these, in order.
fn failures(seeds: Range<u64>, defect: Option<Defect>, most: usize) -> Vec<(u64, String)> {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                defect::put_in(defect);
                while failed.lock().len() < most {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(violation) = simulate(seed) {
                        failed.lock().push((seed, violation));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner();
    failed.sort();
    failed
}

#[test]
fn given_any_seed_when_things_go_wrong_then_every_query_answers_and_nothing_is_left() {
    let _alone = ALONE.lock();
    if let Some(seed) = asked("SPRINGALD_SIM_SEED") {
        let result = trace::printed(|| simulate(seed));
        return result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    let count = asked("SPRINGALD_SIM_SEEDS").unwrap_or(SEEDS);
    let started = Instant::now();
    let failed = failures(0..count, None, NAMED);
    for (seed, violation) in &failed {
        println!("seed {seed}: {violation}\n    to see it happen: make sim SEED={seed}");
    }
    assert!(
        failed.is_empty(),
        "seeds failed, among them {:?}",
        failed.iter().map(|(seed, _)| seed).collect::<Vec<_>>()
    );
    println!("{count} seeds in {:.1} s", started.elapsed().as_secs_f64());
}

#[test]
fn given_a_seed_when_run_again_then_the_very_same_happens() {
    let _alone = ALONE.lock();
    for seed in 0..20 {
        let run = || trace::fingerprint(|| drop(simulate(seed)));
        let first = run();
        assert!(first.1 > 100, "seed {seed} tells little: {first:?}");
        assert_eq!(first, run(), "seed {seed}");
    }
}

/// A seed fails with the defect, and passes without.
fn assert_found(defect: Defect) {
    let _alone = ALONE.lock();
    let found = failures(0..FOUND_WITHIN, Some(defect), FOUND_WITHIN as usize);
    defect::put_in(None);
    let (seed, violation) = found
        .iter()
        .find(|(seed, _)| simulate(*seed).is_ok())
        .unwrap_or_else(|| panic!("{defect:?} is not found by {FOUND_WITHIN} seeds"));
    println!("{defect:?} is found by seed {seed}: {violation}");
}

#[test]
fn given_a_journal_that_forgets_the_fence_then_the_simulation_finds_it() {
    assert_found(Defect::MissingFence);
}

#[test]
fn given_an_outcome_that_is_counted_twice_then_the_simulation_finds_it() {
    assert_found(Defect::OutcomeCountedTwice);
}

#[test]
fn given_a_cleanup_that_is_forgotten_then_the_simulation_finds_it() {
    assert_found(Defect::ForgottenCleanup);
}

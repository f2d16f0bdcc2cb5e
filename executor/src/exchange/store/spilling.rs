//! Moving pieces from memory to disk.
//!
//! Under the lock only the choice is made and the result is put in place; the file is written in between, by a thread
//! that may block. Until the file is whole, readers still get the batches in memory.
//!
//! What a reader holds stays in memory whatever is on disk: it is not chosen, and does not count as freed.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::area::SpillFile;
use super::piece::Resident;
use super::victims::Coldness;
use super::{Owner, Shared, State};
use crate::memory::Reclaim;
use springald_core::telemetry::events::names;

/// The batches of one piece that go to disk together.
pub(super) struct Spill {
    piece: u64,
    partition: u32,
    owner: Arc<Owner>,
    schema: SchemaRef,
    range: Range<usize>,
    batches: Vec<Arc<Resident>>,
}

impl State {
    /// Takes the coldest pieces off the list of victims until `bytes` can leave with them. Of pieces that are being read
    /// only what their readers have passed can leave; they come last.
    pub(super) fn choose_victims(&mut self, bytes: usize) -> Vec<Spill> {
        let (mut chosen, mut held) = (vec![], vec![]);
        let mut sum = 0;
        while sum < bytes
            && let Some(coldness) = self.victims.pop_coldest()
        {
            if self.pieces.get(&coldness.piece).is_some_and(|entry| entry.piece.is_held()) {
                held.push(coldness);
            } else {
                sum += self.begin_spill(coldness, &mut chosen);
            }
        }
        for coldness in held {
            if sum < bytes {
                sum += self.begin_spill(coldness, &mut chosen);
            } else {
                self.victims.insert(coldness);
            }
        }
        chosen
    }

    /// Chooses what can leave of one piece; returns its bytes. A piece that nothing can leave of is listed again.
    fn begin_spill(&mut self, coldness: Coldness, chosen: &mut Vec<Spill>) -> usize {
        let Some(entry) = self.pieces.get_mut(&coldness.piece) else { return 0 };
        let before = entry.piece.resident;
        let Some((range, batches)) = entry.piece.begin_spill() else {
            self.victims.insert(coldness);
            return 0;
        };
        let leaving = before - entry.piece.resident;
        self.resident -= leaving;
        chosen.push(Spill {
            piece: coldness.piece,
            partition: coldness.partition(),
            owner: Arc::clone(&entry.owner),
            schema: Arc::clone(&entry.piece.schema),
            range,
            batches,
        });
        leaving
    }
}

impl Shared {
    /// Writes what was chosen to disk, and lets the memory go; returns how many bytes are free now. All that was chosen
    /// is dealt with, also when one of them fails. Blocks.
    pub(super) fn spill(&self, chosen: Vec<Spill>) -> Result<usize> {
        let mut freed = 0;
        let mut failure = None;
        for spill in chosen {
            let written = match failure {
                None => self.write(&spill),
                // The disk is full or broken: what else was chosen stays in memory.
                Some(_) => Ok(None),
            };
            match written {
                Ok(Some(file)) => freed += self.put_in_place(spill, Arc::new(file)),
                Ok(None) => self.undo(spill),
                Err(error) => {
                    self.undo(spill);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(freed), Err)
    }

    fn write(&self, spill: &Spill) -> Result<Option<SpillFile>> {
        let name = file_name(&spill.owner, spill.partition);
        let batches = spill.batches.iter().map(|resident| resident.batch());
        self.area.write(&spill.owner.job, &name, &spill.schema, batches).map(Some)
    }

    fn put_in_place(&self, spill: Spill, file: Arc<SpillFile>) -> usize {
        let Spill { piece, owner, range, batches, .. } = spill;
        let mut state = self.state.lock();
        let replaced = state.pieces.get_mut(&piece).map(|entry| entry.piece.end_spill(range, Arc::clone(&file)));
        state.list_victim(piece);
        if let Some(output) = state.output_mut(&owner) {
            output.spilled += file.bytes();
        }
        drop(state);
        // Freed meanwhile: the file goes with its last reference, here.
        drop((replaced, file));
        // A reader that came meanwhile holds them still.
        batches.into_iter().filter_map(Arc::into_inner).map(|batch| batch.bytes()).sum()
    }

    fn undo(&self, spill: Spill) {
        let Spill { piece, range, batches, .. } = spill;
        // Listed again, the piece must not look as if a reader held it.
        drop(batches);
        let mut state = self.state.lock();
        let Some(entry) = state.pieces.get_mut(&piece) else { return };
        let before = entry.piece.resident;
        entry.piece.undo_spill(range);
        let stays = entry.piece.resident - before;
        state.resident += stays;
        state.list_victim(piece);
    }
}

impl Reclaim for Shared {
    fn reclaim(&self, bytes: usize) -> usize {
        let mut freed = 0;
        // More than once if a reader came to what was just being written.
        while freed < bytes {
            let chosen = self.state.lock().choose_victims(bytes - freed);
            if chosen.is_empty() {
                break;
            }
            match self.spill(chosen) {
                Ok(more) => freed += more,
                Err(error) => {
                    tracing::warn!(event = names::SPILL_FAILED, %error, "the exchange could not spill to make room for an operator");
                    break;
                }
            }
        }
        freed
    }
}

/// `<stage>-<task>-<attempt>-<partition>`: made of numbers only.
pub(super) fn file_name(owner: &Owner, partition: u32) -> String {
    let task = owner.task;
    format!("{}-{}-{}-{partition}", task.stage, task.task, task.attempt)
}

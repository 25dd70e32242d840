//! Loader: batches drawn and uploaded ahead of the training, one update's worth at a time.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use tch::{TchError, Tensor};

use super::Job;
use crate::error::{Error, Result};
use crate::labels::patches::{self, Batch};
use crate::model::{Device, torch};

/// Updates that each thread draws ahead; the bound keeps memory constant.
const AHEAD: usize = 2;

/// Most threads that draw for GPUs: one draws some thousand patches of 128 px in a second, less
/// than a GPU trains on. Beside training on the CPU, which takes far longer, one is enough.
const MOST_THREADS: usize = 8;

/// Patches that go through a network at once, `[n, 1, side, side]` each, on its device.
pub(super) struct Part {
    pub(super) images: Tensor,
    pub(super) targets: Tensor,
    pub(super) weights: Tensor,
    /// From the outlines of the disks, where the loss needs them.
    pub(super) distances: Option<Tensor>,
    /// Of all patches of the update.
    pub(super) share: f64,
}

impl Part {
    /// How many patches it is.
    pub(super) fn len(&self) -> usize {
        self.images.size().first().map_or(0, |n| *n as usize)
    }

    /// Another handle on the same patches.
    pub(super) fn shared(&self) -> Part {
        Part {
            images: self.images.shallow_clone(),
            targets: self.targets.shallow_clone(),
            weights: self.weights.shallow_clone(),
            distances: self.distances.as_ref().map(Tensor::shallow_clone),
            share: self.share,
        }
    }

    /// The same patches in parts of at most so many.
    pub(super) fn split(self, at_once: usize) -> Result<Vec<Part>, TchError> {
        let len = self.len();
        if len <= at_once {
            return Ok(vec![self]);
        }
        let from = |first: usize| {
            let length = at_once.min(len - first);
            let of = |tensor: &Tensor| tensor.f_narrow(0, first as i64, length as i64);
            Ok(Part {
                images: of(&self.images)?,
                targets: of(&self.targets)?,
                weights: of(&self.weights)?,
                distances: self.distances.as_ref().map(of).transpose()?,
                share: self.share * length as f64 / len as f64,
            })
        };
        (0..len).step_by(at_once).map(from).collect()
    }
}

/// The patches of one update, by device.
pub(super) type Update = Vec<Vec<Part>>;

/// The updates of an epoch in their order, drawn by threads of their own.
pub(super) struct Ahead(Vec<Receiver<Result<Update>>>);

impl Ahead {
    /// The update of a step; to be asked for one step after the other.
    pub(super) fn next(&self, step: usize) -> Result<Update> {
        self.0[step % self.0.len()].recv().map_err(|_| Error::Torch {
            doing: "drawing patches",
            source: "the thread that draws them has ended".into(),
        })?
    }
}

/// Draws the updates of an epoch. Each has random numbers of its own, so that they do not depend on
/// the number of threads.
pub(super) fn draw_ahead<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    job: &'env Job,
    epoch: usize,
    steps: usize,
) -> Ahead {
    let on_cpu = job.machine.first().is_cpu();
    let threads = if on_cpu { 1 } else { rayon::current_num_threads().clamp(1, MOST_THREADS) };
    let drawn_by = |thread: usize| {
        let (sender, updates) = sync_channel(AHEAD);
        scope.spawn(move || {
            let patches = job.settings.patches_in(epoch, job.patches);
            let mut batch = Batch::default();
            for step in (thread..steps).step_by(threads) {
                let key = (job.card.seed, epoch, step);
                patches::draw_batch(job.pool, &patches, key, job.settings.batch_size, &mut batch);
                let side = patches.patch_px;
                if job.loss.needs_distances() {
                    batch.measure_distances(side);
                }
                let (devices, at_once) = (job.machine.devices(), job.settings.patches_at_once);
                let update = upload(&batch, side, devices, at_once);
                if sender.send(update.map_err(torch("preparing patches"))).is_err() {
                    break;
                }
            }
        });
        updates
    };
    Ahead((0..threads).map(drawn_by).collect())
}

/// Shares a batch among devices; each gets its patches in parts of at most `at_once`.
pub(super) fn upload(
    batch: &Batch,
    side: usize,
    devices: &[Device],
    at_once: usize,
) -> Result<Update, TchError> {
    let measured = !batch.distances.is_empty();
    let each = batch.len.div_ceil(devices.len());
    let of_device = |(number, device): (usize, &Device)| {
        let (first, last) = (number * each, ((number + 1) * each).min(batch.len));
        (first..last)
            .step_by(at_once)
            .map(|first| {
                let last = (first + at_once).min(last);
                let tensor = |values: &[f32]| {
                    let values = &values[first * side * side..last * side * side];
                    let (n, side) = ((last - first) as i64, side as i64);
                    let tensor = Tensor::f_from_slice(values)?.f_view([n, 1, side, side])?;
                    // Beside the training: this thread alone waits for the copy.
                    tensor.f_to_device(device.tch())
                };
                Ok(Part {
                    images: tensor(&batch.images)?,
                    targets: tensor(&batch.targets)?,
                    weights: tensor(&batch.weights)?,
                    distances: measured.then(|| tensor(&batch.distances)).transpose()?,
                    share: (last - first) as f64 / batch.len as f64,
                })
            })
            .collect()
    };
    devices.iter().enumerate().map(of_device).collect()
}

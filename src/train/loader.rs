//! Loader: batches drawn and uploaded ahead of the training, one update's worth at a time.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use tch::{Kind, TchError, Tensor};

use super::Job;
use crate::error::Result;
use crate::labels::patches::{self, Batch};
use crate::model::{Device, torch};

/// Updates that are drawn ahead; the bound keeps memory constant.
const AHEAD: usize = 2;

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

/// Draws the updates of an epoch on a thread of their own.
pub(super) fn draw_ahead<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    job: &'env Job,
    epoch: usize,
    steps: usize,
) -> Receiver<Result<Update>> {
    let (sender, updates) = sync_channel(AHEAD);
    scope.spawn(move || {
        let patches = job.settings.patches_in(epoch, job.patches);
        let mut batch = Batch::default();
        for step in 0..steps {
            let key = (job.card.seed, epoch, step);
            patches::draw_batch(job.pool, &patches, key, job.settings.batch_size, &mut batch);
            let side = patches.patch_px;
            if job.loss.needs_distances() {
                batch.measure_distances(side);
            }
            let update = upload(&batch, side, job.machine.devices(), job.settings.patches_at_once);
            if sender.send(update.map_err(torch("preparing patches"))).is_err() {
                break;
            }
        }
    });
    updates
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
                    to_device(tensor, *device)
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

/// To a GPU from pinned memory, while the GPU computes.
fn to_device(tensor: Tensor, device: Device) -> Result<Tensor, TchError> {
    match device {
        Device::Cpu => Ok(tensor),
        Device::Cuda(_) => {
            tensor.f_pin_memory(device.tch())?.f_to_device_(device.tch(), Kind::Float, true, false)
        }
    }
}

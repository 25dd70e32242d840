//! Memory: what micrographs in hand need together stays within what picking may take.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::micrograph::{self, Source};
use crate::preprocess;
use crate::scale::Scale;
use crate::units::{Frame, Shape};

/// The program with libtorch in it, before it does anything.
const PROGRAM: u64 = 300_000_000;

/// Bytes that workers share.
pub(super) struct Budget {
    total: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

/// A part of the budget, given back when it is dropped.
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// Of what the whole program may take.
    pub(super) fn of(memory: u64) -> Budget {
        let total = memory.saturating_sub(PROGRAM);
        Budget { total, free: Mutex::new(total), returned: Condvar::new() }
    }

    /// Takes what the micrograph at `path` needs, once others have given back enough.
    pub(super) fn take(&self, path: &Path, bytes: u64) -> Result<Share<'_>> {
        if bytes > self.total {
            let gb = |bytes: u64| (bytes + PROGRAM) as f64 / 1e9;
            let what = format!(
                "needs about {:.1} GB of memory, picking may take {:.1}",
                gb(bytes),
                gb(self.total)
            );
            return Err(Error::unusable(path, what, "allow more with --memory GB"));
        }
        let short = |free: &mut u64| *free < bytes;
        let waited = self.returned.wait_while(self.free(), short);
        *waited.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Ok(Share { budget: self, bytes })
    }

    /// Takes what reading and preparing a micrograph needs; nothing if its header is unreadable,
    /// since reading it will say why.
    pub(super) fn take_to_prepare(
        &self,
        source: &Source,
        scale: &Scale,
        settings: &preprocess::Settings,
    ) -> Result<Share<'_>> {
        let bytes = frame_of(source, scale, settings).map_or(0, |frame| of_micrograph(&frame, 0));
        self.take(&source.path, bytes)
    }

    fn free(&self) -> MutexGuard<'_, u64> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.free() += self.bytes;
        self.budget.returned.notify_all();
    }
}

/// The frame of a micrograph, from its header.
pub(super) fn frame_of(
    source: &Source,
    scale: &Scale,
    settings: &preprocess::Settings,
) -> Result<Frame> {
    let header = micrograph::header(&source.path)?;
    let own = scale.of(source, header.pixel_size)?;
    Ok(settings.frame(header.shape, own.radius_px))
}

/// Bytes that a micrograph takes at most: while it is read and brought to the working scale, or
/// while it is scored with `maps` bytes in the network.
pub(super) fn of_micrograph(frame: &Frame, maps: u64) -> u64 {
    let bytes = |shape: Shape| (shape.width * shape.height * size_of::<f32>()) as f64;
    let (pixels, work) = (bytes(frame.mic), bytes(frame.work));
    let scale = frame.work.width as f64 / frame.mic.width as f64;
    // The file's samples and the pixels; half spectra before and after the crop.
    let preparing = pixels * (2.0 + scale) + work;
    // The working image, its scores and copies of them.
    let scoring = maps as f64 + 6.0 * work;
    preparing.max(scoring) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn together_workers_stay_within_it() {
        let budget = Budget::of(PROGRAM + 100);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for worker in 0..8u64 {
                let (budget, now, most) = (&budget, &now, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        let bytes = 20 + (worker * 13 + round * 7) % 60;
                        let _share = budget.take(Path::new("a.mrc"), bytes).unwrap();
                        let held = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(held, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!(most > 60 && most <= 100, "{most}");
    }

    #[test]
    fn what_can_never_fit_is_refused() {
        let budget = Budget::of(PROGRAM + 100);
        let refused = budget.take(Path::new("a.mrc"), 101).err().unwrap();
        assert!(refused.to_string().contains("a.mrc"));
    }
}

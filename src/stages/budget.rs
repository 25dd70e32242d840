//! Memory: what micrographs in hand need together stays within what picking may take, on the
//! machine and on each GPU.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::micrograph::{self, Source};
use crate::model::{Device, Inference, Machine};
use crate::preprocess;
use crate::scale::Scale;
use crate::score;
use crate::units::{Frame, Shape};

/// The program with libtorch in it, before it does anything.
const PROGRAM: u64 = 300_000_000;

/// Bytes that workers share.
pub(crate) struct Budget {
    host: Pool,
    cards: Vec<(Device, Pool)>,
}

/// A part of the budget, given back when it is dropped.
pub(crate) struct Share<'a> {
    _host: Taken<'a>,
    _card: Option<Taken<'a>>,
}

impl Budget {
    /// Of what the whole program may take of a machine.
    pub(crate) fn of(machine: &Machine) -> Budget {
        let cards = machine.devices().iter().filter(|device| !device.is_cpu());
        Budget {
            host: Pool::of(machine.memory().saturating_sub(PROGRAM)),
            cards: cards.map(|card| (*card, Pool::of(Machine::CARD))).collect(),
        }
    }

    /// Takes what the micrograph at `path` needs to be read and prepared, and to be scored by
    /// `network`, once others have given back enough; nothing without a frame.
    pub(super) fn take(
        &self,
        path: &Path,
        frame: Option<&Frame>,
        network: &Inference,
    ) -> Result<Share<'_>> {
        let maps = frame
            .map_or(0, |frame| score::memory_for(network, (frame.work.height, frame.work.width)));
        self.take_bytes(path, frame, maps, network.card())
    }

    /// As [`Budget::take`], for so many bytes of maps on a GPU, or beside the micrograph.
    fn take_bytes(
        &self,
        path: &Path,
        frame: Option<&Frame>,
        maps: u64,
        card: Option<Device>,
    ) -> Result<Share<'_>> {
        let on_host = if card.is_some() { 0 } else { maps };
        let host = frame.map_or(0, |frame| of_micrograph(frame, on_host));
        if host > self.host.total {
            let gb = |bytes: u64| (bytes + PROGRAM) as f64 / 1e9;
            let what = format!(
                "{} needs about {:.1} GB of memory, picking may take {:.1}",
                path.display(),
                gb(host),
                gb(self.host.total)
            );
            // Not the file's fault: with more memory it can be picked.
            return Err(Error::setting("machine.memory", what, "allow more"));
        }
        let card = self.cards.iter().find(|(own, _)| Some(*own) == card);
        Ok(Share { _host: self.host.take(host), _card: card.map(|(_, pool)| pool.take(maps)) })
    }

    /// Takes what reading and preparing a micrograph needs; nothing if its header is unreadable,
    /// since reading it will say why.
    pub(crate) fn take_to_prepare(
        &self,
        source: &Source,
        scale: &Scale,
        settings: &preprocess::Settings,
    ) -> Result<Share<'_>> {
        let frame = frame_of(source, scale, settings).ok();
        self.take_bytes(&source.path, frame.as_ref(), 0, None)
    }
}

/// Bytes of one memory.
struct Pool {
    total: u64,
    taken: Mutex<u64>,
    returned: Condvar,
}

struct Taken<'a> {
    pool: &'a Pool,
    bytes: u64,
}

impl Pool {
    fn of(total: u64) -> Pool {
        Pool { total, taken: Mutex::new(0), returned: Condvar::new() }
    }

    /// Waits until others have given back enough. What is more than all is given to one at a time:
    /// how large a GPU really is, libtorch finds out.
    fn take(&self, bytes: u64) -> Taken<'_> {
        let short = |taken: &mut u64| *taken > 0 && *taken + bytes > self.total;
        let waited = self.returned.wait_while(self.taken(), short);
        *waited.unwrap_or_else(PoisonError::into_inner) += bytes;
        Taken { pool: self, bytes }
    }

    fn taken(&self) -> MutexGuard<'_, u64> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.pool.taken() -= self.bytes;
        self.pool.returned.notify_all();
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

    /// The most that eight workers hold at a time while each takes shares of 20 to 80 bytes.
    fn most_at_once(pool: &Pool) -> u64 {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for worker in 0..8u64 {
                let (now, most) = (&now, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        let bytes = 20 + (worker * 13 + round * 7) % 60;
                        let _taken = pool.take(bytes);
                        let held = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(held, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        most.into_inner()
    }

    #[test]
    fn together_workers_stay_within_it() {
        let most = most_at_once(&Pool::of(100));
        assert!(most > 60 && most <= 100, "{most}");
    }

    #[test]
    fn what_is_more_than_all_is_taken_by_one_at_a_time() {
        let most = most_at_once(&Pool::of(10));
        assert!((20..80).contains(&most), "{most}");
    }

    fn frame(side: usize) -> Frame {
        let shape = Shape { width: side, height: side };
        Frame { mic: shape, work: shape }
    }

    #[test]
    fn what_can_never_fit_is_refused() {
        let need = of_micrograph(&frame(10), 0);
        let take = |memory| {
            let budget = Budget::of(&Machine::imagined(&[Device::Cpu], PROGRAM + memory));
            let taken = budget.take_bytes(Path::new("a.mrc"), Some(&frame(10)), 0, None);
            taken.err().map(|error| {
                assert!(!error.is_permanent(), "it may fit into the memory of another run");
                error.to_string()
            })
        };
        assert_eq!(take(need), None);
        assert!(take(need - 1).unwrap().contains("a.mrc"));
    }

    #[test]
    fn maps_count_against_the_memory_that_they_are_in() {
        let cards = [Device::Cuda(0), Device::Cuda(1)];
        let need = of_micrograph(&frame(10), 0);
        let budget = Budget::of(&Machine::imagined(&cards, PROGRAM + 3 * need));
        let taken = || {
            let card = |number: usize| *budget.cards[number].1.taken();
            [*budget.host.taken(), card(0), card(1)]
        };
        let take = |card| {
            let maps = Machine::CARD;
            budget.take_bytes(Path::new("a.mrc"), Some(&frame(10)), maps, Some(card)).unwrap()
        };
        let (first, second) = (take(cards[0]), take(cards[1]));
        assert_eq!(taken(), [2 * need, Machine::CARD, Machine::CARD]);
        drop(first);
        assert_eq!(taken(), [need, 0, Machine::CARD]);
        drop(second);
        // On the processor they are beside the micrograph.
        let share = budget.take_bytes(Path::new("a.mrc"), Some(&frame(10)), need, None);
        assert!(taken()[0] > need && taken()[1..] == [0, 0] && share.is_ok());
    }
}

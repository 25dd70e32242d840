//! The scores and places of all stored peaks: 12 bytes a peak, so that a threshold over thousands of
//! micrographs is a search and not a look at files.

use std::sync::Arc;

/// Bars of the histogram of scores.
pub(super) const BINS: usize = 100;

/// A stored peak; positions in micrograph px.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Peak {
    pub(super) score: f32,
    pub(super) x: f32,
    pub(super) y: f32,
}

/// The peaks of one micrograph, best first as they are stored; or why they cannot be read.
pub(super) type Peaks = Result<Arc<[Peak]>, String>;

/// The peaks of all micrographs, in order.
#[derive(Debug)]
pub(super) struct Scores(pub(super) Vec<Peaks>);

impl Scores {
    /// All stored peaks of a micrograph.
    pub(super) fn of(&self, place: usize) -> &[Peak] {
        self.0.get(place).and_then(|own| own.as_ref().ok()).map_or(&[], |own| own)
    }

    /// The peaks from a threshold up.
    pub(super) fn picks(&self, place: usize, threshold: f32) -> &[Peak] {
        let peaks = self.of(place);
        &peaks[..peaks.partition_point(|peak| peak.score >= threshold)]
    }

    /// The mean score of a micrograph's picks at a threshold.
    pub(super) fn mean(&self, place: usize, threshold: f32) -> Option<f64> {
        let picks = self.picks(place, threshold);
        let sum: f64 = picks.iter().map(|peak| f64::from(peak.score)).sum();
        (!picks.is_empty()).then(|| sum / picks.len() as f64)
    }

    /// Why the peaks of a micrograph cannot be shown.
    pub(super) fn damage(&self, place: usize) -> Option<&str> {
        self.0.get(place)?.as_ref().err().map(String::as_str)
    }
}

/// Peaks by score, in equal bins from 0 to 1.
pub(super) fn histogram<'a>(peaks: impl IntoIterator<Item = &'a Peak>) -> [u64; BINS] {
    let mut bins = [0; BINS];
    for peak in peaks {
        bins[((peak.score.clamp(0.0, 1.0) * BINS as f32) as usize).min(BINS - 1)] += 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(all: &[&[f32]]) -> Scores {
        let peak = |score: &f32| Peak { score: *score, x: 0.0, y: 0.0 };
        Scores(all.iter().map(|own| Ok(own.iter().map(peak).collect())).collect())
    }

    #[test]
    fn counts_and_means_are_those_of_scores_from_the_threshold_up() {
        let scores = scores(&[&[0.9, 0.4, 0.4, 0.1], &[], &[0.3]]);
        let counts =
            |at: f32| (0..3).map(|place| scores.picks(place, at).len()).collect::<Vec<_>>();
        assert_eq!(counts(0.4), [3, 0, 0]);
        assert_eq!(counts(0.41), [1, 0, 0]);
        assert_eq!(counts(0.0), [4, 0, 1]);
        assert!((scores.mean(0, 0.4).unwrap() - 1.7 / 3.0).abs() < 1e-6);
        assert_eq!(scores.mean(1, 0.0), None);
        let bins = histogram((0..3).flat_map(|place| scores.of(place)));
        assert_eq!((bins.iter().sum::<u64>(), bins[40]), (5, 2));
    }

    #[test]
    fn a_threshold_over_a_thousand_micrographs_is_quick() {
        let one: Vec<f32> = (0..1000_u16).rev().map(|n| f32::from(n) / 1000.0).collect();
        let scores = scores(&vec![&one[..]; 1000]);
        let started = std::time::Instant::now();
        let mut total = 0;
        for step in 0..100_u8 {
            let at = f32::from(step) / 100.0;
            total += (0..1000).map(|place| scores.picks(place, at).len()).sum::<usize>();
        }
        assert!(total > 0);
        // A hundred moves of the slider take less time than one may: noise of the machine included.
        assert!(started.elapsed().as_millis() < 1000, "{:?}", started.elapsed());
    }
}

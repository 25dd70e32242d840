//! Extraction as Topaz does it: model + images → all peaks with log-odds as scores; nothing is stored.

use std::path::Path;

use crate::coords::{self, Coordinate, Coordinates};
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::model::Model;
use crate::pick::odds;
use crate::run::{Cancel, Failure};
use crate::scale::Scale;
use crate::stages::pick;

/// All that one extraction needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// The model.
    pub model: &'a Model,
    /// The size of particles in the images.
    pub scale: Scale<'a>,
    /// Coordinates of the output from those in the images.
    pub factor: f64,
    /// Log-odds that a score has to exceed.
    pub least_score: f32,
}

/// How an extraction ended.
#[derive(Debug, Default)]
pub struct Summary {
    /// Images that were picked.
    pub micrographs: usize,
    /// Picks in all.
    pub picks: usize,
    /// Images that could not be picked.
    pub failures: Vec<Failure>,
}

impl Job<'_> {
    /// Picks all images into one table; `warn` is told what a user should read.
    pub fn run(
        &self,
        sources: &[Source],
        out: &Path,
        warn: &mut dyn FnMut(&str),
        cancel: &Cancel,
    ) -> Result<Summary> {
        let mut all = Vec::new();
        let mut failures = Vec::new();
        for source in sources {
            if cancel.requested() {
                return Err(Error::Interrupted);
            }
            match pick::peaks_of(self.model, source, &self.scale) {
                Ok((peaks, warnings)) => {
                    warnings.iter().for_each(|warning| warn(warning));
                    let threshold = self.model.card.threshold;
                    let points = peaks.iter().filter_map(|peak| self.scored(peak, threshold));
                    let micrograph = source.name.clone();
                    all.push(Coordinates::new(micrograph, points.collect()));
                }
                Err(error) => failures.push(Failure::new(&source.name, &error)),
            }
        }
        coords::topaz::write(out, &all)?;
        let picks = all.iter().map(|own| own.points.len()).sum();
        Ok(Summary { micrographs: all.len(), picks, failures })
    }

    /// A peak as it is to be written, if its score is above what was asked for: log-odds against the
    /// model's own threshold.
    fn scored(&self, peak: &Coordinate, threshold: f32) -> Option<Coordinate> {
        let score = odds::log_odds_of_score(peak.score?) - odds::log_odds_of_score(threshold);
        (score > self.least_score).then_some(Coordinate {
            x_mic_px: peak.x_mic_px * self.factor,
            y_mic_px: peak.y_mic_px * self.factor,
            score: Some(score),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Machine, Origin, Precision};

    #[test]
    fn scores_are_log_odds_against_the_models_threshold() {
        let at = |score| Coordinate { x_mic_px: 10.0, y_mic_px: 20.0, score: Some(score) };
        let model = Origin::Default.load(&Machine::cpu(1), Precision::F32).unwrap();
        let scale = Scale { radius: None, pixel_size: None, card: Some(&model.card) };
        let job = Job { model: &model, scale, factor: 4.0, least_score: 0.0 };
        assert_eq!(job.scored(&at(0.3), 0.4), None);
        let found = job.scored(&at(0.5), 0.4).unwrap();
        assert_eq!((found.x_mic_px, found.y_mic_px), (40.0, 80.0));
        assert!((found.score.unwrap() - 4.0 * 1.5_f32.ln()).abs() < 1e-5);
    }
}

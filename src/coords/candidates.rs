//! Lists of candidates: scores below the threshold of the program that wrote them.

use std::path::PathBuf;

use super::reading::quoted;
use super::{Collected, Coordinates, Format};
use crate::error::{Error, Result};

/// Scores of this and less are found in lists that Topaz writes unless it is given a threshold,
/// whatever their format is.
const TOPAZ_FLOOR: f32 = -5.0;

/// Coordinates that are no picks yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// The first file with candidates.
    pub file: PathBuf,
    /// The threshold of the program.
    pub threshold: f32,
    /// How many score less.
    pub below: usize,
    /// Of how many.
    pub of: usize,
}

impl Candidates {
    /// Those among what was read.
    pub fn among(read: &Collected) -> Option<Candidates> {
        let mut found: Option<Candidates> = None;
        for (own, threshold) in read.sets.iter().filter_map(|own| Some((own, threshold_of(own)?))) {
            let is_below = |score: f32| score < threshold;
            let below = own.points.iter().filter_map(|point| point.score).filter(|s| is_below(*s));
            let below = below.count();
            match &mut found {
                Some(found) => found.below += below,
                None if below > 0 => {
                    found = Some(Candidates { file: own.file.clone(), threshold, below, of: 0 });
                }
                None => {}
            }
        }
        let of = read.sets.iter().map(|own| own.points.len()).sum();
        found.map(|found| Candidates { of, ..found })
    }

    /// What is said of them.
    pub fn what(&self) -> String {
        format!(
            "{} holds candidates, not picks: {} of {} coordinates score less than {}, the threshold \
             of the program that writes them",
            self.file.display(),
            self.below,
            self.of,
            self.threshold
        )
    }

    /// The error where picks or labels are needed and no threshold can be given.
    pub fn refused(&self, inputs: &[PathBuf]) -> Error {
        let inputs: Vec<String> = inputs.iter().map(|path| quoted(path)).collect();
        self.refused_with(&format!(
            "`picker convert {} convert.to star convert.out picks convert.min_score {}`",
            inputs.join(" "),
            self.threshold
        ))
    }

    fn refused_with(&self, how: &str) -> Error {
        Error::unusable(
            &self.file,
            format!(
                "it holds candidates, not picks: {} of {} coordinates score less than {}, the \
                 threshold of the program that writes them",
                self.below, self.of, self.threshold
            ),
            format!("choose a threshold: {how}"),
        )
    }
}

impl Collected {
    /// Leaves out coordinates that score less; those without a score stay.
    pub fn keep_from(&mut self, least: f32) {
        for own in &mut self.sets {
            own.points.retain(|point| point.score.is_none_or(|score| score >= least));
        }
    }

    /// As labels: those from `data.min_score` up, if it is given.
    ///
    /// # Errors
    /// `Unusable` where they are candidates and nothing is given.
    pub fn as_labels(mut self, min_score: Option<f32>) -> Result<Collected> {
        if let Some(least) = min_score {
            self.keep_from(least);
        } else if let Some(candidates) = Candidates::among(&self) {
            let how = format!("data.min_score {}", candidates.threshold);
            return Err(candidates.refused_with(&how));
        }
        Ok(self)
    }
}

fn threshold_of(own: &Coordinates) -> Option<f32> {
    // A run's own peaks, down to its floor.
    if own.file.components().any(|part| part.as_os_str() == "picks.all") {
        return Some(0.5);
    }
    if let Some(least) = Format::of_name(&own.file).and_then(Format::least_score) {
        return Some(least);
    }
    let lowest = own.points.iter().filter_map(|point| point.score).fold(0.0, f32::min);
    (lowest <= TOPAZ_FLOOR).then_some(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::{read_all, star};
    use super::*;
    use crate::coords::Coordinate;

    fn found(name: &str, text: &str) -> Option<Candidates> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        Candidates::among(&read_all(&[path]).unwrap())
    }

    #[test]
    fn scores_below_the_programs_own_threshold_make_candidates() {
        let topaz = "image_name\tx_coord\ty_coord\tscore\nm\t1\t2\t3.5\nm\t3\t4\tLEAST\n";
        let star = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnAutopickFigureOfMerit\n\
            1 2 3.5\n3 4 LEAST\n";
        for (name, text, least, threshold) in [
            ("m.cbox", "1 2 9 9 0.9 9 9\n1 2 9 9 LEAST 9 9\n", "0.145", Some(0.3)),
            ("m.cbox", "1 2 9 9 0.9 9 9\n1 2 9 9 LEAST 9 9\n", "0.31", None),
            ("m.txt", topaz, "-0.5", Some(0.0)),
            ("m.txt", topaz, "0.5", None),
            ("m.star", star, "-5.9", Some(0.0)),
            ("m.star", star, "-2", None),
            ("m.star", star, "-999", None),
            ("picks.all/m.star", star, "0.02", Some(0.5)),
        ] {
            let found = found(name, &text.replace("LEAST", least));
            assert_eq!(found.as_ref().map(|found| found.threshold), threshold, "{name} {least}");
            assert!(found.is_none_or(|found| (found.below, found.of) == (1, 2)));
        }
    }

    #[test]
    fn scores_that_were_cut_once_are_picks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.star");
        let at = |score| Coordinate { x_mic_px: 1.0, y_mic_px: 2.0, score: Some(score) };
        star::write(&path, &[at(-1.5), at(4.0)]).unwrap();
        assert_eq!(Candidates::among(&read_all(&[path]).unwrap()), None);
    }
}

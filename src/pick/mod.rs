//! Picking: map of log-odds at the working scale → picks in micrograph px, best first.
//!
//! The map is smoothed at the particle's scale, local maxima become peaks, and peaks too close to
//! a better one, to the edge, or below the floor are left out. Log-odds and not probabilities are
//! smoothed, because the mean of a disk of certain pixels and its surroundings is never certain.

mod nms;
pub mod odds;
mod peaks;
pub mod threshold;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::coords::Coordinate;
use crate::error::{Error, Result};
use crate::preprocess::Area;
use crate::units::Frame;

pub use nms::suppress;

/// Log-odds of a pixel beyond these are no more certain: a few extreme pixels do not decide on a peak.
const MOST_CERTAIN: f32 = 16.0;

/// How a map of log-odds becomes picks. Lengths are in particle radii.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Standard deviation of the Gaussian that smooths the map.
    pub smoothing_radii: f64,
    /// A peak is the highest point within this distance along each axis.
    pub window_radii: f64,
    /// Of two picks closer than this, the worse one is dropped.
    pub min_distance_radii: f64,
    /// Picks closer than this to the edge of the valid area are dropped.
    pub edge_margin_radii: EdgeMargin,
    /// Peaks below this score are not even stored.
    pub floor: f32,
}

/// How near to the edge of the valid area a pick may lie: a number of particle radii, or `labels`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "MarginAsWritten", into = "MarginAsWritten")]
pub enum EdgeMargin {
    /// As near as the labels of the training come.
    #[default]
    Labels,
    /// As near as so many particle radii.
    Radii(f64),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum MarginAsWritten {
    Radii(f64),
    Word(String),
    /// As picker 0.1.0 wrote `labels`.
    Absent(()),
}

impl TryFrom<MarginAsWritten> for EdgeMargin {
    type Error = String;

    fn try_from(written: MarginAsWritten) -> std::result::Result<EdgeMargin, String> {
        match written {
            MarginAsWritten::Radii(radii) => Ok(EdgeMargin::Radii(radii)),
            MarginAsWritten::Absent(()) => Ok(EdgeMargin::Labels),
            MarginAsWritten::Word(word) if word == "labels" => Ok(EdgeMargin::Labels),
            MarginAsWritten::Word(word) => {
                Err(format!("edge_margin_radii is \"{word}\": give a number or \"labels\""))
            }
        }
    }
}

impl From<EdgeMargin> for MarginAsWritten {
    fn from(margin: EdgeMargin) -> MarginAsWritten {
        match margin {
            EdgeMargin::Radii(radii) => MarginAsWritten::Radii(radii),
            EdgeMargin::Labels => MarginAsWritten::Word("labels".into()),
        }
    }
}

impl EdgeMargin {
    /// In particle radii; `of_labels` is the margin that the labels of the training leave.
    fn radii(self, of_labels: f64) -> f64 {
        match self {
            EdgeMargin::Labels => of_labels,
            EdgeMargin::Radii(radii) => radii,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            smoothing_radii: 0.3,
            window_radii: 0.4,
            min_distance_radii: 0.8,
            edge_margin_radii: EdgeMargin::Labels,
            floor: 0.12,
        }
    }
}

impl Settings {
    /// Refuses values that would drop everything or nothing.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, range: std::ops::RangeInclusive<f64>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (least, most) = range.into_inner();
            Err(Error::setting(
                format!("pick.{name}"),
                format!("{value} is not between {least} and {most}"),
                "`picker config` prints its meaning",
            ))
        };
        within("smoothing_radii", self.smoothing_radii, 0.0..=2.0)?;
        within("window_radii", self.window_radii, 0.05..=4.0)?;
        // A distance of nothing would leave dozens of picks on one particle.
        within("min_distance_radii", self.min_distance_radii, 0.1..=20.0)?;
        within("edge_margin_radii", self.edge_margin_radii.radii(0.0), 0.0..=20.0)?;
        // Scores of limited log-odds lie between these. 0.98 as an f32 is a little more than 0.98.
        let floor = (f64::from(self.floor) * 1e6).round() / 1e6;
        within("floor", floor, 0.02..=0.98)
    }
}

/// Picks of one micrograph, by decreasing score.
///
/// `map` holds log-odds in working px; `margin_radii` is used where the settings name no edge margin.
/// The score of a pick is that of the smoothed log-odds there ([`odds::score`]).
pub fn pick(
    map: &Array2<f32>,
    valid: Area,
    frame: &Frame,
    radius_work_px: f64,
    margin_radii: f64,
    settings: &Settings,
) -> Vec<Coordinate> {
    let limited = map.mapv(|log_odds| log_odds.clamp(-MOST_CERTAIN, MOST_CERTAIN));
    let smooth = peaks::smooth(&limited, settings.smoothing_radii * radius_work_px);
    let window = (settings.window_radii * radius_work_px).round().max(1.0) as usize;
    let margin = settings.edge_margin_radii.radii(margin_radii) * radius_work_px;
    let mut found = peaks::maxima(&smooth, window, odds::log_odds_of_score(settings.floor));
    found.retain(|peak| {
        let depth = valid.depth(peak.x, peak.y);
        depth >= 0.0 && depth >= margin
    });
    suppress(&mut found, settings.min_distance_radii * radius_work_px);
    found
        .into_iter()
        .map(|peak| {
            let (x, y) = frame.mic_from_work(peak.x, peak.y);
            // More digits than there is truth in would make every stored file longer.
            let hundredths = |v: f64| (v * 100.0).round() / 100.0;
            let score = Some(odds::score(peak.log_odds));
            Coordinate { x_mic_px: hundredths(x), y_mic_px: hundredths(y), score }
        })
        .collect()
}

/// A local maximum of a map, in its px.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Column, between pixels where the surroundings say so.
    pub x: f64,
    /// Row.
    pub y: f64,
    /// Height of the smoothed map.
    pub log_odds: f32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Shape;

    const BACKGROUND: f32 = -12.0;

    fn disks_of(log_odds: f32, centres: &[(f64, f64)], radius: f64) -> Array2<f32> {
        Array2::from_shape_fn((120, 160), |(y, x)| {
            let inside = |(cx, cy): &(f64, f64)| {
                (x as f64 - cx).powi(2) + (y as f64 - cy).powi(2) < radius * radius
            };
            if centres.iter().any(inside) { log_odds } else { BACKGROUND }
        })
    }

    /// Disks with a probability of .9.
    fn disks(centres: &[(f64, f64)], radius: f64) -> Array2<f32> {
        disks_of(9.0_f32.ln(), centres, radius)
    }

    fn picks(map: &Array2<f32>, settings: &Settings) -> Vec<Coordinate> {
        let frame = Frame {
            mic: Shape { width: 800, height: 600 },
            work: Shape { width: 160, height: 120 },
        };
        pick(map, Area::whole(map.dim()), &frame, 9.5, 0.0, settings)
    }

    #[test]
    fn each_disk_gives_one_pick_at_its_centre_in_micrograph_px() {
        let centres = [(30.0, 40.0), (47.0, 40.0), (100.0, 80.0)];
        let found = picks(&disks(&centres, 6.5), &Settings::default());
        assert_eq!(found.len(), 3);
        for (x, y) in centres {
            let hit = |p: &&Coordinate| (p.x_mic_px - 5.0 * x).hypot(p.y_mic_px - 5.0 * y) < 5.0;
            assert_eq!(found.iter().filter(hit).count(), 1);
        }
    }

    #[test]
    fn an_empty_map_gives_no_pick() {
        assert!(picks(&disks(&[], 1.0), &Settings::default()).is_empty());
    }

    #[test]
    fn certain_particles_have_scores_that_tell_them_apart() {
        let score = |log_odds: f32| {
            let map = disks_of(log_odds, &[(80.0, 60.0)], 9.5);
            picks(&map, &Settings::default())[0].score.unwrap()
        };
        // Probabilities of .993, .99995 and .9999999.
        let scores = [5.0, 10.0, 15.0].map(score);
        assert!(scores[1] > scores[0] + 0.1 && scores[2] > scores[1] + 0.05, "{scores:?}");
        assert!(scores.iter().all(|score| (0.5..1.0).contains(score)));
    }

    #[test]
    fn a_pixel_of_extreme_log_odds_counts_as_one_that_is_certain() {
        let score = |log_odds: f32| {
            let mut map = Array2::from_elem((40, 40), BACKGROUND);
            map[[20, 20]] = log_odds;
            picks(&map, &Settings { floor: 0.02, ..Settings::default() })[0].score.unwrap()
        };
        assert_eq!(score(1e6), score(16.0));
        assert!(score(16.0) > score(15.0));
    }

    #[test]
    fn picks_in_the_edge_margin_are_dropped() {
        let map = disks(&[(5.0, 40.0), (80.0, 60.0)], 6.5);
        let settings =
            Settings { edge_margin_radii: EdgeMargin::Radii(1.0), ..Settings::default() };
        assert_eq!((picks(&map, &Settings::default()).len(), picks(&map, &settings).len()), (2, 1));
    }

    #[test]
    fn the_edge_margin_is_written_as_it_is_read() {
        for (margin, text) in [(EdgeMargin::Labels, "\"labels\""), (EdgeMargin::Radii(0.6), "0.6")]
        {
            assert_eq!(serde_json::to_string(&margin).unwrap(), text);
            assert_eq!(serde_json::from_str::<EdgeMargin>(text).unwrap(), margin);
        }
        assert_eq!(serde_json::from_str::<EdgeMargin>("null").unwrap(), EdgeMargin::Labels);
        assert!(serde_json::from_str::<EdgeMargin>("\"edge\"").is_err());
    }

    #[test]
    fn a_distance_of_nothing_is_refused() {
        assert!(Settings { min_distance_radii: 0.0, ..Settings::default() }.check().is_err());
    }

    /// No smoothing and nothing suppressed that is not on the same or the next pixel.
    fn bare() -> Settings {
        Settings { smoothing_radii: 0.0, min_distance_radii: 0.1, ..Settings::default() }
    }

    /// Lone pixels of these scores in a map of background, and the picks at the map's own scale.
    fn picks_of_points(
        points: &[(usize, usize, f32)],
        valid: Area,
        margin_radii: f64,
        settings: &Settings,
    ) -> Vec<(f64, f64)> {
        let mut map = Array2::from_elem((60, 90), BACKGROUND);
        points.iter().for_each(|&(x, y, score)| map[[y, x]] = odds::log_odds_of_score(score));
        let shape = Shape { width: 90, height: 60 };
        let frame = Frame { mic: shape, work: shape };
        let found = pick(&map, valid, &frame, 10.0, margin_radii, settings);
        found.iter().map(|pick| (pick.x_mic_px, pick.y_mic_px)).collect()
    }

    #[test]
    fn a_peak_between_pixels_is_placed_to_a_hundredth_of_a_micrograph_px() {
        let (x, y) = (41.2519, 77.7481);
        let map = Array2::from_shape_fn((180, 100), |(row, column)| {
            let far = (column as f64 - x).powi(2) + (row as f64 - y).powi(2);
            (9.0 - far / 40.0).max(BACKGROUND.into()) as f32
        });
        let frame = Frame {
            mic: Shape { width: 400, height: 900 },
            work: Shape { width: 100, height: 180 },
        };
        let found = pick(&map, Area::whole(map.dim()), &frame, 10.0, 0.0, &bare());
        assert_eq!(found.len(), 1);
        // 165.0076 and 388.7405 to two digits.
        assert_eq!((found[0].x_mic_px, found[0].y_mic_px), (165.01, 388.74));
        assert_eq!(found[0].score, Some(odds::score(map[[78, 41]])));
        // A Gaussian smooths evenly to both sides, so the place stays.
        let smoothed = pick(&map, Area::whole(map.dim()), &frame, 10.0, 0.0, &Settings::default());
        let off = (smoothed[0].x_mic_px - 165.01).hypot(smoothed[0].y_mic_px - 388.74);
        assert!(off < 0.02 && smoothed[0].score < found[0].score, "{smoothed:?}");
    }

    #[test]
    fn smoothing_is_in_particle_radii() {
        // A Gaussian of 4 px smoothed by one of 0.3 · 10 = 3 px is one of 5 px.
        let gaussian = |sd: f32| {
            move |(y, x): (usize, usize)| {
                let far = (x as f32 - 40.0).powi(2) + (y as f32 - 30.0).powi(2);
                (-far / (2.0 * sd * sd)).exp()
            }
        };
        let map = Array2::from_shape_fn((61, 81), gaussian(4.0));
        let shape = Shape { width: 81, height: 61 };
        let frame = Frame { mic: shape, work: shape };
        let area = Area::whole(map.dim());
        let found = pick(&map, area, &frame, 10.0, 0.0, &Settings::default());
        let height = odds::log_odds_of_score(found[0].score.unwrap());
        assert!((height - 16.0 / 25.0).abs() < 0.01, "{height}");
    }

    #[test]
    fn the_window_is_rounded_and_at_least_one_pixel() {
        let whole = Area::whole((60, 90));
        // 0.38 · 10 = 3.8 px.
        let settings = Settings { window_radii: 0.38, ..bare() };
        let beside = |distance: usize| {
            let points = [(40, 30, 0.9), (40 + distance, 30, 0.8), (40, 30 + distance, 0.7)];
            picks_of_points(&points, whole, 0.0, &settings).len()
        };
        assert_eq!((beside(4), beside(5)), (1, 3));
        let narrow = Settings { window_radii: 0.01, min_distance_radii: 0.01, ..bare() };
        let diagonal = [(40, 30, 0.9), (39, 31, 0.8)];
        assert_eq!(picks_of_points(&diagonal, whole, 0.0, &narrow).len(), 1);
    }

    #[test]
    fn a_pick_exactly_at_the_margin_stays_and_one_outside_the_valid_area_never_does() {
        let valid = Area { x0: 10, y0: 5, x1: 80, y1: 50 };
        // 0.8 · 10 px inside, and one pixel less.
        let inside = [(18, 30), (71, 30), (40, 13), (40, 41)];
        let outside = [(17, 40), (72, 40), (60, 12), (60, 42)];
        let points = |places: &[(usize, usize)]| -> Vec<(usize, usize, f32)> {
            places.iter().map(|&(x, y)| (x, y, 0.9)).collect()
        };
        let found = picks_of_points(&points(&inside), valid, 0.8, &bare());
        assert_eq!(found.len(), 4);
        assert!(picks_of_points(&points(&outside), valid, 0.8, &bare()).is_empty());
        // What the settings say counts more.
        let settings = Settings { edge_margin_radii: EdgeMargin::Radii(0.0), ..bare() };
        assert_eq!(picks_of_points(&points(&outside), valid, 0.8, &settings).len(), 4);
        let edge = [(10, 30, 0.9), (79, 20, 0.9)];
        assert_eq!(picks_of_points(&edge, valid, 0.8, &settings).len(), 2);
        let beyond = [(9, 30, 0.9), (80, 20, 0.9), (30, 4, 0.9), (30, 50, 0.9)];
        assert!(picks_of_points(&beyond, valid, 0.8, &settings).is_empty());
    }

    #[test]
    fn a_pick_exactly_at_the_distance_or_at_the_floor_stays() {
        let whole = Area::whole((60, 90));
        // 0.8 · 10 px.
        let settings = Settings { min_distance_radii: 0.8, floor: 0.25, ..bare() };
        let count =
            |points: &[(usize, usize, f32)]| picks_of_points(points, whole, 0.0, &settings).len();
        assert_eq!(count(&[(30, 30, 0.9), (38, 30, 0.8)]), 2);
        assert_eq!(count(&[(30, 30, 0.9), (37, 30, 0.8)]), 1);
        assert_eq!(count(&[(30, 30, 0.25)]), 1);
        assert_eq!(count(&[(30, 30, 0.2499)]), 0);
    }

    #[test]
    fn picks_come_best_first() {
        let whole = Area::whole((60, 90));
        let points = [(20, 20, 0.5), (40, 20, 0.9), (60, 20, 0.7)];
        let found = picks_of_points(&points, whole, 0.0, &bare());
        assert_eq!(found, [(40.0, 20.0), (60.0, 20.0), (20.0, 20.0)]);
    }

    #[test]
    fn settings_are_checked_up_to_their_limits() {
        let good = Settings::default;
        for (settings, valid) in [
            (Settings { smoothing_radii: 0.0, ..good() }, true),
            (Settings { smoothing_radii: 2.01, ..good() }, false),
            (Settings { window_radii: 0.05, ..good() }, true),
            (Settings { window_radii: 0.04, ..good() }, false),
            (Settings { min_distance_radii: 20.0, ..good() }, true),
            (Settings { min_distance_radii: 20.1, ..good() }, false),
            (Settings { edge_margin_radii: EdgeMargin::Radii(20.0), ..good() }, true),
            (Settings { edge_margin_radii: EdgeMargin::Radii(-0.1), ..good() }, false),
            (Settings { floor: 0.02, ..good() }, true),
            (Settings { floor: 0.019, ..good() }, false),
            (Settings { floor: 0.98, ..good() }, true),
            (Settings { floor: 0.99, ..good() }, false),
            (Settings { floor: f32::NAN, ..good() }, false),
        ] {
            assert_eq!(settings.check().is_ok(), valid, "{settings:?}");
        }
    }
}

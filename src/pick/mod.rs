//! Picking: score map at the working scale → picks in micrograph px, best first.
//!
//! The map is smoothed at the particle's scale, local maxima become peaks, and peaks too close to
//! a better one, to the edge, or below the floor are left out.

mod nms;
mod peaks;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::coords::Coordinate;
use crate::error::{Error, Result};
use crate::preprocess::Area;
use crate::units::Frame;

pub use nms::suppress;

/// How a score map becomes picks. Lengths are in particle radii.
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
            floor: 0.05,
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
                "see configs/default.toml for its meaning",
            ))
        };
        within("smoothing_radii", self.smoothing_radii, 0.0..=2.0)?;
        within("window_radii", self.window_radii, 0.05..=4.0)?;
        // A distance of nothing would leave dozens of picks on one particle.
        within("min_distance_radii", self.min_distance_radii, 0.1..=20.0)?;
        within("edge_margin_radii", self.edge_margin_radii.radii(0.0), 0.0..=20.0)?;
        within("floor", f64::from(self.floor), 0.001..=0.999)
    }
}

/// Picks of one micrograph, by decreasing score.
///
/// `map` holds scores from 0 to 1 in working px; `margin_radii` is used where the settings name
/// no edge margin.
pub fn pick(
    map: &Array2<f32>,
    valid: Area,
    frame: &Frame,
    radius_work_px: f64,
    margin_radii: f64,
    settings: &Settings,
) -> Vec<Coordinate> {
    let smooth = peaks::smooth(map, settings.smoothing_radii * radius_work_px);
    let window = (settings.window_radii * radius_work_px).round().max(1.0) as usize;
    let margin = settings.edge_margin_radii.radii(margin_radii) * radius_work_px;
    let mut found = peaks::maxima(&smooth, window, settings.floor);
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
            Coordinate { x_mic_px: hundredths(x), y_mic_px: hundredths(y), score: Some(peak.score) }
        })
        .collect()
}

/// A local maximum of a score map, in its px.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Column, between pixels where the surroundings say so.
    pub x: f64,
    /// Row.
    pub y: f64,
    /// Height of the smoothed map.
    pub score: f32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Shape;

    fn disks(centres: &[(f64, f64)], radius: f64) -> Array2<f32> {
        Array2::from_shape_fn((120, 160), |(y, x)| {
            let inside = |(cx, cy): &(f64, f64)| {
                (x as f64 - cx).powi(2) + (y as f64 - cy).powi(2) < radius * radius
            };
            if centres.iter().any(inside) { 0.9 } else { 0.02 }
        })
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
}

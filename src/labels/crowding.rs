//! Crowding: how near to each other labelled particles lie → target disks that keep them apart.
//!
//! The radius that users give is often that of a circle around everything, so that particles that
//! touch are nearer than two radii. Where disks overlap, two particles become one peak.

use kdtree::KdTree;
use kdtree::distance::squared_euclidean;

use super::Settings;
use crate::coords::Coordinate;
use crate::preprocess::Prepared;

/// Fewer labels say too little.
const LEAST_LABELS: usize = 20;
/// This share of the particles may have a neighbour whose disk overlaps theirs.
const OVERLAPPING: f64 = 0.1;
/// Disks are not made smaller than this, in particle radii: at the working scale they would be
/// a few pixels.
const SMALLEST: f64 = 0.4;

/// The distance to the nearest neighbour, in particle radii, that one particle in ten is below; none
/// with few labels.
pub fn spacing(labelled: &[(&Prepared, &[Coordinate])]) -> Option<f64> {
    let mut distances = Vec::new();
    for (prepared, particles) in labelled {
        let places: Vec<[f64; 2]> =
            particles.iter().map(|particle| [particle.x_mic_px, particle.y_mic_px]).collect();
        let mut tree = KdTree::new(2);
        // Coordinates that are not finite have no place in the tree, and no neighbour.
        places.iter().for_each(|place| drop(tree.add(place, ())));
        for place in &places {
            // The nearest is the particle itself.
            let nearest = tree.nearest(place, 2, &squared_euclidean).unwrap_or_default();
            let neighbour = nearest.get(1).map(|(squared, ())| squared.sqrt());
            distances.extend(neighbour.map(|distance| distance / prepared.radius_mic_px));
        }
    }
    if distances.len() < LEAST_LABELS {
        return None;
    }
    distances.sort_by(f64::total_cmp);
    Some(distances[(OVERLAPPING * distances.len() as f64) as usize])
}

impl Settings {
    /// The same with smaller disks where particles at this spacing would overlap.
    #[must_use]
    pub fn kept_apart(self, spacing: Option<f64>) -> Settings {
        let own = self.mask_radius_fraction;
        // In hundredths, as people write it.
        let half = |spacing: f64| (50.0 * spacing).round() / 100.0;
        let apart = spacing.map_or(own, |spacing| own.min(half(spacing).max(SMALLEST)));
        // Without a ring around the disk there is none around the smaller one.
        let ring = self.ignore_radius_fraction > own;
        Settings {
            mask_radius_fraction: apart,
            ignore_radius_fraction: if ring { self.ignore_radius_fraction } else { apart },
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::{Frame, Shape};
    use ndarray::Array2;

    fn at(places: &[(f64, f64)]) -> Vec<Coordinate> {
        let one =
            |&(x_mic_px, y_mic_px): &(f64, f64)| Coordinate { x_mic_px, y_mic_px, score: None };
        places.iter().map(one).collect()
    }

    /// The spacing on a micrograph with particles of this radius.
    fn spacing_of(radius_mic_px: f64, places: &[(f64, f64)]) -> Option<f64> {
        let shape = Shape { width: 100, height: 100 };
        let prepared = Prepared {
            image: Array2::zeros((100, 100)),
            valid: Area::whole((100, 100)),
            frame: Frame { mic: Shape { width: 400, height: 400 }, work: shape },
            radius_mic_px,
            radius_work_px: radius_mic_px / 4.0,
            repairs: Repairs::default(),
        };
        spacing(&[(&prepared, &at(places))])
    }

    #[test]
    fn one_particle_in_ten_is_nearer_than_the_spacing() {
        // 18 pairs that are 12 px apart, far from each other, and 4 pairs that are 6 px apart.
        let pairs = (0..22).flat_map(|i| {
            let (x, gap) = (40.0 * f64::from(i), if i < 18 { 12.0 } else { 6.0 });
            [(x, 0.0), (x + gap, 0.0)]
        });
        let places: Vec<(f64, f64)> = pairs.collect();
        assert_eq!(spacing_of(10.0, &places), Some(0.6));
        assert_eq!(spacing_of(10.0, &places[..36]), Some(1.2));
        assert_eq!(spacing_of(10.0, &places[..18]), None);
        assert_eq!(spacing_of(10.0, &[(5.0, 5.0); 200]), Some(0.0));
    }

    #[test]
    fn disks_shrink_until_neighbours_do_not_overlap_and_never_grow() {
        let disk = |spacing| Settings::default().kept_apart(spacing).mask_radius_fraction;
        assert_eq!([None, Some(2.0), Some(1.0), Some(0.1)].map(disk), [0.7, 0.7, 0.5, 0.4]);
        let small = Settings { mask_radius_fraction: 0.3, ..Settings::default() };
        assert_eq!(small.kept_apart(Some(0.1)).mask_radius_fraction, 0.3);
        let shrunk = Settings::default().kept_apart(Some(1.0));
        assert_eq!(shrunk.ignore_radius_fraction, 0.5);
        let ringed = Settings { ignore_radius_fraction: 1.0, ..Settings::default() };
        assert_eq!(ringed.kept_apart(Some(1.0)).ignore_radius_fraction, 1.0);
    }
}

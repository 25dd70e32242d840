//! Non-maximum suppression: of peaks closer than a distance, only the best stays.

use kdtree::KdTree;
use kdtree::distance::squared_euclidean;

use super::Peak;

/// Sorts peaks by decreasing log-odds (then by row and column) and drops each that lies closer than
/// `min_distance` to a better one that stayed. Distances are compared as real numbers, so a small
/// one cannot round to nothing.
pub fn suppress(peaks: &mut Vec<Peak>, min_distance: f64) {
    peaks.sort_by(|a, b| {
        b.log_odds.total_cmp(&a.log_odds).then(a.y.total_cmp(&b.y)).then(a.x.total_cmp(&b.x))
    });
    let mut stayed = KdTree::new(2);
    peaks.retain(|peak| {
        let place = [peak.x, peak.y];
        let nearest = stayed.nearest(&place, 1, &squared_euclidean).unwrap_or_default();
        let free =
            nearest.first().is_none_or(|(squared, ())| *squared >= min_distance * min_distance);
        // Only a place that is not finite is refused; such a peak goes.
        free && stayed.add(place, ()).is_ok()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute_force(mut peaks: Vec<Peak>, min_distance: f64) -> Vec<Peak> {
        peaks.sort_by(|a, b| {
            b.log_odds.total_cmp(&a.log_odds).then(a.y.total_cmp(&b.y)).then(a.x.total_cmp(&b.x))
        });
        let mut stayed: Vec<Peak> = Vec::new();
        for peak in peaks {
            let near = |s: &Peak| {
                (s.x - peak.x).powi(2) + (s.y - peak.y).powi(2) < min_distance * min_distance
            };
            if !stayed.iter().any(near) {
                stayed.push(peak);
            }
        }
        stayed
    }

    proptest! {
        #[test]
        fn it_equals_brute_force(
            points in prop::collection::vec((0.0..100.0f64, 0.0..100.0f64, 0u8..20), 0..200),
            min_distance in 0.01..30.0f64,
        ) {
            let mut peaks: Vec<Peak> = points
                .iter()
                .map(|&(x, y, height)| Peak { x, y, log_odds: f32::from(height) / 20.0 })
                .collect();
            let expected = brute_force(peaks.clone(), min_distance);
            suppress(&mut peaks, min_distance);
            prop_assert_eq!(peaks, expected);
        }
    }

    #[test]
    fn peaks_at_exactly_the_distance_both_stay_and_closer_ones_do_not() {
        let pair = || {
            [(0.0, 0.0, 0.5), (3.0, 4.0, 0.9)]
                .map(|(x, y, log_odds)| Peak { x, y, log_odds })
                .to_vec()
        };
        for (min_distance, left) in [(5.0, 2), (5.001, 1)] {
            let mut peaks = pair();
            suppress(&mut peaks, min_distance);
            assert_eq!((peaks.len(), peaks[0].log_odds), (left, 0.9));
        }
    }

    #[test]
    fn a_peak_without_a_place_is_dropped() {
        let mut peaks = vec![
            Peak { x: f64::NAN, y: 1.0, log_odds: 0.9 },
            Peak { x: 1.0, y: 1.0, log_odds: 0.5 },
        ];
        suppress(&mut peaks, 3.0);
        assert_eq!(peaks, [Peak { x: 1.0, y: 1.0, log_odds: 0.5 }]);
    }
}

//! Non-maximum suppression: of peaks closer than a distance, only the best stays.

use kdtree::KdTree;
use kdtree::distance::squared_euclidean;

use super::Peak;

/// Sorts peaks by decreasing score (then by row and column) and drops each that lies closer than
/// `min_distance` to a better one that stayed. Distances are compared as real numbers, so a small
/// one cannot round to nothing.
pub fn suppress(peaks: &mut Vec<Peak>, min_distance: f64) {
    peaks.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then(a.y.total_cmp(&b.y)).then(a.x.total_cmp(&b.x))
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
            b.score.total_cmp(&a.score).then(a.y.total_cmp(&b.y)).then(a.x.total_cmp(&b.x))
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
                .map(|&(x, y, score)| Peak { x, y, score: f32::from(score) / 20.0 })
                .collect();
            let expected = brute_force(peaks.clone(), min_distance);
            suppress(&mut peaks, min_distance);
            prop_assert_eq!(peaks, expected);
        }
    }
}

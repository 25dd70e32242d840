//! Elastic warp: random numbers → a smooth displacement of every pixel of a patch.
//!
//! Displacements are drawn at the nodes of a coarse grid and interpolated by cubic B-splines, as
//! Ronneberger et al. (2015) did for the U-Net.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// Distance of two nodes in px.
const SPACING: f64 = 32.0;

/// The standard deviation at a node over the mean one of what is interpolated.
const NODE_SD: f64 = 2.08;

/// A smooth field of displacements.
#[derive(Debug)]
pub(super) struct Elastic {
    /// Nodes along each side, beginning one before the patch.
    nodes: usize,
    /// (x, y) in px, row by row.
    displacements: Vec<(f64, f64)>,
}

impl Elastic {
    /// For a patch of this side; `sd` is the standard deviation of its displacements in px.
    pub(super) fn draw(side: usize, sd: f64, rng: &mut ChaCha8Rng) -> Elastic {
        let nodes = (side as f64 / SPACING).ceil() as usize + 3;
        let mut number = || sd * NODE_SD * rng.sample::<f64, _>(StandardNormal);
        let displacements = (0..nodes * nodes).map(|_| (number(), number())).collect();
        Elastic { nodes, displacements }
    }

    /// The displacement of the pixel at (column, row).
    pub(super) fn at(&self, column: usize, row: usize) -> (f64, f64) {
        let (first_column, across) = splines(column);
        let (first_row, down) = splines(row);
        let (mut x, mut y) = (0.0, 0.0);
        for (i, down) in down.into_iter().enumerate() {
            for (j, across) in across.into_iter().enumerate() {
                let (dx, dy) = self.displacements[(first_row + i) * self.nodes + first_column + j];
                x += down * across * dx;
                y += down * across * dy;
            }
        }
        (x, y)
    }
}

/// The first of the four nodes that matter at a place along a side, and their weights.
fn splines(at: usize) -> (usize, [f64; 4]) {
    let place = at as f64 / SPACING;
    let t = place.fract();
    let weights = [
        (1.0 - t).powi(3),
        3.0 * t.powi(3) - 6.0 * t.powi(2) + 4.0,
        -3.0 * t.powi(3) + 3.0 * t.powi(2) + 3.0 * t + 1.0,
        t.powi(3),
    ];
    (place as usize, weights.map(|weight| weight / 6.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn field(seed: u64) -> Elastic {
        Elastic::draw(128, 2.0, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn weights_add_up_to_one_and_are_those_of_cubic_splines() {
        for at in 0..128 {
            let (first, weights) = splines(at);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert_eq!(first, at / 32);
        }
        assert_eq!(splines(32).1.map(|weight| weight * 6.0), [1.0, 4.0, 1.0, 0.0]);
        assert!((splines(16).1[1] - 23.0 / 48.0).abs() < 1e-12);
    }

    #[test]
    fn displacements_have_the_spread_that_is_asked_for() {
        let (mut squares, mut products, mut count) = (0.0, 0.0, 0.0);
        for seed in 0..200 {
            let field = field(seed);
            for at in (0..128).step_by(9) {
                let (x, y) = field.at(at, 127 - at);
                (squares, products) = (squares + x * x + y * y, products + 2.0 * x * y);
                count += 2.0;
            }
        }
        let sd = f64::sqrt(squares / count);
        assert!((1.8..2.2).contains(&sd), "{sd}");
        assert!((products / squares).abs() < 0.2, "x and y are drawn apart");
    }

    #[test]
    fn neighbours_move_nearly_alike() {
        let field = field(5);
        for at in 0..127 {
            for (here, next) in
                [(field.at(at, 40), field.at(at + 1, 40)), (field.at(40, at), field.at(40, at + 1))]
            {
                assert!((here.0 - next.0).abs() < 0.5 && (here.1 - next.1).abs() < 0.5);
            }
        }
    }
}

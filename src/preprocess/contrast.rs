//! Contrast: how far an image stands above its noise.

use ndarray::Array2;

/// The variance of what is smooth in an image over the variance of its noise, as an image at the
/// working scale has them.
///
/// The noise is what a Laplacian leaves, in which everything smooth cancels (Immerkær, Computer
/// Vision and Image Understanding 64, 1996); absolute values, so that few edges weigh little.
pub fn signal_to_noise(image: &Array2<f32>) -> f64 {
    let (height, width) = image.dim();
    if height < 3 || width < 3 {
        return 0.0;
    }
    let at = |y: usize, x: usize| f64::from(image[[y, x]]);
    let mut sum = 0.0;
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let corners = at(y - 1, x - 1) + at(y - 1, x + 1) + at(y + 1, x - 1) + at(y + 1, x + 1);
            let sides = at(y - 1, x) + at(y + 1, x) + at(y, x - 1) + at(y, x + 1);
            sum += (corners - 2.0 * sides + 4.0 * at(y, x)).abs();
        }
    }
    let mean = sum / ((height - 2) * (width - 2)) as f64;
    // Of white noise of SD 1 the Laplacian has SD 6, and the mean of its absolute values is less.
    let noise = (mean / 6.0 * (std::f64::consts::PI / 2.0).sqrt()).powi(2);
    let all = f64::from(image.std(0.0)).powi(2);
    (all / noise.max(1e-6 * all).max(f64::MIN_POSITIVE) - 1.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn it_is_the_variance_of_the_smooth_part_over_that_of_the_noise() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut white = || rng.random_range(-1.0f32..1.0) * 3.0f32.sqrt();
        let noise = Array2::from_shape_simple_fn((200, 200), &mut white);
        assert!(signal_to_noise(&noise) < 0.1);
        let wave = |strength: f32| {
            let mut image = noise.clone();
            for ((y, x), value) in image.indexed_iter_mut() {
                // Of this strength as its variance.
                let phase = (x as f32 * 0.2).sin() * (y as f32 * 0.2).sin();
                *value += 2.0 * strength.sqrt() * phase;
            }
            signal_to_noise(&image)
        };
        for strength in [0.5, 2.0, 8.0] {
            let found = wave(strength);
            assert!((found / f64::from(strength) - 1.0).abs() < 0.2, "{strength}: {found}");
        }
        assert_eq!(signal_to_noise(&Array2::zeros((50, 50))), 0.0);
        let slope = Array2::from_shape_fn((50, 50), |(_, x)| x as f32);
        assert!(signal_to_noise(&slope) > 1e5);
        assert_eq!(signal_to_noise(&Array2::zeros((2, 50))), 0.0);
    }
}

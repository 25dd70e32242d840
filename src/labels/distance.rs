//! Distances: a mask → each pixel's signed distance from the outline of what is in it.
//!
//! Exact Euclidean distances by lower envelopes of parabolas, along columns, then along rows
//! (Felzenszwalb and Huttenlocher 2012). Linear in the number of pixels.

/// Beyond any distance in an image, yet small enough to calculate with.
const FAR: f32 = 1e12;

/// Appends the distance of each pixel of a square mask from the outline, in px: positive outside,
/// negative inside, half a px on either side of it. 0 everywhere if there is no outline.
pub(super) fn signed(mask: &[f32], side: usize, distances: &mut Vec<f32>) {
    let inside = |value: &f32| *value > 0.5;
    if !mask.iter().any(inside) || mask.iter().all(inside) {
        distances.resize(distances.len() + mask.len(), 0.0);
        return;
    }
    let squared = |is_inside: bool| {
        let seeds = mask.iter().map(|value| if inside(value) == is_inside { 0.0 } else { FAR });
        let mut squared: Vec<f32> = seeds.collect();
        let mut line = Line::of(side);
        for column in 0..side {
            line.transform(&mut squared, column, side);
        }
        for row in 0..side {
            line.transform(&mut squared, row * side, 1);
        }
        squared
    };
    let (to_inside, to_outside) = (squared(true), squared(false));
    distances.extend(to_inside.iter().zip(&to_outside).map(|(to_inside, to_outside)| {
        if *to_inside > 0.0 { to_inside.sqrt() - 0.5 } else { 0.5 - to_outside.sqrt() }
    }));
}

/// Space for one row or column.
struct Line {
    values: Vec<f32>,
    /// Parabolas of the lower envelope, by their apex.
    apexes: Vec<usize>,
    /// Where each begins to be the lowest.
    begins: Vec<f32>,
}

impl Line {
    fn of(length: usize) -> Line {
        let (apexes, begins) = (Vec::with_capacity(length), Vec::with_capacity(length));
        Line { values: vec![0.0; length], apexes, begins }
    }

    /// Replaces every value by the least of (distance to another)² + that one's value.
    fn transform(&mut self, image: &mut [f32], first: usize, stride: usize) {
        let length = self.values.len();
        for (i, value) in self.values.iter_mut().enumerate() {
            *value = image[first + i * stride];
        }
        self.apexes.clear();
        self.begins.clear();
        for apex in 0..length {
            let mut begin = f32::NEG_INFINITY;
            while let (Some(&last), Some(&since)) = (self.apexes.last(), self.begins.last()) {
                let height = |at: usize| self.values[at] + (at * at) as f32;
                begin = (height(apex) - height(last)) / (2 * (apex - last)) as f32;
                if begin > since {
                    break;
                }
                self.apexes.pop();
                self.begins.pop();
                begin = f32::NEG_INFINITY;
            }
            self.apexes.push(apex);
            self.begins.push(begin);
        }
        let mut current = 0;
        for i in 0..length {
            while self.begins.get(current + 1).is_some_and(|begin| *begin < i as f32) {
                current += 1;
            }
            let apex = self.apexes[current];
            image[first + i * stride] = self.values[apex] + apex.abs_diff(i).pow(2) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(mask: &[f32], side: usize) -> Vec<f32> {
        let mut distances = Vec::new();
        signed(mask, side, &mut distances);
        distances
    }

    /// The least distance to a pixel of the other kind.
    fn brute_force(mask: &[f32], side: usize, at: usize) -> f32 {
        let squared = |i: usize| {
            (i / side).abs_diff(at / side).pow(2) + (i % side).abs_diff(at % side).pow(2)
        };
        let others = (0..mask.len()).filter(|i| mask[*i] != mask[at]);
        let distance = (others.map(squared).min().unwrap() as f32).sqrt() - 0.5;
        if mask[at] > 0.5 { -distance } else { distance }
    }

    proptest! {
        #[test]
        fn distances_are_those_of_trying_all_pixels(
            seeds in proptest::collection::vec(any::<bool>(), 144), share in 0..12usize,
        ) {
            // From masks of single pixels to masks with single holes.
            let on = |(i, seed): (usize, &bool)| if *seed { i % 12 < share } else { i % 31 == 7 };
            let mask: Vec<f32> = seeds.iter().enumerate().map(|i| f32::from(on(i))).collect();
            let distances = of(&mask, 12);
            if distances.iter().any(|distance| *distance != 0.0) {
                for (at, distance) in distances.iter().enumerate() {
                    prop_assert!((distance - brute_force(&mask, 12, at)).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn a_single_pixel_is_half_a_pixel_from_its_outline() {
        let mut mask = vec![0.0; 25];
        mask[12] = 1.0;
        let distances = of(&mask, 5);
        assert_eq!((distances[12], distances[13], distances[10]), (-0.5, 0.5, 1.5));
    }

    #[test]
    fn without_an_outline_there_is_no_distance() {
        assert_eq!(of(&[0.0; 9], 3), [0.0; 9]);
        assert_eq!(of(&[1.0; 9], 3), [0.0; 9]);
    }
}

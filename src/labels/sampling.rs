//! Values of an image at any place: between its pixels, and beyond its edges.

use ndarray::Array2;

/// Bilinear value at (x, y); beyond the image it is mirrored, as in scoring.
pub(super) fn interpolate(image: &Array2<f32>, x: f64, y: f64) -> f32 {
    let (height, width) = image.dim();
    // Quarter turns land on whole pixels but for rounding.
    let snap = |v: f64| if (v - v.round()).abs() < 1e-6 { v.round() } else { v };
    let (x, y) = (snap(x), snap(y));
    let (fx, fy) = ((x - x.floor()) as f32, (y - y.floor()) as f32);
    let (x0, y0) = (x.floor() as i64, y.floor() as i64);
    let value = |x: i64, y: i64| image[[mirror(y, height), mirror(x, width)]];
    let top = value(x0, y0) * (1.0 - fx) + value(x0 + 1, y0) * fx;
    let bottom = value(x0, y0 + 1) * (1.0 - fx) + value(x0 + 1, y0 + 1) * fx;
    top * (1.0 - fy) + bottom * fy
}

/// The index inside `0..size` that a mirror at the outer pixels shows.
pub(crate) fn mirror(index: i64, size: usize) -> usize {
    let last = size as i64 - 1;
    if last == 0 {
        return 0;
    }
    let folded = index.rem_euclid(2 * last);
    (if folded > last { 2 * last - folded } else { folded }) as usize
}

/// The pixel nearest to (x, y), as [row, column]; `None` beyond the image.
pub(super) fn nearest(image: &Array2<f32>, x: f64, y: f64) -> Option<[usize; 2]> {
    let (height, width) = image.dim();
    let (x, y) = (x.round(), y.round());
    let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
    inside.then_some([y as usize, x as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_repeats_no_edge() {
        assert_eq!([-2, -1, 0, 3, 4, 5].map(|i| mirror(i, 4)), [2, 1, 0, 3, 2, 1]);
    }
}

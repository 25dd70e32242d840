use super::*;
use rand::{Rng, SeedableRng};

fn noise() -> Array2<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    Array2::from_shape_simple_fn((120, 150), || rng.random::<f32>())
}

#[test]
fn a_clean_image_is_left_alone() {
    let mut pixels = noise();
    let before = pixels.clone();
    let (valid, repairs) = mend(&mut pixels).unwrap();
    assert_eq!((valid, repairs.any()), (Area::whole((120, 150)), false));
    assert_eq!(pixels, before);
}

#[test]
fn hot_pixels_nan_and_dead_lines_are_mended_and_counted() {
    let mut pixels = noise();
    pixels[[40, 50]] = 1e6;
    pixels[[60, 70]] = f32::NAN;
    pixels.row_mut(80).fill(9.0);
    pixels.column_mut(30).fill(-4.0);
    let (_, repairs) = mend(&mut pixels).unwrap();
    assert_eq!(repairs, Repairs { not_finite: 1, hot: 1, dead_lines: 2, border: 0 });
    assert!(pixels.iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn a_bead_of_extreme_pixels_is_not_taken_for_hot_ones() {
    let mut pixels = noise();
    pixels.slice_mut(ndarray::s![50..58, 60..68]).fill(500.0);
    assert_eq!(mend(&mut pixels).unwrap().1.hot, 0);
}

#[test]
fn a_replicated_border_is_found_even_behind_odd_lines() {
    let mut pixels = noise();
    for y in 2..9 {
        let row = pixels.row(9).to_owned();
        pixels.row_mut(y).assign(&row);
    }
    pixels.slice_mut(ndarray::s![.., 140..]).fill(0.5);
    let (valid, repairs) = mend(&mut pixels).unwrap();
    assert_eq!((valid.x0, valid.x1), (0, 140));
    assert_eq!((valid.y0, valid.y1), (10, 120));
    assert!(repairs.border > 0);
}

/// Differences of 1 with smaller ones, of 0.2, in these places.
fn differences(length: usize, copies: &[(usize, usize)]) -> Vec<f32> {
    let is_copy = |i: &usize| copies.iter().any(|(first, end)| (first..end).contains(&i));
    (0..length).map(|i| if is_copy(&i) { 0.2 } else { 1.0 }).collect()
}

#[test]
fn a_border_is_a_run_of_four_small_differences_in_the_outer_tenth() {
    for (length, copies, expected) in [
        (200, vec![], (0, 0)),
        // Lines 0 to 7 are copies.
        (200, vec![(0, 7)], (8, 0)),
        (200, vec![(196, 200)], (0, 5)),
        (200, vec![(0, 3), (197, 200)], (0, 0)),
        (200, vec![(2, 6), (190, 198)], (7, 11)),
        (200, vec![(15, 40)], (21, 0)),
        (200, vec![(20, 40), (160, 180)], (0, 0)),
        (30, vec![(0, 8)], (0, 0)),
    ] {
        assert_eq!(border(&differences(length, &copies)), expected, "{copies:?}");
    }
    let quarter: Vec<f32> = (0..200).map(|i| if i < 8 { 0.25 } else { 1.0 }).collect();
    assert_eq!(border(&quarter), (0, 0));
}

#[test]
fn the_survey_is_the_differences_and_extremes_of_all_lines() {
    // More rows than one band, columns that fill no whole number of lanes.
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
    let image = Array2::from_shape_simple_fn((300, 37), || rng.random::<f32>());
    let survey = Survey::of(image.view());
    let mean = |a: ArrayView1<f32>, b: ArrayView1<f32>| {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
    };
    assert_eq!((survey.rows.len(), survey.not_finite()), (300, 0));
    assert_eq!((survey.row_differences.len(), survey.column_differences.len()), (299, 36));
    for (y, found) in survey.row_differences.iter().enumerate() {
        assert!((found - mean(image.row(y), image.row(y + 1))).abs() < 1e-5, "row {y}");
    }
    for (x, found) in survey.column_differences.iter().enumerate() {
        assert!((found - mean(image.column(x), image.column(x + 1))).abs() < 1e-5, "{x}");
    }
    for (y, found) in survey.rows.iter().enumerate() {
        let low = image.row(y).iter().copied().fold(f32::INFINITY, f32::min);
        let high = image.row(y).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!((found.low, found.high), (low, high), "row {y}");
    }
}

#[test]
fn each_side_has_a_border_of_its_own_which_gets_the_level_of_the_image() {
    let mut pixels = noise();
    for y in 0..6 {
        let row = pixels.row(6).to_owned();
        pixels.row_mut(y).assign(&row);
    }
    pixels.slice_mut(s![112.., ..]).fill(30.0);
    for x in 0..9 {
        let column = pixels.column(9).to_owned();
        pixels.column_mut(x).assign(&column);
    }
    pixels.slice_mut(s![.., 139..]).fill(-30.0);
    let before = pixels.clone();
    let (valid, repairs) = mend(&mut pixels).unwrap();
    assert_eq!(valid, Area { x0: 10, y0: 7, x1: 139, y1: 112 });
    let expected = Repairs { border: 120 * 150 - 129 * 105, ..Repairs::default() };
    assert_eq!(repairs, expected);
    let inside = before.slice(slice_of(valid));
    let median = robust_statistics(inside.iter().copied()).0;
    for ((y, x), value) in pixels.indexed_iter() {
        let expected = if valid.contains(x, y) { before[[y, x]] } else { median };
        assert_eq!(*value, expected, "{y} {x}");
    }
}

#[test]
fn dead_lines_become_the_mean_of_their_living_neighbours() {
    for axis in [Axis(0), Axis(1)] {
        let mut image = noise();
        let last = image.len_of(axis) - 1;
        let before = image.clone();
        let dead = [0, 40, 70, 71, last];
        dead.iter().for_each(|&i| image.index_axis_mut(axis, i).fill(5.0));
        // Not dead: 4 % of the pixels differ.
        let mut odd = image.index_axis_mut(axis, 90);
        let living = odd.len() / 25;
        odd.slice_mut(s![living..]).fill(0.5);
        let whole = Area::whole(image.dim());
        assert_eq!(mend_dead_lines(&mut image, whole, axis), dead);
        let line = |i: usize| before.index_axis(axis, i).to_owned();
        let mended = |i: usize| image.index_axis(axis, i).to_owned();
        assert_eq!(mended(0), line(1));
        assert_eq!(mended(40), (line(39) + line(41)) * 0.5);
        assert_eq!(mended(last), line(last - 1));
        assert_eq!(mended(41), line(41));
        assert!(mended(90).iter().any(|v| *v == 0.5));
        // Mended in turn, the second sees the same two neighbours as the first.
        assert_eq!(mended(70), (line(69) + line(72)) * 0.5);
        assert_eq!(mended(71), mended(70));
    }
}

#[test]
fn a_line_of_which_a_fiftieth_differs_is_not_dead() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let image = Array2::from_shape_simple_fn((20, 200), || rng.random::<f32>());
    let whole = Area::whole(image.dim());
    for (differing, dead) in [(3, vec![10]), (4, vec![])] {
        let mut image = image.clone();
        image.row_mut(10).fill(2.0);
        image.slice_mut(s![10, ..differing]).fill(3.0);
        assert_eq!(mend_dead_lines(&mut image, whole, Axis(0)), dead, "{differing}");
    }
}

#[test]
fn an_image_of_which_more_than_half_the_lines_are_dead_is_left_alone() {
    for (count, mended) in [(60, true), (61, false)] {
        let mut image = noise();
        (0..count).for_each(|y| image.row_mut(y).fill(5.0));
        let whole = Area::whole(image.dim());
        assert_eq!(mend_dead_lines(&mut image, whole, Axis(0)).len() == count, mended);
    }
}

#[test]
fn a_hot_pixel_becomes_the_median_of_its_neighbours_inside_the_valid_area() {
    let mut pixels = noise();
    let before = pixels.clone();
    let valid = Area { x0: 3, y0: 2, x1: 140, y1: 110 };
    let hot = [(50, 60, 1e4), (20, 30, -1e4), (2, 3, 1e4), (109, 139, 1e4), (80, 139, -1e4)];
    hot.iter().for_each(|&(y, x, value)| pixels[[y, x]] = value);
    // Outside the valid area nothing is mended.
    pixels[[1, 60]] = 1e4;
    let survey = Survey::of(pixels.view());
    assert_eq!(mend_hot_pixels(&mut pixels, valid, &survey.rows), 5);
    assert_eq!(pixels[[1, 60]], 1e4);
    for (y, x, _) in hot {
        let mut around: Vec<f32> = (y - 1..=y + 1)
            .flat_map(|ny| (x - 1..=x + 1).map(move |nx| (ny, nx)))
            .filter(|&(ny, nx)| (ny, nx) != (y, x) && valid.contains(nx, ny))
            .map(|place| before[place])
            .collect();
        around.sort_by(f32::total_cmp);
        assert_eq!(pixels[[y, x]], around[around.len() / 2], "{y} {x}");
    }
}

#[test]
fn two_hot_pixels_side_by_side_are_mended_and_three_left() {
    let count = |places: &[(usize, usize)]| {
        let mut pixels = noise();
        places.iter().for_each(|&place| pixels[place] = 1e4);
        mend(&mut pixels).unwrap().1.hot
    };
    assert_eq!(count(&[(50, 60), (50, 61)]), 2);
    assert_eq!(count(&[(50, 60), (50, 61), (51, 60)]), 0);
}

#[test]
fn only_values_beyond_ten_standard_deviations_are_hot() {
    let image = noise();
    let (median, sd) = robust_statistics(image.iter().copied());
    for (deviations, hot) in [(-9.9, 0), (9.9, 0), (-10.1, 1), (10.1, 1)] {
        let mut pixels = image.clone();
        pixels[[50, 60]] = median + deviations * sd;
        assert_eq!(mend(&mut pixels).unwrap().1.hot, hot, "{deviations}");
    }
}

#[test]
fn what_takes_the_place_of_a_dead_row_is_searched_for_hot_pixels_too() {
    let mut pixels = noise();
    pixels.row_mut(80).fill(0.5);
    pixels[[79, 50]] = 1e6;
    let (_, repairs) = mend(&mut pixels).unwrap();
    assert_eq!((repairs.dead_lines, repairs.hot), (1, 2));
    assert!(pixels.iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn pixels_that_are_no_numbers_get_the_median_of_the_others() {
    let mut pixels = noise();
    let before = pixels.clone();
    pixels[[7, 9]] = f32::NAN;
    pixels[[8, 9]] = f32::NEG_INFINITY;
    let median = robust_statistics(pixels.iter().copied()).0;
    let (_, repairs) = mend(&mut pixels).unwrap();
    assert!(repairs.any() && repairs.not_finite == 2);
    assert_eq!((pixels[[7, 9]], pixels[[8, 9]], pixels[[9, 9]]), (median, median, before[[9, 9]]));
    assert!(mend(&mut Array2::from_elem((20, 20), f32::NAN)).is_err());
}

#[test]
fn an_image_in_column_order_is_mended_like_one_in_row_order() {
    let mut rows = noise();
    rows[[40, 50]] = 1e6;
    let mut columns = rows.t().as_standard_layout().into_owned().reversed_axes();
    assert!(!columns.is_standard_layout());
    assert_eq!(mend(&mut columns).unwrap(), mend(&mut rows).unwrap());
    assert_eq!(columns, rows);
}

#[test]
fn samples_are_on_a_grid_inside_the_area_and_not_more_than_needed() {
    let image = Array2::from_shape_fn((1000, 500), |(y, x)| (y * 500 + x) as f32);
    let small = Area { x0: 3, y0: 5, x1: 9, y1: 7 };
    let expected: Vec<f32> = image.slice(slice_of(small)).iter().copied().collect();
    assert_eq!(sample(&image, small).collect::<Vec<_>>(), expected);
    // Every third row and column, since every second would be 125,000 pixels.
    assert_eq!(sample(&image, Area::whole(image.dim())).count(), 334 * 167);
}

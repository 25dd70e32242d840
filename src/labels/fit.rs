//! Do coordinates fit their images? Coordinates + prepared images → findings, before any training.
//!
//! Particles are darker (or brighter) than what surrounds them, so the mean difference between a
//! disk and a ring around each coordinate tells whether the coordinates lie on particles. The same
//! is tried with the coordinates flipped, transposed and scaled; where one of these fits far
//! better, the coordinates were most likely made for another orientation or binning of the images.

use ndarray::Array2;
use serde::Serialize;

use crate::coords::Coordinate;
use crate::preprocess::Prepared;
use crate::units::Shape;

/// Coordinates of one micrograph with its image.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// The image at the working scale.
    pub prepared: &'a Prepared,
    /// In micrograph px.
    pub points: &'a [Coordinate],
    /// Particle radius in working px.
    pub radius_work_px: f64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look.
    Doubtful,
    /// The coordinates cannot be meant for these images as they are.
    Impossible,
}

/// Something that is wrong with coordinates, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub what: String,
    /// What to type.
    pub hint: String,
}

/// A way in which coordinates may have been meant.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hypothesis {
    AsGiven,
    FlipY,
    FlipX,
    HalfTurn,
    Transpose,
    Scale(f64),
}

const SCALES: [f64; 10] = [0.125, 0.25, 1.0 / 3.0, 0.5, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0];
/// A hypothesis must be this many standard errors from chance to be believed,
const BELIEVED: f64 = 8.0;
/// and the coordinates as given must then be no nearer to fitting than this share of it.
const OUTDONE: f64 = 0.5;
/// Coordinates that fit no better than chance would have it,
const CHANCE: f64 = 3.0;
/// or than this share of another reading: many coordinates make a few accidental hits count.
const ACCIDENT: f64 = 0.1;
/// Fewer coordinates than this in all decide nothing.
const ENOUGH: usize = 20;

impl Hypothesis {
    fn apply(self, (x, y): (f64, f64), mic: Shape) -> (f64, f64) {
        match self {
            Hypothesis::AsGiven => (x, y),
            Hypothesis::FlipY => (x, mic.height as f64 - 1.0 - y),
            Hypothesis::FlipX => (mic.width as f64 - 1.0 - x, y),
            Hypothesis::HalfTurn => (mic.width as f64 - 1.0 - x, mic.height as f64 - 1.0 - y),
            Hypothesis::Transpose => (y, x),
            Hypothesis::Scale(factor) => (x * factor, y * factor),
        }
    }

    /// What is wrong if it holds, and the way out.
    fn meaning(self) -> (String, String) {
        match self {
            Hypothesis::AsGiven => (String::new(), String::new()),
            Hypothesis::FlipY => (
                "upside down".into(),
                "`picker convert COORDINATES --flip-y --micrographs MICROGRAPHS --to star --out DIR` turns them over".into(),
            ),
            Hypothesis::FlipX => (
                "mirrored left to right".into(),
                "mirror them in the program they come from: picker has no use for mirrored x".into(),
            ),
            Hypothesis::HalfTurn => (
                "turned by 180°".into(),
                "export them again for the micrographs as they are".into(),
            ),
            Hypothesis::Transpose => ("with x and y exchanged".into(), "exchange both columns in the file".into()),
            Hypothesis::Scale(factor) => (
                format!("off by the factor of a binning, {factor:.3}"),
                format!("`picker convert COORDINATES --scale {factor:.6} --to star --out DIR` rescales them"),
            ),
        }
    }
}

/// Looks at all micrographs together; no finding means that nothing speaks against the coordinates.
pub fn check(labelled: &[Labelled]) -> Vec<Finding> {
    let count: usize = labelled.iter().map(|one| one.points.len()).sum();
    if count == 0 {
        return vec![Finding {
            severity: Severity::Impossible,
            what: "there is not a single coordinate".into(),
            hint: "check that the coordinate files are the right ones".into(),
        }];
    }
    let fits = Fits::of(labelled);
    let mut findings = Vec::new();
    let outside = outside(labelled, Hypothesis::AsGiven);
    if outside > 0 {
        let severity = if outside * 5 > count { Severity::Impossible } else { Severity::Doubtful };
        findings.push(Finding {
            severity,
            what: format!("{outside} of {count} coordinates lie outside their micrographs"),
            hint: "were they picked on micrographs of another binning? `picker convert --scale F` rescales them".into(),
        });
    }
    if count >= ENOUGH && in_first_quadrant(labelled) {
        findings.push(Finding {
            severity: Severity::Impossible,
            what: format!("all {count} coordinates lie in the first quadrant: a binning error"),
            hint: fits.best_alternative().map_or_else(
                || "`picker convert --scale 2` (or 4) rescales them to the full micrographs".into(),
                |(hypothesis, _)| hypothesis.meaning().1,
            ),
        });
    } else if count >= ENOUGH
        && let Some((hypothesis, z)) = fits.best_alternative()
    {
        let (what, hint) = hypothesis.meaning();
        let given = fits.as_given;
        let severity = if given < CHANCE.max(ACCIDENT * z) {
            Severity::Impossible
        } else {
            Severity::Doubtful
        };
        findings.push(Finding {
            severity,
            what: format!(
                "the coordinates seem to be {what}: so read, they lie on particles ({z:.0} standard errors \
                 from chance, as given {given:.1})"
            ),
            hint,
        });
    }
    if findings.is_empty() && count >= ENOUGH && fits.as_given < CHANCE {
        findings.push(Finding {
            severity: Severity::Doubtful,
            what: format!(
                "the coordinates lie on particles no better than chance ({:.1} standard errors)",
                fits.as_given
            ),
            hint: "do they belong to these micrographs? `picker overlay` shows them".into(),
        });
    }
    findings
}

fn outside(labelled: &[Labelled], hypothesis: Hypothesis) -> usize {
    let is_outside = |one: &Labelled, point: &Coordinate| {
        let mic = one.prepared.frame.mic;
        let (x, y) = hypothesis.apply((point.x_mic_px, point.y_mic_px), mic);
        x < 0.0 || y < 0.0 || x > mic.width as f64 - 1.0 || y > mic.height as f64 - 1.0
    };
    labelled.iter().map(|one| one.points.iter().filter(|p| is_outside(one, p)).count()).sum()
}

fn in_first_quadrant(labelled: &[Labelled]) -> bool {
    labelled.iter().all(|one| {
        let mic = one.prepared.frame.mic;
        let near_origin = |p: &Coordinate| {
            p.x_mic_px < mic.width as f64 / 2.0 && p.y_mic_px < mic.height as f64 / 2.0
        };
        one.points.iter().all(near_origin)
    })
}

/// How well each hypothesis fits, in standard errors from chance, whatever the sign.
struct Fits {
    as_given: f64,
    alternatives: Vec<(Hypothesis, f64)>,
}

impl Fits {
    fn of(labelled: &[Labelled]) -> Fits {
        let chance = Sample::of_grid(labelled);
        let z = |hypothesis: Hypothesis| {
            let sample = Sample::of(labelled, hypothesis);
            let enough = outside(labelled, hypothesis) * 5
                <= labelled.iter().map(|one| one.points.len()).sum::<usize>();
            if enough && sample.count >= ENOUGH as f64 { sample.distance(&chance) } else { 0.0 }
        };
        let flips =
            [Hypothesis::FlipY, Hypothesis::FlipX, Hypothesis::HalfTurn, Hypothesis::Transpose];
        let scales = SCALES.into_iter().map(Hypothesis::Scale);
        let alternatives = flips.into_iter().chain(scales).map(|h| (h, z(h))).collect();
        Fits { as_given: z(Hypothesis::AsGiven), alternatives }
    }

    /// The best other reading, if it is beyond doubt and far better than the coordinates as given.
    fn best_alternative(&self) -> Option<(Hypothesis, f64)> {
        let (hypothesis, z) =
            self.alternatives.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
        (z > BELIEVED && self.as_given < OUTDONE * z).then_some((hypothesis, z))
    }
}

/// Disk-minus-ring contrasts, as sums.
#[derive(Default)]
struct Sample {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Sample {
    fn of(labelled: &[Labelled], hypothesis: Hypothesis) -> Sample {
        let mut sample = Sample::default();
        for one in labelled {
            for point in one.points {
                let (x, y) =
                    hypothesis.apply((point.x_mic_px, point.y_mic_px), one.prepared.frame.mic);
                let (x, y) = one.prepared.frame.work_from_mic(x, y);
                sample.add(contrast(&one.prepared.image, (x, y), one.radius_work_px));
            }
        }
        sample
    }

    /// What places chosen without regard to particles give.
    fn of_grid(labelled: &[Labelled]) -> Sample {
        let mut sample = Sample::default();
        for one in labelled {
            let area = one.prepared.valid;
            let step = (1.7 * one.radius_work_px).ceil() as usize;
            for y in (area.y0..area.y1).step_by(step) {
                for x in (area.x0..area.x1).step_by(step) {
                    sample.add(contrast(
                        &one.prepared.image,
                        (x as f64, y as f64),
                        one.radius_work_px,
                    ));
                }
            }
        }
        sample
    }

    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.count += 1.0;
            self.sum += value;
            self.squares += value * value;
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// From chance, in standard errors of a mean of this many places.
    fn distance(&self, chance: &Sample) -> f64 {
        let variance = chance.squares / chance.count.max(1.0) - chance.mean().powi(2);
        (self.mean() - chance.mean()).abs() / (variance / self.count).sqrt().max(1e-9)
    }
}

/// Mean of a disk of 0.7 radii less that of the ring from 1.1 to 1.5; `None` off the image.
fn contrast(image: &Array2<f32>, (cx, cy): (f64, f64), radius: f64) -> Option<f64> {
    let (height, width) = image.dim();
    let reach = 1.5 * radius;
    let (mut disk, mut disk_count, mut ring, mut ring_count) = (0.0, 0.0, 0.0, 0.0);
    for y in (cy - reach).ceil() as i64..=(cy + reach).floor() as i64 {
        for x in (cx - reach).ceil() as i64..=(cx + reach).floor() as i64 {
            if x < 0 || y < 0 || x >= width as i64 || y >= height as i64 {
                continue;
            }
            let distance = (x as f64 - cx).hypot(y as f64 - cy) / radius;
            let value = f64::from(image[[y as usize, x as usize]]);
            if distance <= 0.7 {
                (disk, disk_count) = (disk + value, disk_count + 1.0);
            } else if (1.1..=1.5).contains(&distance) {
                (ring, ring_count) = (ring + value, ring_count + 1.0);
            }
        }
    }
    (disk_count > 0.0 && ring_count > 0.0).then(|| disk / disk_count - ring / ring_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::Frame;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A noisy field of dark disks of radius 9 working px, at twice the size in micrograph px.
    fn field(seed: u64) -> (Prepared, Vec<Coordinate>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut image =
            Array2::from_shape_simple_fn((300, 360), || rng.random::<f32>() * 6.0 - 3.0);
        let mut points = Vec::new();
        for _ in 0..40 {
            let (cx, cy) = (rng.random_range(10.0..350.0), rng.random_range(10.0..290.0));
            for ((y, x), value) in image.indexed_iter_mut() {
                if (x as f64 - cx).hypot(y as f64 - cy) < 9.0 {
                    *value -= 0.8;
                }
            }
            points.push(Coordinate { x_mic_px: 2.0 * cx, y_mic_px: 2.0 * cy, score: None });
        }
        let frame = Frame {
            mic: Shape { width: 720, height: 600 },
            work: Shape { width: 360, height: 300 },
        };
        let valid = Area::whole(image.dim());
        (Prepared { image, valid, frame, repairs: Repairs::default() }, points)
    }

    fn findings(change: impl Fn(Coordinate) -> Coordinate) -> Vec<Finding> {
        let fields: Vec<_> = (0..3).map(field).collect();
        let changed: Vec<Vec<Coordinate>> = fields
            .iter()
            .map(|(_, points)| points.iter().copied().map(&change).collect())
            .collect();
        let labelled: Vec<Labelled> = fields
            .iter()
            .zip(&changed)
            .map(|((prepared, _), points)| Labelled { prepared, points, radius_work_px: 9.0 })
            .collect();
        check(&labelled)
    }

    #[test]
    fn right_coordinates_raise_no_doubt() {
        assert_eq!(findings(|p| p), []);
        assert_eq!(findings(|p| Coordinate { x_mic_px: p.x_mic_px + 3.0, ..p }), []);
    }

    #[test]
    fn a_flip_is_found_and_named() {
        let found = findings(|p| Coordinate { y_mic_px: 599.0 - p.y_mic_px, ..p });
        assert!(found.len() == 1 && found[0].what.contains("upside down"), "{found:?}");
        assert_eq!(found[0].severity, Severity::Impossible);
    }

    #[test]
    fn binned_coordinates_are_found_in_one_quadrant_with_their_factor() {
        let halved = |p: Coordinate| Coordinate {
            x_mic_px: p.x_mic_px / 2.0,
            y_mic_px: p.y_mic_px / 2.0,
            ..p
        };
        let found = findings(halved);
        assert!(
            found.iter().any(|f| f.what.contains("first quadrant") && f.hint.contains("2.0")),
            "{found:?}"
        );
    }

    #[test]
    fn coordinates_beyond_the_image_are_counted() {
        let doubled = |p: Coordinate| Coordinate {
            x_mic_px: p.x_mic_px * 2.0,
            y_mic_px: p.y_mic_px * 2.0,
            ..p
        };
        let found = findings(doubled);
        assert!(
            found.iter().any(|f| f.what.contains("outside") && f.severity == Severity::Impossible)
        );
    }
}

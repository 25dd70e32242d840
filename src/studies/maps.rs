//! Where the network looks: micrographs → maps of probability and attention at micrograph geometry.
//!
//! Of each micrograph a probability map, a map of each attention on a skip (MRC, of the micrograph's
//! size), and all of them over the micrograph (PNG). Where particles are known, the mean attention on
//! their disks is held against that beside them.

use std::io;
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use ndarray::Array2;
use serde::Serialize;

use super::ablation::Difference;
use crate::coords::Coordinate;
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::micrograph::mrc::{self, Mode};
use crate::model::Model;
use crate::pick::odds;
use crate::preprocess::Prepared;
use crate::publish::publish;
use crate::report::panel;
use crate::run::{Cancel, Failure, beside};
use crate::scale::Scale;
use crate::score::{AttentionMap, explain};
use crate::stages::load::load_anew;
use crate::units::Frame;

/// All that one mapping needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// The model.
    pub model: &'a Model,
    /// The size of particles; without a radius, the model's own.
    pub scale: Scale<'a>,
    /// Each micrograph with its particles, where they are known.
    pub micrographs: &'a [(Source, Option<Vec<Coordinate>>)],
    /// Where everything goes.
    pub out: &'a Path,
}

/// How much attention there is on particles, and beside them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Focus {
    /// The map.
    pub map: String,
    /// Mean over the disks of known particles, mean over the micrographs.
    pub inside: f64,
    /// Mean over the rest of the valid area.
    pub outside: f64,
    /// Inside less outside, over the micrographs.
    pub difference: Difference,
}

/// What one map has on particles and beside them.
struct Seen {
    map: String,
    inside: f64,
    outside: f64,
}

/// What happens while maps are made.
#[derive(Debug)]
pub enum Event<'a> {
    /// A micrograph has its maps; the picture of them.
    Mapped(&'a Path),
    /// A micrograph could not be mapped.
    Failed(&'a Failure),
}

/// Makes the maps of every micrograph; how they fit the particles that are known.
pub fn run(job: &Job, observe: &mut dyn FnMut(Event), cancel: &Cancel) -> Result<Vec<Focus>> {
    let mut seen: Vec<Vec<Seen>> = Vec::new();
    for (source, truth) in job.micrographs {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        match map(job, source, truth.as_deref()) {
            Ok((panel, focus)) => {
                observe(Event::Mapped(&panel));
                seen.extend(focus);
            }
            Err(error) if error.stops_run() => return Err(error),
            Err(error) => observe(Event::Failed(&Failure::new(&source.name, &error))),
        }
    }
    Ok(focus(&seen))
}

fn map(
    job: &Job,
    source: &Source,
    truth: Option<&[Coordinate]>,
) -> Result<(PathBuf, Option<Vec<Seen>>)> {
    let card = &job.model.card;
    let loaded = load_anew(source, &job.scale, &card.preprocess)?;
    let prepared = &loaded.prepared;
    let network = &job.model.network;
    let needed = network.memory_at_once(prepared.image.dim());
    if needed > network.memory() {
        return Err(Error::unusable(
            &source.path,
            format!(
                "its maps need {:.1} GB at once, {:.1} GB are allowed",
                needed as f64 / 1e9,
                network.memory() as f64 / 1e9
            ),
            "allow more: machine.memory",
        ));
    }
    let explained = explain(network, &prepared.image)?;
    let mut maps = vec![("probability".to_string(), explained.log_odds.mapv(odds::probability))];
    maps.extend(explained.attention.into_iter().map(|map| (name_of(&map), map.weights)));
    for (name, values) in &maps {
        let path = beside(job.out, &source.stem, &format!("_{name}.mrc"));
        let size = loaded.header_pixel_size.measured().or(loaded.pixel_size);
        mrc::write(&path, &at_micrograph(values, &prepared.frame), size, Mode::Float32)?;
    }
    let shown: Vec<_> =
        maps.iter().map(|(name, values)| (name.replace('_', " "), values)).collect();
    let title = source.stem.file_name().unwrap_or_default().to_string_lossy();
    let picture = panel::draw(&prepared.image, &title, &shown);
    let path = beside(job.out, &source.stem, "_maps.png");
    publish(&path, |file| {
        picture.write_with_encoder(PngEncoder::new(file)).map_err(io::Error::other)
    })?;
    Ok((path, truth.and_then(|truth| on_particles(&maps, truth, prepared))))
}

fn name_of(map: &AttentionMap) -> String {
    let head = map.head.map(|head| format!("_head{head}")).unwrap_or_default();
    format!("attention_{}px{head}", map.coarseness)
}

/// The map at the micrograph's size, between its own px in a straight line.
fn at_micrograph(map: &Array2<f32>, frame: &Frame) -> Array2<f32> {
    let (height, width) = map.dim();
    let between = |at: f64, size: usize| {
        let at = at.clamp(0.0, size as f64 - 1.0);
        let low = (at as usize).min(size.saturating_sub(2));
        (low, (low + 1).min(size - 1), (at - low as f64) as f32)
    };
    Array2::from_shape_fn((frame.mic.height, frame.mic.width), |(y, x)| {
        let (x, y) = frame.work_from_mic(x as f64, y as f64);
        let ((left, right, along), (up, down, below)) = (between(x, width), between(y, height));
        let row = |y: usize| map[[y, left]] * (1.0 - along) + map[[y, right]] * along;
        row(up) * (1.0 - below) + row(down) * below
    })
}

/// Means inside and outside of the particles' disks; none without particles or without a place
/// beside them.
fn on_particles(
    maps: &[(String, Array2<f32>)],
    truth: &[Coordinate],
    prepared: &Prepared,
) -> Option<Vec<Seen>> {
    let Frame { mic, work } = prepared.frame;
    let radius = prepared.radius_mic_px * work.width as f64 / mic.width as f64;
    let mut inside = Array2::from_elem(prepared.image.dim(), false);
    for particle in truth {
        let (x0, y0) = prepared.frame.work_from_mic(particle.x_mic_px, particle.y_mic_px);
        let span = |at: f64, size: usize| {
            let end = (at + radius).floor().clamp(-1.0, size as f64 - 1.0) + 1.0;
            (at - radius).ceil().clamp(0.0, size as f64) as usize..end as usize
        };
        for y in span(y0, inside.nrows()) {
            for x in span(x0, inside.ncols()) {
                inside[[y, x]] |= (x as f64 - x0).hypot(y as f64 - y0) <= radius;
            }
        }
    }
    let mean = |map: &Array2<f32>, within: bool| {
        let values = map
            .indexed_iter()
            .filter(|((y, x), _)| prepared.valid.contains(*x, *y) && inside[[*y, *x]] == within);
        let (sum, n) = values.fold((0.0, 0), |(sum, n), (_, v)| (sum + f64::from(*v), n + 1));
        (n > 0).then(|| sum / f64::from(n))
    };
    let one = |(name, map): &(String, Array2<f32>)| {
        Some(Seen { map: name.clone(), inside: mean(map, true)?, outside: mean(map, false)? })
    };
    maps.iter().map(one).collect()
}

/// Each map over all micrographs.
fn focus(seen: &[Vec<Seen>]) -> Vec<Focus> {
    let n = seen.len() as f64;
    let maps = seen.first().map_or(0, Vec::len);
    (0..maps)
        .map(|map| {
            let own: Vec<&Seen> = seen.iter().filter_map(|one| one.get(map)).collect();
            let differences: Vec<f64> = own.iter().map(|one| one.inside - one.outside).collect();
            Focus {
                map: own[0].map.clone(),
                inside: own.iter().map(|one| one.inside).sum::<f64>() / n,
                outside: own.iter().map(|one| one.outside).sum::<f64>() / n,
                difference: Difference::of(&differences),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::Shape;

    fn frame() -> Frame {
        Frame { mic: Shape { width: 160, height: 120 }, work: Shape { width: 40, height: 30 } }
    }

    #[test]
    fn a_map_at_micrograph_size_has_its_values_where_they_belong() {
        let map = Array2::from_shape_fn((30, 40), |(y, x)| (x + 100 * y) as f32);
        let full = at_micrograph(&map, &frame());
        assert_eq!(full.dim(), (120, 160));
        assert_eq!((full[[0, 0]], full[[8, 12]]), (0.0, 203.0));
        assert!((full[[10, 14]] - 253.5).abs() < 1e-3, "{}", full[[10, 14]]);
        assert_eq!(full[[119, 159]], 2939.0);
    }

    #[test]
    fn attention_is_measured_on_disks_and_beside_them() {
        let image = Array2::zeros((30, 40));
        let prepared = Prepared {
            valid: Area::whole((30, 40)),
            image,
            frame: frame(),
            radius_mic_px: 20.0,
            radius_work_px: 5.0,
            repairs: Repairs::default(),
        };
        let on_disk = |y: usize, x: usize| (x as f64 - 10.0).hypot(y as f64 - 15.0) <= 5.0;
        let map = Array2::from_shape_fn((30, 40), |(y, x)| if on_disk(y, x) { 0.75 } else { 0.25 });
        let truth = [Coordinate { x_mic_px: 40.0, y_mic_px: 60.0, score: None }];
        let maps = [("gate".to_string(), map)];
        let seen = on_particles(&maps, &truth, &prepared).unwrap();
        assert!((seen[0].inside - 0.75).abs() < 1e-9 && (seen[0].outside - 0.25).abs() < 1e-9);
        assert!(on_particles(&maps, &[], &prepared).is_none(), "nowhere is inside");
        let all = focus(&[seen, on_particles(&maps, &truth, &prepared).unwrap()]);
        assert!((all[0].difference.mean - 0.5).abs() < 1e-9);
    }
}

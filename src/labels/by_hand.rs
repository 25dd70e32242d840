//! Labels by hand as files: which particles are there, which places are none, and how far somebody
//! has looked.
//!
//! ```text
//! labels/TREE/NAME.star             positives, as `train` reads coordinates
//! labels/TREE/NAME.negatives.star   places that are no particle
//! labels/TREE/NAME.labels.json      complete, partial or unseen; counts; areas without particles
//! ```
//!
//! The STAR files are believed, whoever wrote them.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::coords::{self, Coordinate};
use crate::error::{Error, Result};
use crate::publish::publish_text;
use crate::units::Shape;

/// More labels than any micrograph has particles.
const MOST_LABELS: usize = 50_000;
/// More points than anybody draws on one micrograph.
const MOST_DRAWN: usize = 50_000;
/// Wider than any micrograph.
const WIDEST_PX: f64 = 20_000.0;

/// How far somebody has looked at a micrograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Looked {
    /// Not at all.
    #[default]
    Unseen,
    /// Some particles have a label.
    Partial,
    /// All particles have a label.
    Complete,
}

/// A brush stroke over what is no particle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stroke {
    /// Half the width of the brush in micrograph px.
    pub radius: f64,
    /// The line that its middle was drawn along, (x, y) in micrograph px; one point is a disk.
    pub points: Vec<[f64; 2]>,
}

/// The labels of one micrograph; positions in whole micrograph px.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByHand {
    /// How far somebody has looked.
    pub state: Looked,
    /// Particles.
    pub positives: Vec<[f64; 2]>,
    /// Places that are none.
    pub negatives: Vec<[f64; 2]>,
    /// Areas without particles.
    #[serde(default)]
    pub areas: Vec<Stroke>,
}

/// What lists of micrographs show of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// How far somebody has looked.
    pub state: Looked,
    /// Number of particles.
    pub positives: usize,
    /// Number of places that are none.
    pub negatives: usize,
}

/// The record beside the STAR files.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: u32,
    micrograph: String,
    #[serde(flatten)]
    tally: Tally,
    #[serde(default)]
    areas: Vec<Stroke>,
}

const SCHEMA: u32 = 1;

struct Files {
    positives: PathBuf,
    negatives: PathBuf,
    record: PathBuf,
}

impl Files {
    /// Of the micrograph with this tree and stem.
    fn of(folder: &Path, stem: &Path) -> Files {
        let at = |suffix: &str| {
            let mut name = folder.join(stem).into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Files {
            positives: at(".star"),
            negatives: at(".negatives.star"),
            record: at(".labels.json"),
        }
    }
}

impl ByHand {
    /// Reads the labels of the micrograph with this tree and stem; without files it is unseen.
    pub fn read(folder: &Path, stem: &Path) -> Result<ByHand> {
        let files = Files::of(folder, stem);
        let points = |path: &Path| -> Result<Vec<[f64; 2]>> {
            if !path.exists() {
                return Ok(Vec::new());
            }
            let all = coords::read(path)?.into_iter().flat_map(|own| own.points);
            Ok(all.map(|point| [point.x_mic_px, point.y_mic_px]).collect())
        };
        let (positives, negatives) = (points(&files.positives)?, points(&files.negatives)?);
        let (state, areas) = match record_in(&files.record)? {
            Some(record) => (record.tally.state, record.areas),
            // Labels of another program.
            None if files.positives.exists() || !negatives.is_empty() => {
                (Looked::Partial, Vec::new())
            }
            None => (Looked::Unseen, Vec::new()),
        };
        Ok(ByHand { state, positives, negatives, areas })
    }

    /// Writes files of what there is, the record last, and removes the others; `name` is the
    /// micrograph as listed.
    pub fn write(&self, folder: &Path, stem: &Path, name: &str) -> Result<()> {
        let files = Files::of(folder, stem);
        // Also where there are none: what reads coordinates finds the others by this file.
        let looked = self.state != Looked::Unseen || !self.positives.is_empty();
        table(&files.positives, &self.positives, looked)?;
        table(&files.negatives, &self.negatives, !self.negatives.is_empty())?;
        if self.state == Looked::Unseen {
            return remove(&files.record);
        }
        let (micrograph, areas) = (name.to_string(), self.areas.clone());
        let record = Record { schema: SCHEMA, micrograph, tally: self.tally(), areas };
        let text = serde_json::to_string_pretty(&record)
            .map_err(|error| Error::internal(format!("labels cannot be written: {error}")))?;
        publish_text(&files.record, &(text + "\n"))
    }

    /// The counts.
    pub fn tally(&self) -> Tally {
        let (positives, negatives) = (self.positives.len(), self.negatives.len());
        Tally { state: self.state, positives, negatives }
    }

    /// Whole px inside a micrograph of this size, each place once; or why these cannot be labels.
    pub fn checked(self, shape: Shape) -> Result<ByHand, String> {
        if self.positives.len() + self.negatives.len() > MOST_LABELS {
            return Err(format!("more than {MOST_LABELS} labels on one micrograph"));
        }
        let positives = whole(self.positives, shape)?;
        let mut negatives = whole(self.negatives, shape)?;
        let taken: HashSet<[i64; 2]> = positives.iter().map(key).collect();
        negatives.retain(|place| !taken.contains(&key(place)));
        let areas = strokes(self.areas, shape)?;
        // Who has put labels has looked.
        let labelled = !positives.is_empty() || !negatives.is_empty() || !areas.is_empty();
        let state = match self.state {
            Looked::Unseen if labelled => Looked::Partial,
            state => state,
        };
        Ok(ByHand { state, positives, negatives, areas })
    }
}

/// Whether a person has labelled this micrograph: a file of coordinates alone does not say so.
pub(super) fn has_record(folder: &Path, stem: &Path) -> bool {
    let files = Files::of(folder, stem);
    files.record.exists() || files.negatives.exists()
}

/// What the record says; labels without one are counted, and without labels there is nothing.
pub fn tally_in(folder: &Path, stem: &Path) -> Option<Tally> {
    let files = Files::of(folder, stem);
    if let Ok(Some(record)) = record_in(&files.record) {
        return Some(record.tally);
    }
    let found = files.positives.exists() || files.negatives.exists();
    found.then(|| ByHand::read(folder, stem).map(|own| own.tally()).unwrap_or_default())
}

fn record_in(path: &Path) -> Result<Option<Record>> {
    let Some(text) = present(fs::read(path), path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let what = format!("is damaged or of another version of picker ({error})");
        let hint =
            "delete it: labels are kept in the STAR files, areas and what is complete are lost";
        Error::malformed(path, error.line(), what, hint)
    })
}

fn present<T>(read: std::io::Result<T>, path: &Path) -> Result<Option<T>> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

fn table(path: &Path, points: &[[f64; 2]], wanted: bool) -> Result<()> {
    if !wanted {
        return remove(path);
    }
    let point = |[x, y]: &[f64; 2]| Coordinate { x_mic_px: *x, y_mic_px: *y, score: None };
    coords::star::write(path, &points.iter().map(point).collect::<Vec<_>>())
}

fn remove(path: &Path) -> Result<()> {
    present(fs::remove_file(path), path).map(drop)
}

fn key(place: &[f64; 2]) -> [i64; 2] {
    place.map(|value| value as i64)
}

fn clamped([x, y]: [f64; 2], shape: Shape) -> [f64; 2] {
    let last = |size: usize| size.saturating_sub(1) as f64;
    [x.round().clamp(0.0, last(shape.width)), y.round().clamp(0.0, last(shape.height))]
}

fn whole(points: Vec<[f64; 2]>, shape: Shape) -> Result<Vec<[f64; 2]>, String> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for [x, y] in points {
        let inside =
            (-0.5..shape.width as f64).contains(&x) && (-0.5..shape.height as f64).contains(&y);
        if !inside {
            return Err(format!("{x}, {y} lies outside the micrograph"));
        }
        let at = clamped([x, y], shape);
        if seen.insert(key(&at)) {
            all.push(at);
        }
    }
    Ok(all)
}

/// Brushes cross the edge of a micrograph; what is drawn beyond it is drawn along the edge.
fn strokes(areas: Vec<Stroke>, shape: Shape) -> Result<Vec<Stroke>, String> {
    if areas.iter().map(|stroke| stroke.points.len()).sum::<usize>() > MOST_DRAWN {
        return Err(format!("areas of more than {MOST_DRAWN} points on one micrograph"));
    }
    let mut all = Vec::new();
    for Stroke { radius, points } in areas {
        if !(1.0..=WIDEST_PX).contains(&radius) {
            return Err(format!("{radius} px is not a valid radius of a brush"));
        }
        let near = |value: &f64| (-WIDEST_PX..=coords::FARTHEST_PX).contains(value);
        if !points.iter().flatten().all(near) {
            return Err("an area lies outside the micrograph".into());
        }
        let mut points: Vec<[f64; 2]> = points.into_iter().map(|at| clamped(at, shape)).collect();
        points.dedup();
        if !points.is_empty() {
            all.push(Stroke { radius: radius.round(), points });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { width: 400, height: 300 };

    fn stroke(radius: f64, points: &[[f64; 2]]) -> Stroke {
        Stroke { radius, points: points.to_vec() }
    }

    #[test]
    fn labels_are_read_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let stem = Path::new("tree/m.1");
        let own = ByHand {
            state: Looked::Partial,
            positives: vec![[3.0, 4.0], [399.0, 299.0]],
            negatives: vec![[10.0, 20.0]],
            areas: vec![stroke(60.0, &[[0.0, 0.0], [50.0, 80.0]]), stroke(7.0, &[[9.0, 9.0]])],
        };
        own.write(dir.path(), stem, "tree/m.1.mrc").unwrap();
        assert_eq!(ByHand::read(dir.path(), stem).unwrap(), own);
        assert_eq!(tally_in(dir.path(), stem), Some(own.tally()));
        let record = fs::read_to_string(dir.path().join("tree/m.1.labels.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["areas"][0]["radius"], 60.0);
        assert_eq!(record["areas"][0]["points"][1][1], 80.0);
        // What is taken back leaves no file behind.
        ByHand::default().write(dir.path(), stem, "tree/m.1.mrc").unwrap();
        assert_eq!(fs::read_dir(dir.path().join("tree")).unwrap().count(), 0);
        assert_eq!(tally_in(dir.path(), stem), None);
    }

    #[test]
    fn a_record_without_areas_is_read_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (stem, record) = (Path::new("m"), dir.path().join("m.labels.json"));
        let text =
            r#"{"schema":1,"micrograph":"m","state":"complete","positives":0,"negatives":0}"#;
        fs::write(&record, text).unwrap();
        let complete = ByHand { state: Looked::Complete, ..ByHand::default() };
        assert_eq!(ByHand::read(dir.path(), stem).unwrap(), complete);
        fs::write(&record, "{").unwrap();
        let error = ByHand::read(dir.path(), stem).unwrap_err();
        assert!(error.to_string().contains("m.labels.json"), "{error}");
    }

    #[test]
    fn labels_become_whole_px_inside_the_micrograph_each_place_once() {
        let own = ByHand {
            positives: vec![[1.4, 2.6], [1.0, 3.0], [399.9, -0.4]],
            negatives: vec![[1.0, 3.0], [8.0, 8.0]],
            areas: vec![
                stroke(30.4, &[[-5.0, 10.2], [-6.0, 10.0], [500.0, 10.0]]),
                stroke(5.0, &[]),
            ],
            ..ByHand::default()
        };
        let checked = own.checked(SHAPE).unwrap();
        assert_eq!(checked.state, Looked::Partial);
        assert_eq!(checked.positives, [[1.0, 3.0], [399.0, 0.0]]);
        assert_eq!(checked.negatives, [[8.0, 8.0]]);
        assert_eq!(checked.areas, [stroke(30.0, &[[0.0, 10.0], [399.0, 10.0]])]);
    }

    #[test]
    fn an_area_alone_has_been_looked_at_and_what_no_brush_draws_is_refused() {
        let of = |areas: Vec<Stroke>| ByHand { areas, ..ByHand::default() }.checked(SHAPE);
        assert_eq!(of(vec![stroke(9.0, &[[5.0, 5.0]])]).unwrap().state, Looked::Partial);
        for (radius, point) in
            [(0.0, [5.0, 5.0]), (-3.0, [5.0, 5.0]), (f64::NAN, [5.0, 5.0]), (1e6, [5.0, 5.0])]
                .into_iter()
                .chain([(9.0, [f64::NAN, 5.0]), (9.0, [f64::INFINITY, 5.0])])
        {
            assert!(of(vec![stroke(radius, &[point])]).is_err(), "{radius} {point:?}");
        }
        let many = vec![[1.0, 1.0]; MOST_DRAWN + 1];
        assert!(of(vec![stroke(9.0, &many)]).is_err());
        assert!(
            ByHand { positives: vec![[400.5, 1.0]], ..ByHand::default() }.checked(SHAPE).is_err()
        );
    }
}

//! Whether coordinates fit their micrographs: both, matched → counts, findings of the images, verdict.

use std::path::PathBuf;

use serde::Serialize;

use crate::coords::matching::no_match;
use crate::coords::reading::quoted;
use crate::coords::{self, Collected, Coordinate};
use crate::error::{Error, Result};
use crate::labels::fit::{self, Finding, Labelled, Origin, Severity};
use crate::micrograph::{self, Source};
use crate::preprocess::{self, Prepared};
use crate::stages::evaluate::doubles;
use crate::units::{Shape, counted};

/// So many images tell whether coordinates fit; the rest is counted.
const MOST_IMAGES: usize = 40;

/// How fit coordinates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    /// All of them fit.
    Fit,
    /// They fit, but some are lost or there twice.
    Partly,
    /// They are so few that nothing was measured.
    Few,
    /// What was measured on so few does not tell.
    Untold,
    /// They do not fit, or the images do not tell.
    Unfit,
}

/// Counts of one micrograph.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub micrograph: String,
    /// Coordinates in it.
    pub coordinates: usize,
    /// Of these, outside the image.
    pub outside: usize,
    /// Of these, nearer than half a radius to another.
    pub duplicates: usize,
    /// Coordinates in the upper left, upper right, lower left, lower right quadrant (rows as in
    /// the file).
    pub quadrants: [usize; 4],
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    /// Whether all of it is fit.
    fit: bool,
    /// One line.
    pub verdict: String,
    /// Counts.
    pub micrographs: Vec<Row>,
    /// Names of micrographs without coordinates.
    pub micrographs_without_coordinates: Vec<String>,
    /// Names in the coordinates for which there is no micrograph.
    pub coordinates_without_micrograph: Vec<String>,
    /// Micrographs and files that could not be read, with the reason.
    pub unreadable: Vec<String>,
    /// What the images say.
    pub findings: Vec<Finding>,
}

/// Compares coordinates with the images of their micrographs, in which particles have this radius;
/// `inputs` are the paths of both and the least score as typed, for the command that mends them.
///
/// # Errors
/// `Missing` if no coordinates belong to any micrograph; `Setting` for an impossible radius.
pub fn check(
    sources: &[Source],
    coordinates: Collected,
    radius_px: f64,
    inputs: (&[PathBuf], &[PathBuf], Option<f32>),
) -> Result<(Fitness, Report)> {
    let unread = coordinates.unread_of(sources);
    let matched = coords::match_to(sources, coordinates.sets)?;
    if matched.pairs.is_empty() {
        return Err(no_match(sources, &matched.coordinates_without));
    }
    let example = matched.pairs.first().map_or(String::new(), |(source, _)| quoted(&source.path));
    let mut looked = looked_at(matched.pairs, radius_px)?;
    looked.unreadable.splice(0..0, unread.into_iter().map(|unread| unread.reason));
    let Looked { rows, prepared, unreadable, pixel_size_a } = looked;
    let origin = Origin {
        pixel_size_a,
        micrographs: quoted_all(inputs.0),
        coordinates: quoted_all(inputs.1),
        min_score: inputs.2,
        example,
        radius_px,
    };
    let (findings, misfits) = findings(&prepared, &origin);
    let losses = Losses {
        is_blind: prepared.is_empty(),
        without: &matched.coordinates_without,
        unreadable: &unreadable,
        misfits,
    };
    let (fitness, verdict) = judge(&rows, &losses, &findings, radius_px);
    let report = Report {
        schema: 1,
        fit: fitness == Fitness::Fit,
        verdict,
        micrographs: rows,
        micrographs_without_coordinates: matched.micrographs_without,
        coordinates_without_micrograph: matched.coordinates_without,
        unreadable,
        findings,
    };
    Ok((fitness, report))
}

/// Micrographs with their coordinates, some with their images.
#[derive(Default)]
struct Looked {
    rows: Vec<Row>,
    prepared: Vec<(String, Prepared, Vec<Coordinate>)>,
    unreadable: Vec<String>,
    /// Of the first micrograph that says it.
    pixel_size_a: Option<f64>,
}

fn looked_at(pairs: Vec<(Source, Vec<Coordinate>)>, radius_px: f64) -> Result<Looked> {
    let settings = preprocess::Settings::default();
    let every = pairs.len().div_ceil(MOST_IMAGES).max(1);
    let mut looked = Looked::default();
    for (index, (source, points)) in pairs.into_iter().enumerate() {
        let name = source.name.clone();
        let row = |mic: Shape| describe(name, &points, mic, radius_px);
        if index % every > 0 {
            match micrograph::header(&source.path) {
                Ok(header) => looked.rows.push(row(header.shape)),
                Err(error) => looked.unreadable.push(error.to_string()),
            }
            continue;
        }
        let image = micrograph::read(&source.path).and_then(|image| {
            let size = source.pixel_size.or(image.header_pixel_size.measured());
            looked.pixel_size_a = looked.pixel_size_a.or(size.map(|size| size.0));
            preprocess::prepare(image.pixels, radius_px, &settings)
        });
        match image {
            Ok(image) => {
                looked.rows.push(row(image.frame.mic));
                looked.prepared.push((source.name, image, points));
            }
            Err(error @ Error::Setting { .. }) => return Err(error),
            Err(error) => looked.unreadable.push(error.to_string()),
        }
    }
    Ok(looked)
}

/// What the images say, and in how many micrographs coordinates do not fit while those of the others
/// do.
fn findings(
    prepared: &[(String, Prepared, Vec<Coordinate>)],
    origin: &Origin,
) -> (Vec<Finding>, usize) {
    if prepared.is_empty() {
        return (Vec::new(), 0);
    }
    let together: Vec<Labelled> =
        prepared.iter().map(|(_, prepared, points)| Labelled { prepared, points }).collect();
    let mut findings = fit::check(&together, origin);
    let mut misfits = 0;
    let fits = findings.iter().all(|finding| finding.severity == Severity::Note);
    if fits && together.len() > 1 {
        // One bad file among many good ones does not show in their sum.
        let all = fit::as_given(&together);
        let count: usize = together.iter().map(|one| one.points.len()).sum();
        for ((name, ..), one) in prepared.iter().zip(&together) {
            let expected = all * f64::sqrt(one.points.len() as f64 / count.max(1) as f64);
            let own = fit::check_one(one, expected, origin);
            misfits += usize::from(own.iter().any(|finding| finding.severity > Severity::Doubtful));
            findings.extend(own.into_iter().map(|finding| Finding {
                severity: Severity::Doubtful,
                what: format!("{name}: {}", finding.what),
                ..finding
            }));
        }
    }
    if fits {
        findings.extend(fit::lean(&together, origin));
    }
    (findings, misfits)
}

fn quoted_all(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(" ")
}

/// What is not fit, apart from coordinates as a whole.
struct Losses<'a> {
    /// Whether no image at all could be read.
    is_blind: bool,
    /// Names in the coordinates for which there is no micrograph.
    without: &'a [String],
    unreadable: &'a [String],
    /// Micrographs whose coordinates do not fit, while those of the others do.
    misfits: usize,
}

/// How fit they are, and the last line.
fn judge(
    rows: &[Row],
    &Losses { is_blind, without, unreadable, misfits }: &Losses,
    findings: &[Finding],
    radius: f64,
) -> (Fitness, String) {
    let outside: usize = rows.iter().map(|row| row.outside).sum();
    let mut wrong = Vec::new();
    if is_blind {
        wrong.push("none of the images that were looked at could be read".to_string());
    }
    if findings.iter().any(|finding| finding.severity >= Severity::Outdone) {
        wrong.push("the coordinates do not fit the images as they are".to_string());
    }
    if outside > 0 {
        wrong.push(format!(
            "{} outside",
            if outside == 1 {
                "1 coordinate lies".into()
            } else {
                format!("{outside} coordinates lie")
            }
        ));
    }
    if !wrong.is_empty() {
        return (Fitness::Unfit, format!("not fit for import: {}", wrong.join("; ")));
    }
    if findings.iter().any(|finding| finding.severity == Severity::Unseen) {
        let verdict = "not confirmed to be fit for import: the images do not show whether the \
                       coordinates lie on particles";
        return (Fitness::Unfit, verdict.into());
    }
    let mut lost = Vec::new();
    if !without.is_empty() {
        let all = without.len() + rows.len();
        lost.push(format!(
            "{} of {all} names in the coordinates have no micrograph",
            without.len()
        ));
    }
    if !unreadable.is_empty() {
        lost.push(format!("{} could not be read", counted(unreadable.len(), "file")));
    }
    let twice: usize = rows.iter().map(|row| row.duplicates).sum();
    if twice > 0 {
        lost.push(format!(
            "{twice} coordinates lie nearer than half a radius to another (`picker convert` with \
             convert.remove_duplicates {:.0} leaves one of each)",
            radius / 2.0
        ));
    }
    if misfits > 0 {
        lost.push(format!("the coordinates of {} do not fit", counted(misfits, "micrograph")));
    }
    if let Some(few) = findings.iter().find(|finding| finding.severity == Severity::Untold) {
        let lost_nothing = lost.is_empty();
        let verdict = [vec![format!("undecided: {}", few.what)], lost].concat().join("; ");
        let count: usize = rows.iter().map(|row| row.coordinates).sum();
        let unmeasured = count < fit::FEW && lost_nothing;
        return (if unmeasured { Fitness::Few } else { Fitness::Untold }, verdict);
    }
    if lost.is_empty() {
        return (Fitness::Fit, "fit for import".into());
    }
    (Fitness::Partly, format!("fit for import in part: {}", lost.join("; ")))
}

fn describe(micrograph: String, points: &[Coordinate], mic: Shape, radius: f64) -> Row {
    let (width, height) = (mic.width as f64, mic.height as f64);
    let mut row =
        Row { micrograph, coordinates: points.len(), outside: 0, duplicates: 0, quadrants: [0; 4] };
    row.duplicates = doubles(points, radius);
    for point in points {
        let (x, y) = (point.x_mic_px, point.y_mic_px);
        if x < 0.0 || y < 0.0 || x > width - 1.0 || y > height - 1.0 {
            row.outside += 1;
        } else {
            row.quadrants[usize::from(y >= height / 2.0) * 2 + usize::from(x >= width / 2.0)] += 1;
        }
    }
    row
}

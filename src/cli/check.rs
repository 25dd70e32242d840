//! `picker check`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::known::RadiusArgs;
use super::words::{tell, with_flags};
use super::{Exit, Global};
use crate::coords::matching::no_match;
use crate::coords::reading::quoted;
use crate::coords::{self, Candidates, Coordinate};
use crate::error::Error;
use crate::labels::fit::{self, Finding, Labelled, Origin, Severity};
use crate::micrograph;
use crate::preprocess;
use crate::stages::evaluate::doubles;
use crate::units::Shape;

/// Tells whether coordinates fit their micrographs and are ready for import
///
/// Counts, coordinates outside the image, duplicates closer than half a radius, empty quadrants, and
/// whether a flip, exchanged axes or a scale factor would fit the images better (looked for on at
/// most 40 of them). Exit code 0: fit; 1: not, or not to be seen; 3: fit, but coordinates are lost
/// (names without a micrograph, files that cannot be read) or there twice.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files
    #[arg(long, num_args = 1.., value_name = "PATH", default_value = "micrographs")]
    micrographs: Vec<PathBuf>,
    /// Coordinates: files or folders of any format
    #[arg(long, num_args = 1.., value_name = "PATH", default_value = "coordinates")]
    coordinates: Vec<PathBuf>,
    #[arg(skip)]
    particle_radius: f64,
    #[command(flatten)]
    radius: RadiusArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    micrograph: String,
    coordinates: usize,
    outside: usize,
    duplicates: usize,
    /// Coordinates in the upper left, upper right, lower left, lower right quadrant (rows as in
    /// the file).
    quadrants: [usize; 4],
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    /// Whether all of it is.
    fit: bool,
    verdict: String,
    micrographs: Vec<Row>,
    micrographs_without_coordinates: Vec<String>,
    coordinates_without_micrograph: Vec<String>,
    unreadable: Vec<String>,
    findings: Vec<Finding>,
}

/// So many images tell whether coordinates fit; the rest is counted.
const MOST_IMAGES: usize = 40;

pub(super) fn run(args: &CheckArgs, _global: &Global) -> Result<Exit> {
    let settings = preprocess::Settings::default();
    let sources = micrograph::named(&args.micrographs)?;
    let particle_radius = args.radius.in_px(sources.first())?;
    let args = &CheckArgs { particle_radius, ..args.clone() };
    let coordinates = coords::read_all(&args.coordinates)?;
    coordinates.notes().iter().for_each(|note| tell(&with_flags(note)));
    if let Some(candidates) = Candidates::among(&coordinates) {
        return Err(candidates.refused(&args.coordinates).into());
    }
    let unread = coordinates.unread_of(&sources);
    let matched = coords::match_to(&sources, coordinates.sets)?;
    if matched.pairs.is_empty() {
        return Err(no_match(&sources, &matched.coordinates_without).into());
    }
    let (mut rows, mut prepared) = (Vec::new(), Vec::new());
    let mut unreadable: Vec<String> = unread.into_iter().map(|unread| unread.reason).collect();
    let example = matched.pairs.first().map_or(String::new(), |(source, _)| quoted(&source.path));
    let mut pixel_size_a = None;
    let every = matched.pairs.len().div_ceil(MOST_IMAGES).max(1);
    for (index, (source, points)) in matched.pairs.into_iter().enumerate() {
        let name = source.name.clone();
        let row = |mic: Shape| describe(name, &points, mic, args.particle_radius);
        if index % every > 0 {
            match micrograph::header(&source.path) {
                Ok(header) => rows.push(row(header.shape)),
                Err(error) => unreadable.push(error.to_string()),
            }
            continue;
        }
        let image = micrograph::read(&source.path).and_then(|image| {
            let size = source.pixel_size.or(image.header_pixel_size.measured());
            pixel_size_a = pixel_size_a.or(size.map(|size| size.0));
            preprocess::prepare(image.pixels, args.particle_radius, &settings)
        });
        match image {
            Ok(image) => {
                rows.push(row(image.frame.mic));
                prepared.push((source.name, image, points));
            }
            Err(Error::Setting { name, what, hint }) => {
                return Err(Error::Setting { name, what, hint }.into());
            }
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    let radius_work_px = settings.radius_work_px(args.particle_radius);
    let together: Vec<Labelled> = prepared
        .iter()
        .map(|(_, prepared, points)| Labelled { prepared, points, radius_work_px })
        .collect();
    let origin = Origin {
        pixel_size_a,
        coordinates: quoted_all(&args.coordinates),
        micrographs: quoted_all(&args.micrographs),
        example,
        radius_px: args.particle_radius,
    };
    let mut findings = fit::check(&together, &origin);
    let mut misfits = 0;
    if findings.is_empty() && together.len() > 1 {
        // One bad file among many good ones does not show in their sum.
        let all = fit::as_given(&together);
        let count: usize = together.iter().map(|one| one.points.len()).sum();
        for ((name, ..), one) in prepared.iter().zip(&together) {
            let expected = all * f64::sqrt(one.points.len() as f64 / count.max(1) as f64);
            let own = fit::check_one(one, expected, &origin);
            misfits += usize::from(own.iter().any(|finding| finding.severity > Severity::Doubtful));
            findings.extend(own.into_iter().map(|finding| Finding {
                severity: Severity::Doubtful,
                what: format!("{name}: {}", finding.what),
                ..finding
            }));
        }
    }
    let losses = Losses { without: &matched.coordinates_without, unreadable: &unreadable, misfits };
    let (exit, verdict) = judge(&rows, &losses, &findings, args.particle_radius);
    let report = Report {
        schema: 1,
        fit: exit == Exit::Done,
        verdict,
        micrographs: rows,
        micrographs_without_coordinates: matched.micrographs_without,
        coordinates_without_micrograph: matched.coordinates_without,
        unreadable,
        findings,
    };
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print_report(&mut io::stdout().lock(), &report)?;
    }
    Ok(exit)
}

/// What is not fit, apart from coordinates as a whole.
struct Losses<'a> {
    /// Names in the coordinates for which there is no micrograph.
    without: &'a [String],
    unreadable: &'a [String],
    /// Micrographs whose coordinates do not fit, while those of the others do.
    misfits: usize,
}

fn quoted_all(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(" ")
}

/// The exit code and the last line.
fn judge(
    rows: &[Row],
    &Losses { without, unreadable, misfits }: &Losses,
    findings: &[Finding],
    radius: f64,
) -> (Exit, String) {
    let outside: usize = rows.iter().map(|row| row.outside).sum();
    let mut wrong = Vec::new();
    if rows.is_empty() {
        wrong.push("nothing could be read".to_string());
    }
    if findings.iter().any(|finding| finding.severity >= Severity::Outdone) {
        wrong.push("the coordinates do not fit the images as they are".to_string());
    }
    if outside > 0 {
        wrong.push(format!("{outside} coordinates lie outside"));
    }
    if !wrong.is_empty() {
        return (Exit::Failed, format!("not fit for import: {}", wrong.join("; ")));
    }
    if findings.iter().any(|finding| finding.severity == Severity::Unseen) {
        let verdict = "not shown to be fit for import: the images do not tell whether the \
                       coordinates lie on particles";
        return (Exit::Failed, verdict.into());
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
        lost.push(format!("{} files could not be read", unreadable.len()));
    }
    let twice: usize = rows.iter().map(|row| row.duplicates).sum();
    if twice > 0 {
        lost.push(format!(
            "{twice} coordinates lie nearer than half a radius to another (`picker convert` with \
             --remove-duplicates {:.0} leaves one of each)",
            radius / 2.0
        ));
    }
    if misfits > 0 {
        lost.push(format!("the coordinates of {misfits} micrographs do not fit"));
    }
    if lost.is_empty() {
        return (Exit::Done, "fit for import".into());
    }
    (Exit::Partial, format!("fit for import in part: {}", lost.join("; ")))
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

fn print_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "coordinates  outside  duplicates  quadrants            micrograph")?;
    for row in &report.micrographs {
        let [a, b, c, d] = row.quadrants;
        writeln!(
            out,
            "{:>11}  {:>7}  {:>10}  {:<20} {}",
            row.coordinates,
            row.outside,
            row.duplicates,
            format!("{a} {b} {c} {d}"),
            row.micrograph
        )?;
    }
    for (names, what) in [
        (&report.micrographs_without_coordinates, "without coordinates"),
        (&report.coordinates_without_micrograph, "coordinates without a micrograph"),
        (&report.unreadable, "unreadable"),
    ] {
        names.iter().try_for_each(|name| writeln!(out, "{what}: {name}"))?;
    }
    for finding in &report.findings {
        writeln!(
            out,
            "{}: {}",
            if finding.severity >= Severity::Outdone { "error" } else { "warning" },
            with_flags(&finding.what)
        )?;
        writeln!(out, "hint: {}", with_flags(&finding.hint))?;
    }
    writeln!(out, "{}", report.verdict)
}

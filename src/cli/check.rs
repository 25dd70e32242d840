//! `picker check`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::known::RadiusArgs;
use super::{Exit, Global};
use crate::coords::nearest::Tree;
use crate::coords::{self, Coordinate};
use crate::error::Error;
use crate::labels::fit::{self, Finding, Labelled, Severity};
use crate::micrograph;
use crate::preprocess::{self, Prepared};
use crate::units::Shape;

/// Tells whether coordinates fit their micrographs and are ready for import
///
/// Counts, coordinates outside the image, duplicates closer than a radius, empty quadrants, and
/// whether a flip, exchanged axes or a scale factor would fit the images better (looked for on at
/// most 40 of them). Exit code 0: fit; 1: not.
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
    fit: bool,
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
    let sources = micrograph::list(&args.micrographs)?;
    let particle_radius = args.radius.in_px(sources.first())?;
    let args = &CheckArgs { particle_radius, ..args.clone() };
    let matched = coords::match_to(&sources, coords::read_all(&args.coordinates)?)?;
    let (mut rows, mut prepared, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
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
        let image = micrograph::read(&source.path)
            .and_then(|image| preprocess::prepare(image.pixels, args.particle_radius, &settings));
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
    if rows.is_empty() && unreadable.is_empty() {
        return Err(Error::missing(
            "no coordinates belong to any of the micrographs",
            "coordinate files are matched by path and by stem: a.mrc with a.star, a_autopick.star, a.box, …",
        )
        .into());
    }
    let radius_work_px = settings.radius_work_px(args.particle_radius);
    let labelled = |(_, prepared, points): &(String, Prepared, Vec<Coordinate>)| -> Vec<Finding> {
        fit::check(&[Labelled { prepared, points, radius_work_px }])
    };
    let together: Vec<Labelled> = prepared
        .iter()
        .map(|(_, prepared, points)| Labelled { prepared, points, radius_work_px })
        .collect();
    let mut findings = fit::check(&together);
    if findings.is_empty() {
        // One bad file among many good ones does not show in their sum.
        for one in prepared.iter().filter(|(_, _, points)| !points.is_empty()) {
            let own = labelled(one).into_iter();
            findings.extend(own.map(|f| Finding { what: format!("{}: {}", one.0, f.what), ..f }));
        }
    }
    let impossible = findings.iter().any(|finding| finding.severity == Severity::Impossible);
    let outside = rows.iter().any(|row| row.outside > 0);
    let report = Report {
        schema: 1,
        fit: !impossible && !outside && unreadable.is_empty(),
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
    Ok(if report.fit { Exit::Done } else { Exit::Failed })
}

fn describe(micrograph: String, points: &[Coordinate], mic: Shape, radius: f64) -> Row {
    let (width, height) = (mic.width as f64, mic.height as f64);
    let mut row =
        Row { micrograph, coordinates: points.len(), outside: 0, duplicates: 0, quadrants: [0; 4] };
    let tree = Tree::of(points);
    for (index, point) in points.iter().enumerate() {
        let (x, y) = (point.x_mic_px, point.y_mic_px);
        if x < 0.0 || y < 0.0 || x > width - 1.0 || y > height - 1.0 {
            row.outside += 1;
        } else {
            row.quadrants[usize::from(y >= height / 2.0) * 2 + usize::from(x >= width / 2.0)] += 1;
        }
        row.duplicates += usize::from(tree.has_earlier(index, radius * radius));
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
            if finding.severity == Severity::Impossible { "error" } else { "warning" },
            finding.what
        )?;
        writeln!(out, "hint: {}", finding.hint)?;
    }
    writeln!(out, "{}", if report.fit { "fit for import" } else { "not fit for import" })
}

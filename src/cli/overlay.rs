//! `picker overlay`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use image::codecs::png::PngEncoder;

use super::known::{self, RadiusArgs, or_known};
use super::{Exit, Global};
use crate::coords::{self, Coordinate};
use crate::error::Error;
use crate::micrograph::{self, Source};
use crate::publish::publish;
use crate::report::overlay::{self, Kind};

/// Draws picks (and truth) on a micrograph as a PNG
///
/// The micrograph is low-passed, so that particles can be seen. With --truth, hits are solid blue
/// circles, misses dashed yellow and false picks dotted orange; below the image is written how many
/// there are of each.
#[derive(Debug, Args)]
pub(super) struct OverlayArgs {
    /// The micrograph
    micrograph: PathBuf,
    /// Picks of this micrograph, in any format; a table of many micrographs is accepted [default:
    /// those of the run]
    #[arg(long, value_name = "FILE")]
    picks: Option<PathBuf>,
    /// True particles of this micrograph
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    #[command(flatten)]
    radius: RadiusArgs,
    /// Leave out picks with a lower score
    #[arg(long, value_name = "T")]
    threshold: Option<f32>,
    /// The picture [default: MICROGRAPH's name with _overlay.png, in the current folder]
    #[arg(long, value_name = "PNG")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &OverlayArgs, _global: &Global) -> Result<Exit> {
    let sources = micrograph::named(std::slice::from_ref(&args.micrograph))?;
    let [source] = &sources[..] else {
        return Err(Error::setting(
            args.micrograph.display().to_string(),
            format!("names {} micrographs", sources.len()),
            "give one micrograph at a time",
        )
        .into());
    };
    let own = args.picks.as_slice();
    let own = or_known(own, || known::picks(&args.radius.run()), "--picks")?;
    let own = own.first().map_or(Path::new(""), PathBuf::as_path);
    let mut picks = points_of(source, own)?;
    let particle_radius = args.radius.in_px(Some(source))?;
    if let Some(threshold) = args.threshold {
        if picks.iter().any(|pick| pick.score.is_none()) {
            return Err(Error::setting(
                "--threshold",
                format!("the picks of {} have no scores", own.display()),
                "leave --threshold out",
            )
            .into());
        }
        picks.retain(|pick| pick.score.is_some_and(|score| score >= threshold));
    }
    let truth = args.truth.as_deref().map(|file| points_of(source, file)).transpose()?;
    let marks = match &truth {
        Some(truth) => overlay::judge(&picks, truth, particle_radius),
        None => overlay::plain(&picks),
    };

    let micrograph = micrograph::read(&source.path)?;
    let typed = args.radius.pixel_size();
    let (pixel_size, _) = micrograph::pixel_size(source, typed, micrograph.header_pixel_size);
    let settings = overlay::Settings { pixel_size, ..overlay::Settings::default() };
    let picture = overlay::draw(&micrograph.pixels, &marks, particle_radius, &settings)?;
    let out = args.out.clone().unwrap_or_else(|| {
        let stem = source.stem.file_name().unwrap_or_default().to_string_lossy();
        PathBuf::from(format!("{stem}_overlay.png"))
    });
    publish(&out, |file| {
        picture.write_with_encoder(PngEncoder::new(file)).map_err(io::Error::other)
    })?;

    let count = |kind: Kind| marks.iter().filter(|mark| mark.kind == kind).count();
    let told = if truth.is_some() {
        [Kind::Hit, Kind::Miss, Kind::False]
            .map(|kind| format!("{} ({})", kind.count(count(kind)), kind.look()))
            .join(", ")
    } else {
        Kind::Pick.count(marks.len())
    };
    tracing::info!("{}: {told}", out.display());
    Ok(Exit::Done)
}

/// What a coordinate file says of one micrograph.
fn points_of(source: &Source, file: &Path) -> Result<Vec<Coordinate>, Error> {
    let mut read = coords::read_all(&[file.to_path_buf()])?.sets;
    let matched = coords::match_to(std::slice::from_ref(source), read.clone())?;
    if let Some((_, points)) = matched.pairs.into_iter().next() {
        return Ok(points);
    }
    match (read.pop(), read.is_empty()) {
        (Some(only), true) => {
            tracing::warn!("{} is about {}, not {}", file.display(), only.micrograph, source.name);
            Ok(only.points)
        }
        _ => Err(Error::unusable(
            file,
            format!("it has no coordinates of {}", source.name),
            "the micrograph's name must be in the table, at least its last part",
        )),
    }
}

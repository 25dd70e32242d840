//! `picker pick`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{Exit, Global};
use crate::micrograph;
use crate::model::Model;
use crate::pipeline::picking::{self, Event, Summary};
use crate::units::PixelSize;

/// Picks particles in micrographs with a trained model
///
/// Writes, under OUT/picks, one STAR file a micrograph, one CSV file for all, and the list files
/// that RELION reads. Micrographs that an earlier run has scored with the same model and settings
/// are not scored again.
#[derive(Debug, Args)]
pub(super) struct PickArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: micrographs]
    #[arg(value_name = "MICROGRAPHS")]
    micrographs: Vec<PathBuf>,
    /// The trained model: a model file or the folder of a run [default: the run in OUT]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Score from which on a peak is a pick [default: the model's own, best on validation]
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Of two picks closer than this, the worse one is dropped, in px
    #[arg(long, value_name = "PX", conflicts_with = "min_distance_a")]
    min_distance: Option<f64>,
    /// The same in Å
    #[arg(long, value_name = "Å")]
    min_distance_a: Option<f64>,
    /// Try micrographs again that failed before and have not changed
    #[arg(long)]
    retry_failed: bool,
    #[command(flatten)]
    scale: super::ScaleArgs,
    #[command(flatten)]
    run: super::RunArgs,
}

pub(super) fn run(args: &PickArgs, global: &Global) -> Result<Exit> {
    let mut config = args.run.config()?;
    args.scale.over(&mut config);
    let session = Session::start(global)?;
    let model_path = Model::locate(args.model.as_deref().unwrap_or(&args.run.out.out))?;
    let model = Model::load(&model_path, session.device, config.train.precision)?;
    // The model was validated with its own way of picking; a file given now may change it.
    if args.run.config.is_none() {
        config.pick = model.card.pick.clone();
    }
    args.set_min_distance(&mut config, &model)?;
    config.check()?;
    let threshold = super::check_threshold(args.threshold)?.unwrap_or(model.card.threshold);
    let given = super::given_or(&args.micrographs, "micrographs", "the micrographs")?;
    let sources = micrograph::list(&given)?;
    let run = args.run.out.open()?;
    session.describe(&run, "pick", &config, global.seed, Some(&model.hash), &[])?;

    let mut progress = Progress::new(global);
    progress.begin(sources.len() as u64, "picking");
    let mut done = 0;
    let summary = picking::run(
        &picking::Job {
            model: &model,
            settings: &config.pick,
            radius: super::radius(&config),
            pixel_size: config.data.pixel_size_a.map(PixelSize),
            threshold,
            listed_in: &given[0],
            retry_failed: args.retry_failed,
            run: &run,
        },
        &sources,
        &mut |event| {
            done += 1;
            progress.at(done);
            match event {
                Event::Picked { source, picks, kept, warnings } => {
                    warnings.iter().for_each(|warning| progress.warn(warning));
                    tracing::debug!(
                        "{}: {picks} picks{}",
                        source.name,
                        if kept { " (kept)" } else { "" }
                    );
                }
                Event::Failed(failure) => progress.warn(&format!("left out: {}", failure.error)),
            }
        },
        &session.cancel,
    );
    progress.end();
    let summary = summary?;
    session.describe(&run, "pick", &config, global.seed, Some(&model.hash), &summary.failures)?;
    writeln!(io::stdout(), "{}", describe(&summary, threshold, &run.picks()))?;
    Ok(conclude(&summary, threshold))
}

/// One line for stdout.
pub(super) fn describe(summary: &Summary, threshold: f32, folder: &std::path::Path) -> String {
    format!(
        "{} picks on {} micrographs ({} without a pick) at threshold {threshold:.3}: {}",
        summary.picks,
        summary.micrographs,
        summary.empty,
        folder.display()
    )
}

/// Names what failed; no pick anywhere is no success either.
pub(super) fn conclude(summary: &Summary, threshold: f32) -> Exit {
    if summary.picks == 0 && summary.micrographs > 0 {
        let best = summary
            .best_score
            .map_or("no peak at all".into(), |s| format!("the highest score is {s:.3}"));
        eprintln!(
            "error: no picks on any of {} micrographs at threshold {threshold:.3}; {best}",
            summary.micrographs
        );
        eprintln!(
            "hint: try `picker threshold --threshold` with a lower score; check the radius, the pixel size and that particles are dark (or bright) as in training"
        );
        return Exit::Partial;
    }
    super::ended_with(&summary.failures)
}

impl PickArgs {
    fn set_min_distance(&self, config: &mut crate::config::RunConfig, model: &Model) -> Result<()> {
        let in_px = match (self.min_distance, self.min_distance_a) {
            (Some(px), _) => px,
            (None, Some(a)) => {
                let size = config.data.pixel_size_a.map(PixelSize).or(model.card.pixel_size_a);
                crate::pipeline::Radius::Angstrom(a).in_px(size)?
            }
            (None, None) => return Ok(()),
        };
        let radius = super::radius(config).map_or(Ok(model.card.particle_radius_px), |r| {
            r.in_px(config.data.pixel_size_a.map(PixelSize))
        })?;
        config.pick.min_distance_radii = in_px / radius;
        Ok(())
    }
}

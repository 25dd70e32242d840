//! Picking many micrographs: sources + model → coordinates of each, as a stream.
//!
//! Workers take one micrograph each from its file to its picks (module `workers`); memory is the
//! same for ten micrographs and for ten thousand. All peaks down to
//! the floor are stored (`picks.all/`), and the picks (`picks/`) are cut from them, so that
//! another threshold needs no network.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::budget::Budget;
use super::manifest::{Item, RunDir, State, Status};
use super::scale::radius_for;
use super::workers::in_order;
use super::{Cancel, Failure, InputStamp, Loaded, Radius, beside, fingerprint, load, load_anew};
use crate::coords::{self, Coordinate, Coordinates};
use crate::error::{Error, Result};
use crate::micrograph::{self, Source};
use crate::model::{Card, Inference, Model, Precision};
use crate::pick;
use crate::preprocess::{Particles, Repairs};
use crate::publish::publish;
use crate::score::score;
use crate::units::{Frame, PixelSize};

/// All that one picking needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// The model.
    pub model: &'a Model,
    /// Peaks and their suppression.
    pub settings: &'a pick::Settings,
    /// Radius in these micrographs, if it is not the one the model was trained with.
    pub radius: Option<Radius>,
    /// Å/px where no STAR file tells it.
    pub pixel_size: Option<PixelSize>,
    /// Score from which on a peak is a pick.
    pub threshold: f32,
    /// The list of micrographs that RELION is to be pointed to.
    pub listed_in: &'a Path,
    /// Whether micrographs that failed before, and have not changed, are tried again.
    pub retry_failed: bool,
    /// Where everything goes.
    pub run: &'a RunDir,
}

impl Job<'_> {
    /// Stands for all that a micrograph's scores depend on beside itself.
    pub fn fingerprint(&self) -> Result<String> {
        let computes_in = self.model.network.computes_in();
        scoring_fingerprint(
            (&self.model.hash, computes_in, self.model.card.preprocess.particles),
            self.settings,
            self.radius,
            self.pixel_size,
        )
    }
}

impl Job<'_> {
    /// Stands for what a picking of these micrographs writes beside what each of them holds.
    pub fn list_fingerprint(&self, sources: &[Source]) -> Result<String> {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        fingerprint(&(self.fingerprint()?, self.threshold, self.listed_in, names))
    }
}

/// As [`Job::fingerprint`], for who has no job yet: of the model, its hash, the number format it
/// computes in, and how particles look to it.
pub fn scoring_fingerprint(
    model: (&str, Precision, Option<Particles>),
    settings: &pick::Settings,
    radius: Option<Radius>,
    pixel_size: Option<PixelSize>,
) -> Result<String> {
    fingerprint(&(model, settings, radius, pixel_size, env!("CARGO_PKG_VERSION")))
}

/// What happens while picking goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A micrograph has its picks; kept ones were scored by an earlier run.
    Picked {
        /// The micrograph.
        source: &'a Source,
        /// Picks at the threshold.
        picks: usize,
        /// Whether an earlier run had scored it.
        kept: bool,
        /// Oddities a user should hear of.
        warnings: &'a [String],
    },
    /// A micrograph could not be picked.
    Failed(&'a Failure),
}

/// How a picking ended.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Micrographs with picks in place, those without any included.
    pub micrographs: usize,
    /// Of these, scored by an earlier run.
    pub kept: usize,
    /// Picks in all.
    pub picks: usize,
    /// Micrographs without a pick.
    pub empty: usize,
    /// Highest score anywhere.
    pub best_score: Option<f32>,
    /// Micrographs that could not be picked.
    pub failures: Vec<Failure>,
}

/// Picks every micrograph and writes coordinates and lists, both in the order given.
///
/// Stops with [`Error::Interrupted`] after the micrograph in hand once `cancel` is requested.
pub fn run(
    job: &Job,
    sources: &[Source],
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Summary> {
    let (mut summary, mut lists) = (Summary::default(), Lists::default());
    pick_into(job, sources, (&mut summary, &mut lists), observe, cancel)?;
    lists.write(job.run, job.threshold, job.listed_in)?;
    Ok(summary)
}

/// Picks micrographs, adding to the summary and the lists.
pub(super) fn pick_into(
    job: &Job,
    sources: &[Source],
    (summary, lists): (&mut Summary, &mut Lists),
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<()> {
    let fingerprint = job.fingerprint()?;
    let desk = Desk {
        card: &job.model.card,
        settings: job.settings,
        radius: job.radius,
        pixel_size: job.pixel_size,
        threshold: job.threshold,
        run: job.run,
        fingerprint: &fingerprint,
        retry_failed: job.retry_failed,
        budget: Budget::of(&job.model.machine),
    };
    let take = |order: usize, outcome: Result<Outcome>| {
        let source = &sources[order];
        match outcome {
            Ok(Outcome::Picked(picked)) => {
                summary.add(&picked);
                observe(Event::Picked {
                    source,
                    picks: picked.picks.len(),
                    kept: picked.kept,
                    warnings: &picked.warnings,
                });
                lists.add(&source.name, &source.stem);
            }
            // A full disk or a folder without permission would fail every micrograph alike.
            Err(error @ Error::Io { action: "write" | "create the folder", .. }) => {
                return Err(error);
            }
            Ok(Outcome::AsBefore(error)) => {
                let failure = Failure { micrograph: source.name.clone(), error };
                observe(Event::Failed(&failure));
                summary.failures.push(failure);
            }
            Err(error) => {
                let failure = Failure::new(&source.name, &error);
                let item = Item { order, ..failed_item(source, &fingerprint, &failure) };
                job.run.record(source, &item)?;
                observe(Event::Failed(&failure));
                summary.failures.push(failure);
            }
        }
        Ok(())
    };
    let equip = |worker: usize| job.model.network_for(worker);
    let work =
        |network: &Inference, order: usize, source: &Source| desk.pick(network, order, source);
    in_order(sources, job.model.machine.devices().len(), equip, work, take, cancel)
}

/// How a micrograph ended, unless an error says so.
enum Outcome {
    Picked(Picked),
    /// It failed before and has not changed.
    AsBefore(String),
}

struct Picked {
    picks: Vec<Coordinate>,
    best_score: Option<f32>,
    kept: bool,
    warnings: Vec<String>,
}

/// What every worker needs beside the network.
struct Desk<'a> {
    card: &'a Card,
    settings: &'a pick::Settings,
    radius: Option<Radius>,
    pixel_size: Option<PixelSize>,
    threshold: f32,
    run: &'a RunDir,
    fingerprint: &'a str,
    retry_failed: bool,
    budget: Budget,
}

impl Desk<'_> {
    /// Scores a micrograph if need be, stores its peaks, cuts its picks, and records it, in this
    /// order.
    fn pick(&self, network: &Inference, order: usize, source: &Source) -> Result<Outcome> {
        let started = Instant::now();
        let input = InputStamp::of(&source.path)?;
        let item = self.run.item(source);
        let (item, mut peaks, kept) =
            match (Item::state(item.as_ref(), self.fingerprint, Some(&input)), item) {
                (State::Done, Some(item)) if all_picks_path(self.run, &source.stem).is_file() => {
                    let peaks = read_all_picks(self.run, &source.stem)?;
                    (Item { order, ..item }, peaks, true)
                }
                (State::Failed, Some(Item { error: Some(error), .. })) if !self.retry_failed => {
                    let error = format!("{error} (as before; --retry-failed tries it again)");
                    return Ok(Outcome::AsBefore(error));
                }
                _ => {
                    let radius = |pixel_size| radius_for(self.card, self.radius, pixel_size);
                    let settings = &self.card.preprocess;
                    let frame = self.frame_of(source, &radius);
                    let _share = self.budget.take(&source.path, frame.as_ref(), network)?;
                    let loaded = load(self.run, source, self.pixel_size, settings, &radius)?;
                    let peaks = peaks(network, self.card, self.settings, &loaded)?;
                    write_all_picks(self.run, &source.stem, &peaks)?;
                    let item = Item {
                        schema: 1,
                        micrograph: source.name.clone(),
                        path: source.path.clone(),
                        stem: source.stem.clone(),
                        order,
                        status: Status::Done,
                        fingerprint: self.fingerprint.to_string(),
                        input: Some(input),
                        peaks: peaks.len(),
                        best_score: peaks.first().and_then(|peak| peak.score),
                        particle_radius_px: loaded.radius_mic_px,
                        repairs: loaded.prepared.repairs,
                        warnings: loaded.warnings(),
                        error: None,
                        seconds: started.elapsed().as_secs_f64(),
                    };
                    (item, peaks, false)
                }
            };
        cut(&mut peaks, self.threshold);
        coords::star::write(&star_path(self.run, &source.stem), &peaks)?;
        if !kept {
            self.run.record(source, &item)?;
        }
        let warnings = if kept { Vec::new() } else { item.warnings };
        Ok(Outcome::Picked(Picked { picks: peaks, best_score: item.best_score, kept, warnings }))
    }
}

impl Desk<'_> {
    /// The frame of a micrograph; none if its header tells nothing, since reading it will say why.
    fn frame_of(
        &self,
        source: &Source,
        radius: &dyn Fn(Option<PixelSize>) -> Result<f64>,
    ) -> Option<Frame> {
        let header = micrograph::header(&source.path).ok()?;
        let (pixel_size, _) = micrograph::pixel_size(source, self.pixel_size, header.pixel_size);
        Some(self.card.preprocess.frame(header.shape, radius(pixel_size).ok()?))
    }
}

/// All peaks of a prepared micrograph down to the floor, best first.
fn peaks(
    network: &Inference,
    card: &Card,
    settings: &pick::Settings,
    loaded: &Loaded,
) -> Result<Vec<Coordinate>> {
    let Loaded { prepared, radius_mic_px, .. } = loaded;
    let map = score(network, &prepared.image)?;
    Ok(pick::pick(
        &map,
        prepared.valid,
        &prepared.frame,
        card.preprocess.radius_work_px(*radius_mic_px),
        card.unlabelled_margin_radii,
        settings,
    ))
}

/// All peaks of one micrograph by the model's own way of picking, and what a user should hear of;
/// nothing is stored.
pub fn peaks_of(
    model: &Model,
    source: &Source,
    radius: Radius,
) -> Result<(Vec<Coordinate>, Vec<String>)> {
    let card = &model.card;
    let radius = |pixel_size| radius_for(card, Some(radius), pixel_size);
    let loaded = load_anew(source, None, &card.preprocess, &radius)?;
    Ok((peaks(&model.network, card, &card.pick, &loaded)?, loaded.warnings()))
}

fn failed_item(source: &Source, fingerprint: &str, failure: &Failure) -> Item {
    Item {
        schema: 1,
        micrograph: source.name.clone(),
        path: source.path.clone(),
        stem: source.stem.clone(),
        order: 0,
        status: Status::Failed,
        fingerprint: fingerprint.to_string(),
        input: InputStamp::of(&source.path).ok(),
        peaks: 0,
        best_score: None,
        particle_radius_px: 0.0,
        repairs: Repairs::default(),
        warnings: Vec::new(),
        error: Some(failure.error.clone()),
        seconds: 0.0,
    }
}

impl Summary {
    fn add(&mut self, picked: &Picked) {
        self.micrographs += 1;
        self.kept += usize::from(picked.kept);
        self.picks += picked.picks.len();
        self.empty += usize::from(picked.picks.is_empty());
        self.best_score = self.best_score.into_iter().chain(picked.best_score).reduce(f32::max);
    }
}

/// Leaves the peaks whose score reaches the threshold; they come best first.
fn cut(peaks: &mut Vec<Coordinate>, threshold: f32) {
    peaks.retain(|peak| peak.score.is_some_and(|score| score >= threshold));
}

fn star_path(run: &RunDir, stem: &Path) -> PathBuf {
    beside(&run.picks(), stem, "_autopick.star")
}

fn all_picks_path(run: &RunDir, stem: &Path) -> PathBuf {
    beside(&run.all_picks(), stem, ".csv")
}

fn write_all_picks(run: &RunDir, stem: &Path, peaks: &[Coordinate]) -> Result<()> {
    let own =
        Coordinates { micrograph: stem.to_string_lossy().into_owned(), points: peaks.to_vec() };
    coords::csv::write(&all_picks_path(run, stem), std::slice::from_ref(&own))
}

pub(super) fn read_all_picks(run: &RunDir, stem: &Path) -> Result<Vec<Coordinate>> {
    let read = coords::read(&all_picks_path(run, stem))?;
    Ok(read.into_iter().flat_map(|coordinates| coordinates.points).collect())
}

/// The micrographs with picks in place, in order; their points stay on disk.
#[derive(Default)]
pub(super) struct Lists(Vec<(String, PathBuf)>);

impl Lists {
    fn add(&mut self, name: &str, stem: &Path) {
        self.0.push((name.to_string(), stem.to_path_buf()));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// In the order of names, each once.
    pub(super) fn sort(&mut self) {
        self.0.sort();
        self.0.dedup();
    }

    /// Writes what speaks of all micrographs: RELION's lists, `picks.csv`, and cryoSPARC's table.
    pub(super) fn write(&self, run: &RunDir, threshold: f32, micrographs: &Path) -> Result<()> {
        let folder = run.picks();
        let files: Vec<(String, PathBuf)> =
            self.0.iter().map(|(name, stem)| (name.clone(), star_path(run, stem))).collect();
        coords::star::write_lists(&folder, &files, micrographs)?;
        let picks = |stem: &Path| {
            let mut peaks = read_all_picks(run, stem).map_err(std::io::Error::other)?;
            cut(&mut peaks, threshold);
            Ok::<_, std::io::Error>(peaks)
        };
        publish(&folder.join("picks.csv"), |file| {
            coords::csv::write_head(file)?;
            self.0
                .iter()
                .try_for_each(|(name, stem)| coords::csv::write_rows(file, name, &picks(stem)?))
        })?;
        publish(&folder.join("picked_particles.star"), |file| {
            file.write_all(coords::star::particles_head().as_bytes())?;
            for (name, stem) in &self.0 {
                let rows = coords::star::particles_rows(name, &picks(stem)?);
                file.write_all(rows.map_err(std::io::Error::other)?.as_bytes())?;
            }
            file.write_all(b" \n")
        })?;
        run.remember_threshold(threshold)
    }
}

/// Cuts the stored peaks of a run at another score; picks in all and micrographs without any.
pub fn recut(run: &RunDir, threshold: f32) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut lists = Lists::default();
    for item in run.items()?.into_iter().filter(|item| item.status == Status::Done) {
        let mut peaks = read_all_picks(run, &item.stem)?;
        cut(&mut peaks, threshold);
        coords::star::write(&star_path(run, &item.stem), &peaks)?;
        let picked =
            Picked { best_score: item.best_score, kept: true, warnings: Vec::new(), picks: peaks };
        summary.add(&picked);
        lists.add(&item.micrograph, &item.stem);
    }
    if summary.micrographs == 0 {
        return Err(Error::missing(
            format!("{} holds no stored picks", run.all_picks().display()),
            "pick first: `picker pick MICROGRAPHS`",
        ));
    }
    lists.write(run, threshold, &run.listed_in())?;
    Ok(summary)
}

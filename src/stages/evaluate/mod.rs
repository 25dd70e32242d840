//! Evaluation: picks and truth from files → figures, brought together by micrograph.

mod record;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::pick::read_peaks;
use super::{Context, Ended, Event as StageEvent, Finished, Stage, Step};
use crate::coords::matching::some_of;
use crate::coords::nearest::Tree;
use crate::coords::{self, Coordinate, Coordinates, Unread};
use crate::error::{Error, Result};
use crate::eval::{self, Counts, Evaluation, Overall, Pair};
use crate::labels::beside;
use crate::micrograph::{Source, Stamp};
use crate::model::Card;
use crate::run::{Cancel, Failure, Item, List, RunDir, StageName, fingerprint};
use crate::units::{Shape, counted};
pub use record::{ByName, Stored, Summary};

/// Picks and particles of the same micrographs.
#[derive(Debug, Default)]
pub struct Joined {
    /// The micrographs that are judged.
    pub names: Vec<String>,
    /// Picks of each.
    pub picks: Vec<Vec<Coordinate>>,
    /// Particles of each.
    pub truth: Vec<Vec<Coordinate>>,
    /// Micrographs with truth and without picks.
    pub truth_without_picks: Vec<String>,
    /// How many particles each of those has, if they are left out; empty if they are judged.
    pub left_out: Vec<usize>,
    /// Micrographs with picks and without truth.
    pub picks_without_truth: Vec<String>,
    /// Named micrographs without truth, which cannot be judged.
    pub micrographs_without_truth: Vec<String>,
    /// Files of picks or truth that could not be read.
    pub unread: Vec<Unread>,
}

/// Share of the picks outside the rectangle of all known particles from which on it is worth saying.
const LEAST_OUTSIDE: f64 = 0.02;

/// Picks along the edges, where no particle is labelled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnlabelledBorder {
    /// Picks there.
    pub outside: usize,
    /// All picks.
    pub picks: usize,
    /// How far from the left and the upper edge every known particle lies.
    pub width_px: f64,
}

impl fmt::Display for UnlabelledBorder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} of {} lie nearer to the edges than any known particle, and most of them count as \
             false: if nobody labelled the border of the micrographs, `picker evaluate` with \
             evaluate.margin {:.0} leaves it out",
            self.outside,
            counted(self.picks, "pick"),
            self.width_px.floor()
        )
    }
}

/// Figures that count micrographs without picks as missed, beside those that leave them out.
///
/// A table of picks has no rows for a micrograph on which nothing was found, and none for one that
/// was never picked; only whoever made it knows which.
#[derive(Debug, Serialize)]
pub struct WithMissed {
    /// Micrographs, those without picks included.
    pub micrographs: usize,
    /// Their figures.
    #[serde(flatten)]
    pub overall: Overall,
}

impl Joined {
    /// Brings picks and truth together: of the named micrographs, or of all that have both.
    pub fn of(
        truth: Vec<Coordinates>,
        picks: Vec<Coordinates>,
        named: Option<&[Source]>,
    ) -> Result<Joined> {
        let known: Vec<Source>;
        let sources = match named {
            Some(sources) => sources,
            None => {
                known = truth.iter().map(as_source).collect();
                &known
            }
        };
        let truth = coords::match_to(sources, truth)?;
        let judged: Vec<Source> = truth.pairs.iter().map(|(source, _)| source.clone()).collect();
        let picks = coords::match_to(&judged, picks)?;
        let mut joined = Joined {
            truth_without_picks: picks.micrographs_without,
            picks_without_truth: picks.coordinates_without,
            micrographs_without_truth: named.map_or(Vec::new(), |_| truth.micrographs_without),
            ..Joined::default()
        };
        let mut picked = picks.pairs.into_iter().peekable();
        for (source, particles) in truth.pairs {
            let own =
                picked.next_if(|(other, _)| other.name == source.name).map(|(_, points)| points);
            // Named micrographs are all judged; otherwise those that somebody picked.
            if own.is_some() || named.is_some() {
                joined.push(source.name, own.unwrap_or_default(), particles);
            } else {
                joined.left_out.push(particles.len());
            }
        }
        if joined.names.is_empty() {
            return Err(Error::missing(
                format!(
                    "no micrograph has both picks and known particles: picks are of {}, known \
                     particles of {}",
                    some_of(&joined.picks_without_truth),
                    some_of(if truth.coordinates_without.is_empty() {
                        &joined.truth_without_picks
                    } else {
                        &truth.coordinates_without
                    })
                ),
                "names are compared by path, then by name without extension, then by whether one \
                 contains the other: rename one side",
            ));
        }
        Ok(joined)
    }

    /// All stored peaks of a run on micrographs that its model has not seen, with their truth, and
    /// the particle radius; all as in px of the first micrograph, should pixel sizes differ.
    ///
    /// Nothing if the model has learnt from, or was validated on, every micrograph with truth.
    pub fn of_run(
        run: &RunDir,
        card: &Card,
        truth: Vec<Coordinates>,
    ) -> Result<Option<(Joined, f64)>> {
        let items = run.listed_items()?;
        let scored: Vec<_> = items.iter().filter_map(|item| Some((item, item.scored()?))).collect();
        let source = |item: &Item| Source {
            path: PathBuf::from(&item.micrograph),
            name: item.micrograph.clone(),
            stem: item.stem.clone(),
            pixel_size: None,
        };
        let sources: Vec<Source> = scored.iter().map(|(item, _)| source(item)).collect();
        let by_name: BTreeMap<&str, _> = scored
            .iter()
            .map(|(item, scored)| (item.micrograph.as_str(), (item, scored)))
            .collect();
        let Some(radius) = scored.first().map(|(_, scored)| scored.particle_radius_px) else {
            return Ok(None);
        };
        let mut joined = Joined::default();
        for (source, mut particles) in coords::match_to(&sources, truth)?.pairs {
            let (item, scored) = by_name[source.name.as_str()];
            if card.seen().any(|seen| seen.is(&source.name, Some(&item.input.content))) {
                continue;
            }
            let mut peaks = read_peaks(run, scored)?;
            let scale = radius / scored.particle_radius_px;
            for point in peaks.iter_mut().chain(&mut particles) {
                point.x_mic_px *= scale;
                point.y_mic_px *= scale;
            }
            joined.push(source.name, peaks, particles);
        }
        Ok((!joined.names.is_empty()).then_some((joined, radius)))
    }

    /// Leaves out picks and particles nearer than `margin_px` to the edge; `shape` gives the size of
    /// each micrograph.
    pub fn leave_out_edges(
        &mut self,
        margin_px: f64,
        shape: impl Fn(&str) -> Result<Shape>,
    ) -> Result<()> {
        for ((name, picks), truth) in self.names.iter().zip(&mut self.picks).zip(&mut self.truth) {
            let Shape { width, height } = shape(name)?;
            let inside =
                |at: f64, size: usize| at >= margin_px && at <= size as f64 - 1.0 - margin_px;
            let is_kept = |p: &Coordinate| inside(p.x_mic_px, width) && inside(p.y_mic_px, height);
            picks.retain(is_kept);
            truth.retain(is_kept);
        }
        Ok(())
    }

    /// What stands against the figures, in words: what they leave out, or count twice.
    pub fn doubts(&self, evaluation: &Evaluation, radius: f64, least: Option<f32>) -> Vec<String> {
        let mut doubts = Vec::new();
        if !self.unread.is_empty() {
            doubts.push(format!("{} could not be read", counted(self.unread.len(), "file")));
        }
        if !self.left_out.is_empty() {
            let all = self.left_out.len() + self.names.len();
            let also = match self.picks_without_truth.len() {
                0 => String::new(),
                more => format!(", and {more} with picks have no known particles"),
            };
            doubts.push(format!(
                "{} of {all} micrographs with known particles have no picks{also}",
                self.left_out.len()
            ));
        }
        let judged = self.judged(least);
        for (sets, what) in [(&judged, "picks"), (&self.truth, "known particles")] {
            let twice: usize = sets.iter().map(|own| doubles(own, radius)).sum();
            if twice > 0 {
                doubts.push(format!(
                    "{twice} {what} lie nearer than half a radius to another (`picker convert` with \
                     convert.remove_duplicates {:.0} leaves one of each)",
                    radius / 2.0
                ));
            }
        }
        let hits: usize = evaluation.per_micrograph.iter().map(|counts| counts.hits).sum();
        if hits == 0 && judged.iter().any(|own| !own.is_empty()) {
            doubts.push(
                "no pick lies on a known particle: `picker check` tests whether picks and known \
                 particles fit the micrographs"
                    .into(),
            );
        }
        doubts
    }

    /// What lies outside the rectangle of all known particles, if that is more than chance puts there:
    /// whoever labelled the micrographs left out a border wider than the particle radius.
    pub fn unlabelled_border(&self, radius: f64, least: Option<f32>) -> Option<UnlabelledBorder> {
        let known: Vec<&Coordinate> = self.truth.iter().flatten().collect();
        let range = |of: fn(&Coordinate) -> f64| {
            let none = (f64::INFINITY, f64::NEG_INFINITY);
            known.iter().map(|p| of(p)).fold(none, |(low, high), at| (low.min(at), high.max(at)))
        };
        let ((left, right), (top, bottom)) = (range(|p| p.x_mic_px), range(|p| p.y_mic_px));
        let picks = self.judged(least).concat();
        let is_inside = |pick: &&Coordinate| {
            (left..=right).contains(&pick.x_mic_px) && (top..=bottom).contains(&pick.y_mic_px)
        };
        let outside = picks.len() - picks.iter().filter(is_inside).count();
        // Where labels reach the edges, four in n picks lie beyond the outermost of n.
        let share = LEAST_OUTSIDE.max(10.0 / known.len().max(1) as f64);
        let width_px = left.max(top);
        (width_px > radius && outside as f64 > share * picks.len() as f64)
            .then_some(UnlabelledBorder { outside, picks: picks.len(), width_px })
    }

    /// The picks of each micrograph that are judged at a threshold.
    fn judged(&self, least: Option<f32>) -> Vec<Vec<Coordinate>> {
        let is_judged = |pick: &&Coordinate| {
            least.is_none_or(|least| pick.score.is_some_and(|score| score >= least))
        };
        self.picks.iter().map(|own| own.iter().filter(is_judged).copied().collect()).collect()
    }

    fn push(&mut self, name: String, picks: Vec<Coordinate>, truth: Vec<Coordinate>) {
        self.names.push(name);
        self.picks.push(picks);
        self.truth.push(truth);
    }

    /// Judges the picks from `threshold` up, or all.
    pub fn evaluate(&self, particle_radius_px: f64, threshold: Option<f32>) -> Evaluation {
        let both = self.picks.iter().zip(&self.truth);
        let pairs: Vec<Pair> = both.map(|(picks, truth)| Pair { picks, truth }).collect();
        eval::evaluate(&pairs, particle_radius_px, threshold)
    }

    /// The figures if micrographs that are left out for want of picks count as missed; none if
    /// nothing is left out.
    pub fn with_missed(&self, evaluation: &Evaluation) -> Option<WithMissed> {
        let mut counts = evaluation.per_micrograph.clone();
        let missed = |&particles: &usize| Counts { misses: particles, ..Counts::default() };
        counts.extend(self.left_out.iter().map(missed));
        (!self.left_out.is_empty())
            .then(|| WithMissed { micrographs: counts.len(), overall: Overall::of(&counts) })
    }

    /// The figures with all that is needed to understand them.
    pub fn summary<'a>(
        &'a self,
        evaluation: &'a Evaluation,
        threshold: Option<f32>,
    ) -> Summary<'a> {
        Summary {
            schema: 1,
            micrographs: &self.names,
            picks: None,
            seen: None,
            truth: Vec::new(),
            threshold,
            truth_without_picks: &self.truth_without_picks,
            picks_without_truth: &self.picks_without_truth,
            micrographs_without_truth: &self.micrographs_without_truth,
            unread: &self.unread,
            doubts: &[],
            counting_left_out_as_missed: self.with_missed(evaluation),
            evaluation,
        }
    }
}

/// The stage that judges picks by known particles.
#[derive(Debug)]
pub struct Evaluate;

impl Stage for Evaluate {
    fn name(&self) -> StageName {
        StageName::Evaluate
    }

    /// Stands for the picks, the truth, and the model, which decides what it has not seen.
    fn fingerprint(&self, context: &Context) -> Result<String> {
        let truth: Vec<_> = context
            .settings()
            .data
            .truth
            .iter()
            .flat_map(|path| walkdir::WalkDir::new(path).follow_links(true).sort_by_file_name())
            .filter_map(std::result::Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| (entry.path().to_path_buf(), Stamp::of(entry.path()).ok()))
            .collect();
        fingerprint(&(super::picks_key(context.run)?, truth, context.model()?.hash()?))
    }

    fn state(&self, context: &Context, before: &[Step]) -> Result<Step> {
        if before.iter().any(|step| !step.is_settled()) {
            return super::follows(self, context, "picking");
        }
        let done = || Ok("picks are judged".into());
        super::recorded(self, context, done, "picks, truth or the model have changed")
    }

    fn run(
        &self,
        context: &Context,
        observe: &mut dyn FnMut(StageEvent),
        _cancel: &Cancel,
    ) -> Result<Ended> {
        let run = context.run;
        let card = context.card(&context.model()?)?;
        let list = run.list()?;
        let threshold = list.as_ref().map_or(card.threshold, |list| list.threshold);
        let own = list.as_ref().map_or(0, List::own_thresholds);
        if own > 0 {
            tracing::warn!(
                "with a threshold of their own: {}; all are judged at the common one, {threshold:.3}",
                counted(own, "micrograph")
            );
        }
        let truth = beside::read_truth(&context.settings().data.truth)?;
        truth.notes().iter().for_each(|note| tracing::warn!("{note}"));
        let failures: Vec<Failure> = truth.unread().iter().map(Failure::from).collect();
        let Some((joined, radius)) = Joined::of_run(run, &card, truth.sets)? else {
            observe(StageEvent::Finished(Finished::NothingToJudge));
            return Ok(Ended { failures, outputs: Vec::new() });
        };
        let evaluation = joined.evaluate(radius, Some(threshold));
        let picks = Some(fingerprint(&super::picks_key(run)?)?);
        let seen = Some(Vec::new());
        let summary = Summary { picks, seen, ..joined.summary(&evaluation, Some(threshold)) };
        let written = summary.write(&run.report())?;
        let border = joined.unlabelled_border(radius, Some(threshold));
        observe(StageEvent::Finished(Finished::Evaluate(&joined, &evaluation, border)));
        let outputs = written.iter().map(|path| run.output(path)).collect::<Result<_>>()?;
        Ok(Ended { failures, outputs })
    }
}

/// Points nearer than half a radius to another, one of each pair.
pub fn doubles(points: &[Coordinate], radius: f64) -> usize {
    let tree = Tree::of(points);
    let squared = (radius / 2.0).powi(2);
    (0..points.len()).filter(|&index| tree.has_earlier(index, squared)).count()
}

/// A micrograph known only by the coordinates of its particles.
fn as_source(coordinates: &Coordinates) -> Source {
    Source {
        path: PathBuf::from(&coordinates.micrograph),
        name: coordinates.micrograph.clone(),
        stem: PathBuf::from(&coordinates.micrograph),
        pixel_size: None,
    }
}

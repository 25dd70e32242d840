//! Evaluation: picks and truth from files → figures, brought together by micrograph.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pick::read_peaks;
use super::{Context, Ended, Event as StageEvent, Finished, Stage, Step};
use crate::coords::{self, Coordinate, Coordinates};
use crate::error::{Error, Result};
use crate::eval::{self, Counts, Evaluation, Overall, Pair, Scores};
use crate::micrograph::{Source, Stamp};
use crate::model::Card;
use crate::publish::publish_text;
use crate::report::curves;
use crate::run::{Cancel, Item, RunDir, StageName, fingerprint};

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

/// What `summary.json` holds.
#[derive(Serialize)]
pub struct Summary<'a> {
    schema: u32,
    micrographs: &'a [String],
    /// The fingerprint of a run's picks.
    #[serde(skip_serializing_if = "Option::is_none")]
    picks: Option<String>,
    /// Of the micrographs, those that the model has learnt from or was validated on, where that is
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<Vec<String>>,
    /// Where the known particles are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truth: Vec<PathBuf>,
    threshold: Option<f32>,
    truth_without_picks: &'a [String],
    picks_without_truth: &'a [String],
    micrographs_without_truth: &'a [String],
    counting_left_out_as_missed: Option<WithMissed>,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
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
                "no micrograph has both picks and truth",
                "both are matched by path and stem: a_autopick.star with a.star, a.box, …",
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
            counting_left_out_as_missed: self.with_missed(evaluation),
            evaluation,
        }
    }
}

impl Summary<'_> {
    /// The same for the report of a run, if it is written there and about the picks of the run.
    pub fn for_report(self, folder: &Path, picks: &[PathBuf], truth: &[PathBuf]) -> Result<Self> {
        let (Some(root), Ok(own)) = (folder.parent(), folder.canonicalize()) else {
            return Ok(self);
        };
        let run = RunDir::look_into(root);
        let is_report = run.report().canonicalize().is_ok_and(|report| report == own);
        let of_run = |path: &PathBuf| {
            let both = path.canonicalize().ok().zip(run.picks().canonicalize().ok());
            both.is_some_and(|(path, picks)| path.starts_with(picks))
        };
        if !is_report || !picks.iter().all(of_run) || run.list()?.is_none() {
            return Ok(self);
        }
        let card = super::card_of_picks(&run)?;
        let items = run.listed_items()?;
        let names: Vec<&str> = items.iter().map(|item| item.micrograph.as_str()).collect();
        let has_seen = |name: &&String| {
            place_of(&names, name).map(|at| &items[at]).is_some_and(|item| {
                card.seen().any(|seen| seen.is(&item.micrograph, Some(&item.input.content)))
            })
        };
        let seen = self.micrographs.iter().filter(has_seen).cloned().collect();
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Ok(Summary {
            picks: Some(fingerprint(&super::picks_key(&run)?)?),
            seen: Some(seen),
            truth: truth.iter().map(absolute).collect(),
            ..self
        })
    }

    /// As JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::setting("evaluation", e.to_string(), "use finite scores"))
    }

    /// Writes the summary, a table of the micrographs and the precision-recall curve; the files.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 3]> {
        let files = ["summary.json", "per_micrograph.csv", "precision_recall.svg"];
        let files = files.map(|name| folder.join(name));
        publish_text(&files[0], &(self.to_json()? + "\n"))?;
        publish_text(&files[1], &self.per_micrograph())?;
        publish_text(&files[2], &curves::precision_recall(self.evaluation)?)?;
        Ok(files)
    }

    fn per_micrograph(&self) -> String {
        let mut table = String::from("micrograph,truth,picks,hits,precision,recall,f1\n");
        for (name, counts) in self.micrographs.iter().zip(&self.evaluation.per_micrograph) {
            let Scores { precision, recall, f1 } = counts.scores();
            let name = if name.contains([',', '"']) {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name.clone()
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{name},{},{},{},{precision},{recall},{f1}",
                counts.hits + counts.misses,
                counts.hits + counts.false_picks,
                counts.hits
            );
        }
        table
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

    fn model(&self, context: &Context) -> Result<Option<String>> {
        context.model()?.hash().map(Some)
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
        let threshold = run.threshold()?.unwrap_or(card.threshold);
        let truth = coords::read_all(&context.settings().data.truth)?;
        let Some((joined, radius)) = Joined::of_run(run, &card, truth)? else {
            observe(StageEvent::Finished(Finished::NothingToJudge));
            return Ok(Ended::default());
        };
        let evaluation = joined.evaluate(radius, Some(threshold));
        let picks = Some(fingerprint(&super::picks_key(run)?)?);
        let seen = Some(Vec::new());
        let summary = Summary { picks, seen, ..joined.summary(&evaluation, Some(threshold)) };
        let written = summary.write(&run.report())?;
        observe(StageEvent::Finished(Finished::Evaluate(&joined, &evaluation)));
        let outputs = written.iter().map(|path| run.output(path)).collect::<Result<_>>()?;
        Ok(Ended { failures: Vec::new(), outputs })
    }
}

/// What an evaluation left in a report folder.
#[derive(Debug, Deserialize)]
pub struct Stored {
    /// The micrographs that were judged.
    pub micrographs: Vec<String>,
    picks: Option<String>,
    /// Of these, those that the model has learnt from or was validated on, where that is known.
    #[serde(default)]
    pub seen: Option<Vec<String>>,
    /// Where the known particles are, if they were not named in the run's settings.
    #[serde(default)]
    pub truth: Vec<PathBuf>,
    /// The figures.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

impl Stored {
    /// Reads it; nothing if there is none.
    pub fn read(folder: &Path) -> Result<Option<Stored>> {
        let path = folder.join("summary.json");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| {
            Error::malformed(&path, e.line(), e.to_string(), "delete it and evaluate again")
        })
    }

    /// Whether it is about these picks, by their fingerprint.
    pub fn is_of(&self, picks: &str) -> bool {
        self.picks.as_deref() == Some(picks)
    }

    /// Hits, misses and false picks of a micrograph.
    pub fn counts_of(&self, name: &str) -> Option<Counts> {
        let names: Vec<&str> = self.micrographs.iter().map(String::as_str).collect();
        let at = place_of(&names, name)?;
        self.evaluation.per_micrograph.get(at).copied()
    }
}

/// Where a micrograph stands among these: under its name, else as the only one whose name is the
/// same but for folders and extension.
fn place_of(names: &[&str], name: &str) -> Option<usize> {
    if let Some(same) = names.iter().position(|other| *other == name) {
        return Some(same);
    }
    let alike = |other: &&str| {
        let (own, other) = (Path::new(name), Path::new(other));
        own.file_stem() == other.file_stem()
            || own.file_stem() == other.file_name()
            || own.file_name() == other.file_stem()
    };
    let mut alike = names.iter().enumerate().filter(|(_, other)| alike(other));
    let (at, _) = alike.next()?;
    alike.next().is_none().then_some(at)
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

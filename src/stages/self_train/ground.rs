//! What self-training stands on: base model + micrographs → what is learnt from, and what rounds
//! are judged on.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Event, Gate, Job, Nothing};
use crate::coords::Coordinate;
use crate::error::Result;
use crate::labels::pseudo::Lengths;
use crate::labels::rejected::Rejected;
use crate::labels::{Completeness, Labelled};
use crate::micrograph::Source;
use crate::model::{Card, Model, Seen};
use crate::preprocess::Prepared;
use crate::run::{Cancel, Failure, fingerprint};
use crate::stages::budget::Budget;
use crate::stages::load::{Loaded, load, load_side_by_side};
use crate::stages::train::labelled::{self, is_among};
use crate::train::Validation;
use crate::units::counted;

/// Share of the micrographs that are set aside to judge on when there are no labels.
const ASIDE: f64 = 0.2;
/// Most micrographs to judge on when there are no labels.
const MOST_ASIDE: usize = 8;

/// A micrograph that takes pseudo-labels.
pub(super) struct Open {
    pub(super) prepared: Prepared,
    /// Particles labelled by hand, in micrograph px; none on most.
    pub(super) by_hand: Vec<Coordinate>,
    /// What was said to be no particle.
    pub(super) rejected: Rejected,
}

/// What all rounds have in common.
pub(super) struct Ground {
    /// Micrographs that are labelled completely by hand.
    pub(super) painted: Vec<Labelled>,
    pub(super) open: Vec<Open>,
    pub(super) validation: Vec<Validation>,
    pub(super) gate: Gate,
    /// Picks of the base on the validation micrographs, where they are needed.
    pub(super) base_picks: Vec<Vec<Coordinate>>,
    /// The base's card with this self-training's seed and labels, and the scale of these
    /// micrographs: what the rounds' models are.
    pub(super) card: Card,
    pub(super) lengths: Lengths,
    pub(super) failures: Vec<Failure>,
    /// Stands for all of this and every setting of the rounds.
    pub(super) fingerprint: String,
}

impl Ground {
    /// Micrographs with labels by hand.
    pub(super) fn labelled(&self) -> usize {
        self.painted.len() + self.open.iter().filter(|open| !open.by_hand.is_empty()).count()
    }

    /// Micrographs without.
    pub(super) fn unlabelled(&self) -> usize {
        self.open.iter().filter(|open| open.by_hand.is_empty()).count()
    }
}

/// What self-training will work on, before anything is read.
pub(super) struct Survey {
    paired: Option<labelled::Paired>,
    /// At most so many as the settings want.
    unlabelled: Vec<Source>,
    /// Stands for all of this, the base and every setting of the rounds.
    pub(super) fingerprint: String,
}

/// Micrographs without labels, each file once.
pub(super) fn unlabelled(job: &Job, paired: Option<&labelled::Paired>) -> Vec<Source> {
    let mut unlabelled = job.unlabelled.clone();
    unlabelled.extend(paired.iter().flat_map(|paired| paired.unlabelled.iter().cloned()));
    // A folder of micrographs may hold the labelled ones too: what is judged on is not learnt from.
    let labelled: Vec<Source> =
        paired.iter().flat_map(|paired| &paired.pairs).map(|own| own.source.clone()).collect();
    let mut seen = BTreeSet::new();
    unlabelled.retain(|source| {
        let real = source.path.canonicalize().unwrap_or_else(|_| source.path.clone());
        seen.insert(real) && !is_among(source, &labelled)
    });
    unlabelled
}

/// What was found.
pub(super) enum Found {
    /// What all rounds have in common.
    Ground(Box<Ground>),
    /// Nothing to learn from, and micrographs that could not be used.
    Nothing(Nothing, Vec<Failure>),
}

/// Finds out what there is.
pub(super) fn survey(job: &Job, base_hash: &str) -> Result<Survey> {
    let settings = job.settings;
    // Micrographs without labels are no oddity here.
    let paired = match &job.request {
        Some(request) => Some(request.pair(&mut |_| ())?),
        None => None,
    };
    let mut unlabelled = unlabelled(job, paired.as_ref());
    unlabelled.shuffle(&mut ChaCha8Rng::seed_from_u64(job.seed));
    unlabelled.truncate(settings.self_train.most_micrographs);
    unlabelled.sort_by(|a, b| a.path.cmp(&b.path));
    let inputs: Vec<_> =
        unlabelled.iter().map(|s| (job.run.content_of(&s.path).ok(), s.pixel_size)).collect();
    let rounds = &settings.self_train;
    let by_hand = job.request.as_ref().map(|request| request.fingerprint(job.run)).transpose()?;
    let fingerprint = fingerprint(&(
        (env!("CARGO_PKG_VERSION"), Card::SCHEMA),
        base_hash,
        (&settings.pseudo_labels, rounds.learning_rate, rounds.restart, rounds.retrain_epochs),
        (rounds.most_micrographs, settings.train.precision, settings.preprocess.particles),
        (&settings.train, &settings.patches, &settings.labels),
        (job.seed, job.scale.key(), &inputs),
        by_hand,
    ))?;
    Ok(Survey { paired, unlabelled, fingerprint })
}

/// Reads everything and divides it into what is learnt from and what is judged on.
pub(super) fn prepare(
    job: &Job,
    base: &Model,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Found> {
    let card = &base.card;
    let Survey { paired, unlabelled, fingerprint } = survey(job, &base.hash)?;
    let mut failures = Vec::new();
    let mut by_hand = None;
    if let (Some(request), Some(paired)) = (&job.request, paired) {
        let mut gathering = |event: labelled::Event| observe(Event::Gathering(event));
        let mut gathered =
            request.gather(&paired, (job.run, &job.machine), &mut gathering, cancel)?;
        failures.append(&mut gathered.failures);
        by_hand = Some(gathered);
    }
    let mut read = read_unlabelled(job, card, &unlabelled, observe, cancel, &mut failures)?;
    leave_out_labelled(&mut read, by_hand.as_ref(), observe);
    let radius_mic_px = match (&by_hand, read.as_slice()) {
        (Some(gathered), _) => gathered.radius_mic_px,
        (None, [first, _, ..]) => first.loaded.prepared.radius_mic_px,
        (None, _) => return Ok(Found::Nothing(Nothing::Alone, failures)),
    };
    let labelled =
        by_hand.iter().flat_map(|gathered| gathered.training.iter().chain(&gathered.validation));
    let sizes = labelled
        .map(|item| (&item.source, item.loaded.pixel_size))
        .chain(read.iter().map(|one| (one.source, one.loaded.pixel_size)));
    // Where the pixel size is not told, the base's is still known to go with its own radius.
    let of_base = card.pixel_size_a.filter(|_| job.scale.radius.is_none());
    let pixel_size_a = labelled::one_pixel_size(sizes)?.or(of_base);
    let pseudo_labelled: Vec<Seen> = read.iter().map(Unlabelled::seen).collect();
    let mut open: Vec<Open> = read
        .into_iter()
        .map(|one| Open {
            prepared: one.loaded.prepared,
            by_hand: Vec::new(),
            rejected: Rejected::default(),
        })
        .collect();

    let radius = card.preprocess.radius_work_px(radius_mic_px);
    let lengths = Lengths {
        radius,
        mask: card.labels.mask_radius_fraction * radius,
        margin: card.unlabelled_margin_radii * radius,
    };
    let mut card = Card {
        particle_radius_px: Some(radius_mic_px),
        pixel_size_a,
        seed: job.seed,
        recipe: None,
        ..card.clone()
    };
    let (painted, validation, gate) = match by_hand {
        Some(mut gathered) => {
            card.validated_how.clone_from(&gathered.how);
            add(&mut card.trained_on, gathered.training.iter().map(labelled::Item::seen));
            add(&mut card.validated_on, gathered.validation.iter().map(labelled::Item::seen));
            let validation = gathered.take_validation();
            let partial = validation.iter().any(|own| own.completeness == Completeness::Partial);
            let gate = if partial { Gate::PartialLabels } else { Gate::Labels };
            card.labels.completeness =
                if partial { Completeness::Partial } else { Completeness::Complete };
            // Unlabelled pixels of a partly labelled micrograph take pseudo-labels.
            let unfinished: Vec<labelled::Item> =
                gathered.training.extract_if(.., |item| !item.is_complete()).collect();
            let unfinished = unfinished.into_iter().map(|item| Open {
                prepared: item.loaded.prepared,
                by_hand: item.points,
                rejected: item.beside.rejected,
            });
            open.splice(0..0, unfinished);
            (gathered.paint(&card.labels), validation, gate)
        }
        None => {
            card.labels.completeness = Completeness::Complete;
            let aside = ((open.len() as f64 * ASIDE).round() as usize).clamp(1, MOST_ASIDE);
            let aside = open.split_off(open.len() - aside);
            card.validated_how =
                format!("the base's picks on {}", counted(aside.len(), "micrograph"));
            let validation =
                aside.into_iter().map(|open| Validation::without_labels(open.prepared));
            (Vec::new(), validation.collect(), Gate::Unsupervised)
        }
    };
    add(&mut card.pseudo_labelled_on, pseudo_labelled.into_iter());
    if open.is_empty() {
        return Ok(Found::Nothing(Nothing::AllLabelled, failures));
    }
    let base_picks = Vec::new();
    let ground = Ground {
        painted,
        open,
        validation,
        gate,
        base_picks,
        card,
        lengths,
        failures,
        fingerprint,
    };
    Ok(Found::Ground(Box::new(ground)))
}

/// Adds micrographs that are not among these yet.
fn add(seen: &mut Vec<Seen>, more: impl Iterator<Item = Seen>) {
    for one in more {
        if !seen.iter().any(|known| known.is(&one.name, one.content.as_deref())) {
            seen.push(one);
        }
    }
}

/// A micrograph without labels, read and prepared.
struct Unlabelled<'a> {
    source: &'a Source,
    loaded: Loaded,
    content: String,
}

impl Unlabelled<'_> {
    fn seen(&self) -> Seen {
        Seen { name: self.source.name.clone(), content: Some(self.content.clone()) }
    }
}

/// Leaves out copies of labelled micrographs: what is judged on must not be learnt from under
/// another name.
fn leave_out_labelled(
    read: &mut Vec<Unlabelled>,
    labelled: Option<&labelled::Gathered>,
    observe: &mut dyn FnMut(Event),
) {
    let Some(labelled) = labelled else { return };
    let by_hand = || labelled.training.iter().chain(&labelled.validation);
    read.retain(|one| {
        let Some(same) = by_hand().find(|item| item.content == one.content) else { return true };
        observe(Event::Gathering(labelled::Event::Warning(format!(
            "{} is a copy of the labelled micrograph {} and is left out",
            one.source.name, same.source.name
        ))));
        false
    });
}

fn read_unlabelled<'a>(
    job: &Job,
    card: &Card,
    sources: &'a [Source],
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
    failures: &mut Vec<Failure>,
) -> Result<Vec<Unlabelled<'a>>> {
    let scale = job.scale.with_model(card);
    let budget = Budget::of(&job.machine);
    let load = |source: &Source| {
        let _share = budget.take_to_prepare(source, &scale, &card.preprocess)?;
        let loaded = load(job.run, source, &scale, &card.preprocess)?;
        Ok((loaded, job.run.content_of(&source.path)?))
    };
    let mut read = Vec::new();
    load_side_by_side(sources, load, |_: &Source, loaded| read.push(loaded), cancel)?;
    let mut all = Vec::new();
    for (source, loaded) in sources.iter().zip(read) {
        match loaded {
            Ok((loaded, content)) => {
                let warnings = loaded.warnings().into_iter().map(labelled::Event::Warning);
                warnings.for_each(|warning| observe(Event::Gathering(warning)));
                let mended = labelled::Event::Mended(loaded.prepared.repairs);
                observe(Event::Gathering(mended));
                all.push(Unlabelled { source, loaded, content });
            }
            Err(error) => {
                let failure = Failure::new(&source.name, &error);
                observe(Event::Gathering(labelled::Event::Failed(&failure)));
                failures.push(failure);
            }
        }
    }
    Ok(all)
}

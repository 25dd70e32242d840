//! Labelled micrographs: sources + coordinates → read, checked against each other, and divided into
//! training and validation by micrograph.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{base, division, fitting, left_out};
use crate::coords::matching::{no_match, some_of};
use crate::coords::{self, Coordinate, Coordinates, Unread};
use crate::error::{Error, Result};
use crate::labels::beside::Beside;
use crate::labels::rejected::{self, Rejected};
use crate::labels::{self, Completeness, Labelled};
use crate::micrograph::{Source, same_file};
use crate::model::{Card, Machine, Seen};
use crate::preprocess::Repairs;
use crate::preprocess::{Area, Prepared};
use crate::run::{Cancel, Failure, RunDir, fingerprint};
use crate::scale::Scale;
use crate::settings::Settings;
use crate::stages::budget::Budget;
use crate::stages::load::{Loaded, load, load_side_by_side};
use crate::train::{ByHand, Validation};
use crate::units::PixelSize;

/// Most micrographs whose judged places are looked at after each epoch.
const MOST_BY_HAND: usize = 16;

/// Which micrographs decide over the model.
#[derive(Debug, Clone)]
pub enum Choice {
    /// This share of the labelled ones, at least one, drawn with the seed.
    Share(f64),
    /// These; their coordinates are among the given ones.
    Named(Vec<Source>),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Micrographs; those with coordinates are the labelled ones.
    pub sources: Vec<Source>,
    /// Coordinates of these and of the validation micrographs.
    pub coordinates: Vec<Coordinates>,
    /// What was labelled by hand beside each of them; empty where nothing was.
    pub beside: Vec<Option<Beside>>,
    /// Files of coordinates that could not be read.
    pub unread: Vec<Unread>,
    /// What a user should know of how they were read.
    pub notes: Vec<String>,
    /// The validation micrographs.
    pub validation: Choice,
    /// Every setting.
    pub settings: &'a Settings,
    /// The size of particles.
    pub scale: Scale<'static>,
    /// Seed of everything random.
    pub seed: u64,
}

/// What happens while micrographs are gathered.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something a user should read.
    Warning(String),
    /// What was mended in a micrograph.
    Mended(Repairs),
    /// A micrograph could not be used.
    Failed(&'a Failure),
}

/// A micrograph with its labels.
#[derive(Debug, Clone)]
pub(crate) struct LabelledSource {
    pub(crate) source: Source,
    /// Its particles.
    pub(crate) points: Vec<Coordinate>,
    /// Whether these are all, and what is none.
    pub(crate) beside: Beside,
}

/// Labelled micrographs that are known, but not read yet.
pub(crate) struct Paired {
    /// Each with its labels.
    pub(crate) pairs: Vec<LabelledSource>,
    /// Micrographs without coordinates.
    pub(crate) unlabelled: Vec<Source>,
    /// Micrographs that were named for validation.
    named: Vec<Source>,
}

/// Labelled micrographs, read, checked and divided.
pub(crate) struct Gathered {
    pub(crate) training: Vec<Item>,
    pub(crate) validation: Vec<Item>,
    /// What is said of the background of training micrographs: complete as soon as one is.
    pub(crate) completeness: Completeness,
    /// What validation is done on, in words.
    pub(crate) how: String,
    pub(crate) pixel_size: Option<PixelSize>,
    /// For the model's card: that of the first micrograph.
    pub(crate) radius_mic_px: f64,
    /// In particle radii.
    pub(crate) unlabelled_margin: f64,
    /// How near to each other labelled particles lie, in particle radii ([`labels::spacing`]).
    pub(crate) spacing: Option<f64>,
    /// Micrographs where particles seem to have no label, in words.
    pub(crate) doubts: Vec<String>,
    /// Whether the model that training starts from is to have a share in the result.
    pub(crate) keeps_start: bool,
    pub(crate) failures: Vec<Failure>,
}

/// A labelled micrograph, read and prepared.
pub(crate) struct Item {
    pub(crate) source: Source,
    pub(crate) points: Vec<Coordinate>,
    pub(crate) beside: Beside,
    /// Picks without a label that are taken for particles.
    pub(crate) believed: Vec<Coordinate>,
    /// Places without a label that may be particles ([`super::left_out`]).
    pub(crate) left_out: Vec<Coordinate>,
    pub(crate) loaded: Loaded,
    /// The hash of its file.
    pub(crate) content: String,
}

impl Item {
    /// As a model's card has it.
    pub(crate) fn seen(&self) -> Seen {
        Seen { name: self.source.name.clone(), content: Some(self.content.clone()) }
    }

    /// The particles that picks are judged by, and what was said to be none, where picks elsewhere are
    /// not to count.
    fn judged_by(&self) -> (Vec<Coordinate>, Rejected) {
        let truth = [&self.points[..], &self.believed[..]].concat();
        let everywhere = !self.believed.is_empty();
        let rejected = if everywhere { Rejected::default() } else { self.beside.rejected.clone() };
        (truth, rejected)
    }

    fn called(&self) -> left_out::Called<'_> {
        let Item { source, loaded, points, .. } = self;
        left_out::Called { name: &source.name, prepared: &loaded.prepared, points }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.beside.completeness == Completeness::Complete
    }
}

impl Request<'_> {
    /// Stands for everything that a training on these depends on: labels, the content of the
    /// micrographs, their scale, the seed, the settings, the weights it starts from.
    pub fn fingerprint(&self, run: &RunDir) -> Result<String> {
        let Paired { pairs, named, .. } = self.pair(&mut |_| ())?;
        let content = |source: &Source| run.content_of(&source.path).ok();
        let inputs: Vec<_> = pairs
            .iter()
            .map(|own| (content(&own.source), own.source.pixel_size, places(&own.points)))
            .collect();
        let beside: Vec<&Beside> = pairs.iter().map(|own| &own.beside).collect();
        let named: Vec<_> = named.iter().map(content).collect();
        let settings = self.settings.for_training();
        let base = base(self.settings)?.map(|base| base.hash()).transpose()?;
        let plain = fingerprint(&(
            (env!("CARGO_PKG_VERSION"), Card::SCHEMA),
            (settings, base),
            self.scale.key(),
            self.seed,
            inputs,
            named,
        ))?;
        if self.beside.is_empty() { Ok(plain) } else { fingerprint(&(plain, beside)) }
    }

    /// Whether some labelled micrograph has particles without a label.
    pub(crate) fn has_partial(&self) -> Result<bool> {
        let pairs = self.pair(&mut |_| ())?.pairs;
        Ok(pairs.iter().any(|own| own.beside.completeness == Completeness::Partial))
    }

    /// Finds out which micrographs are labelled, and with what, without reading them.
    pub(crate) fn pair(&self, observe: &mut dyn FnMut(Event)) -> Result<Paired> {
        let named = match &self.validation {
            Choice::Share(_) => Vec::new(),
            Choice::Named(sources) => sources.clone(),
        };
        // What is named for validation is never trained on, even if its folder is.
        let is_named = |source: &&Source| is_among(source, &named);
        let others = self.sources.iter().filter(|source| !is_named(source));
        let all: Vec<Source> = others.chain(&named).cloned().collect();
        let (pairs, unlabelled) = self.pair_up(&all, observe)?;
        Ok(Paired { pairs, unlabelled, named })
    }

    /// Coordinates and micrographs that belong together; what has no partner is named.
    fn pair_up(
        &self,
        sources: &[Source],
        observe: &mut dyn FnMut(Event),
    ) -> Result<(Vec<LabelledSource>, Vec<Source>)> {
        let mut beside = BTreeMap::new();
        if !self.beside.is_empty() {
            let owners = coords::matching::owners(sources, &self.coordinates)?;
            let said = owners.into_iter().zip(&self.beside);
            let said =
                said.filter_map(|(owner, beside)| Some((&sources[owner?], beside.as_ref()?)));
            beside.extend(said.map(|(source, beside)| (source.name.as_str(), beside)));
        }
        let matched = coords::match_to(sources, self.coordinates.clone())?;
        if matched.pairs.is_empty() {
            return Err(no_match(sources, &matched.coordinates_without));
        }
        let name_some = |names: &[String], what: &str| -> Option<String> {
            (!names.is_empty()).then(|| format!("{what}: {}", some_of(names)))
        };
        // Who labels by hand does so on a few micrographs of many.
        let without = if self.beside.is_empty() { &*matched.micrographs_without } else { &[] };
        let warnings = [
            name_some(without, "micrographs without coordinates, left out"),
            name_some(&matched.coordinates_without, "coordinates without a micrograph, left out"),
        ];
        warnings.into_iter().flatten().for_each(|warning| observe(Event::Warning(warning)));
        let with: BTreeSet<&str> =
            matched.pairs.iter().map(|(source, _)| source.name.as_str()).collect();
        let without = |source: &&Source| !with.contains(source.name.as_str());
        let unlabelled = sources.iter().filter(without).cloned().collect();
        let unsaid = Beside {
            completeness: self.settings.labels.completeness,
            rejected: Rejected::default(),
        };
        let labelled = |(source, points): (Source, Vec<Coordinate>)| {
            let beside = beside.get(source.name.as_str()).map_or(&unsaid, |own| *own).clone();
            LabelledSource { source, points, beside }
        };
        Ok((matched.pairs.into_iter().map(labelled).collect(), unlabelled))
    }

    /// Reads the labelled micrographs, checks them against each other, and divides them.
    pub(crate) fn gather(
        &self,
        paired: &Paired,
        (run, machine): (&RunDir, &Machine),
        observe: &mut dyn FnMut(Event),
        cancel: &Cancel,
    ) -> Result<Gathered> {
        let settings = self.settings;
        let mut failures: Vec<Failure> = self.unread.iter().map(Failure::from).collect();
        failures.iter().for_each(|failure| observe(Event::Failed(failure)));
        self.notes.iter().for_each(|note| observe(Event::Warning(note.clone())));
        let budget = Budget::of(machine);
        let load = |LabelledSource { source, .. }: &LabelledSource| {
            let _share = budget.take_to_prepare(source, &self.scale, &settings.preprocess)?;
            let loaded = load(run, source, &self.scale, &settings.preprocess)?;
            Ok((loaded, run.content_of(&source.path)?))
        };
        let mut items = Vec::new();
        let take = |own: &LabelledSource, read: Result<(Loaded, String)>| match read {
            Ok((loaded, content)) => {
                loaded.warnings().into_iter().for_each(|w| observe(Event::Warning(w)));
                observe(Event::Mended(loaded.prepared.repairs));
                let LabelledSource { source, points, beside } = own.clone();
                let (believed, left_out) = (Vec::new(), Vec::new());
                items.push(Item { source, points, beside, believed, left_out, loaded, content });
            }
            Err(error) => {
                let failure = Failure::new(&own.source.name, &error);
                observe(Event::Failed(&failure));
                failures.push(failure);
            }
        };
        load_side_by_side(&paired.pairs, load, take, cancel)?;
        let pixel_size =
            one_pixel_size(items.iter().map(|item| (&item.source, item.loaded.pixel_size)))?;
        if items.is_empty() {
            return Err(Error::missing(
                "no labelled micrograph is left to train on",
                "see the messages above; `picker check` looks into micrographs and coordinates",
            ));
        }
        self.check_labelled(&items)?;
        fitting::check(&items, settings, observe)?;
        let radius_mic_px = items[0].loaded.prepared.radius_mic_px;
        let is_named = |item: &Item| is_among(&item.source, &paired.named);
        let (mut validation, mut training): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(is_named);
        let drawn = match self.validation {
            Choice::Share(share) => {
                let by_hand = !self.beside.is_empty();
                (training, validation) = if by_hand {
                    division::by_hand(training, share, self.seed)
                } else {
                    division::draw(training, share, self.seed)
                };
                true
            }
            Choice::Named(_) => false,
        };
        self.check_labelled(&training)?;
        let complete = training.iter().any(Item::is_complete);
        let (doubts, keeps_start) =
            self.consult(complete, (&mut training, &mut validation), machine, cancel)?;
        let how = division::describe(&training, &validation, drawn, observe)?;
        let shown: Vec<(&Prepared, &[Coordinate])> =
            training.iter().map(|item| (&item.loaded.prepared, item.points.as_slice())).collect();
        let unlabelled_margin = labels::unlabelled_margin(&shown);
        let spacing = labels::spacing(&shown);
        Ok(Gathered {
            training,
            validation,
            completeness: if complete { Completeness::Complete } else { Completeness::Partial },
            how,
            pixel_size,
            radius_mic_px,
            unlabelled_margin,
            spacing,
            doubts,
            keeps_start,
            failures,
        })
    }

    /// Asks the model that training starts from. Finds the places on complete micrographs that may be
    /// particles without a label; doubts, in words, and whether that model is to have a share in the
    /// result: where many particles have no label, and where it knows the particle of partial labels.
    fn consult(
        &self,
        complete: bool,
        (training, validation): (&mut [Item], &mut [Item]),
        machine: &Machine,
        cancel: &Cancel,
    ) -> Result<(Vec<String>, bool)> {
        let settings = self.settings;
        // Who labels by hand has seen a model's picks.
        let wanted = settings.labels.leave_out_unlabelled_picks
            && settings.labels.completeness == Completeness::Complete
            && self.beside.is_empty();
        let Some(base) = base(settings)?.filter(|_| wanted || !complete) else {
            return Ok((Vec::new(), false));
        };
        let items = training.iter().chain(validation.iter());
        let micrographs: Vec<left_out::Called> = items.map(Item::called).collect();
        let opinions = left_out::look(&base, &micrographs, &settings.preprocess, machine, cancel)?;
        if !complete {
            return Ok((Vec::new(), left_out::Opinion::knows(&opinions)));
        }
        let mut doubts = Vec::new();
        for (item, opinion) in training.iter_mut().chain(validation).zip(opinions) {
            item.left_out = opinion.left_out;
            doubts.extend(opinion.doubt);
        }
        let keeps_start = !doubts.is_empty();
        Ok((doubts, keeps_start))
    }

    /// Refuses labels by hand without a particle.
    fn check_labelled(&self, items: &[Item]) -> Result<()> {
        if self.beside.is_empty() || items.iter().any(|item| !item.points.is_empty()) {
            return Ok(());
        }
        Err(Error::missing(
            "no particle is labelled on the micrographs to train on",
            "label some particles; labels of places without particles are not enough",
        ))
    }
}

/// Whether a micrograph is one of these, however its path is spelt.
pub(crate) fn is_among(source: &Source, others: &[Source]) -> bool {
    others.iter().any(|other| same_file(&other.path, &source.path))
}

/// The pixel size of all micrographs, where known: a model is trained at one.
pub(crate) fn one_pixel_size<'a>(
    micrographs: impl Iterator<Item = (&'a Source, Option<PixelSize>)>,
) -> Result<Option<PixelSize>> {
    let mut known = micrographs.filter_map(|(source, size)| Some((size?, source)));
    let Some((first, source)) = known.next() else { return Ok(None) };
    match known.find(|(size, _)| size.differs_from(first)) {
        None => Ok(Some(first)),
        Some((other, elsewhere)) => Err(Error::setting(
            "MICROGRAPHS",
            format!(
                "{} has {:.4} Å/px and {} has {:.4} Å/px",
                source.name, first.0, elsewhere.name, other.0
            ),
            "train on one pixel size (the model can pick others if data.particle_radius_px is \
             given for them), or correct the sizes with data.pixel_size_a",
        )),
    }
}

impl Gathered {
    /// What was labelled by hand on each micrograph of [`Gathered::take_validation`].
    pub(crate) fn held_back(&self) -> Vec<(Vec<Coordinate>, Rejected)> {
        let lone = self.training.first().filter(|_| self.validation.is_empty());
        let held_back = self.validation.iter().chain(lone);
        held_back.map(|item| (item.points.clone(), item.beside.rejected.clone())).collect()
    }

    /// Confirmed and rejected places, if all micrographs are partly labelled, of the micrographs with most of them:
    /// the threshold follows from these, as F1 cannot be measured. None if nothing was rejected.
    pub(crate) fn by_hand(&self) -> Vec<ByHand> {
        let mut all: Vec<&Item> = self.training.iter().chain(&self.validation).collect();
        let rejects = all.iter().any(|item| !item.beside.rejected.places.is_empty());
        if self.completeness == Completeness::Complete || !rejects {
            return Vec::new();
        }
        all.sort_by_key(|item| Reverse(item.beside.rejected.places.len() + item.points.len()));
        all.truncate(MOST_BY_HAND);
        let own = |item: &Item| ByHand {
            prepared: item.loaded.prepared.clone(),
            particles: item.points.clone(),
            rejected: item.beside.rejected.clone(),
        };
        all.into_iter().map(own).collect()
    }

    /// The validation micrographs; of a lone one, the lower quarter, which is then no longer valid
    /// for training.
    pub(crate) fn take_validation(&mut self) -> Vec<Validation> {
        let whole = |item: Item| {
            let (truth, rejected) = item.judged_by();
            let completeness = item.beside.completeness;
            let (prepared, left_out) = (item.loaded.prepared, item.left_out);
            Validation { prepared, truth, part: None, completeness, rejected, left_out }
        };
        let mut validation: Vec<Validation> = self.validation.drain(..).map(whole).collect();
        if validation.is_empty()
            && let Some(only) = self.training.first_mut()
        {
            let valid = only.loaded.prepared.valid;
            let border = valid.y1 - (valid.y1 - valid.y0) / 4;
            let (truth, rejected) = only.judged_by();
            // Its picks are made on all of it: the cut is no edge of the image.
            validation.push(Validation {
                prepared: only.loaded.prepared.clone(),
                truth,
                part: Some(Area { y0: border, ..valid }),
                completeness: only.beside.completeness,
                rejected,
                left_out: only.left_out.clone(),
            });
            only.loaded.prepared.valid.y1 = border;
        }
        validation
    }

    /// Paints the training masks.
    ///
    /// Where a micrograph is complete, background is learnt there, and of partly labelled ones only
    /// what is known counts. Without one, pixels without a label count as what they are, unlabelled,
    /// but for picks of the model that training starts from ([`super::believed`]).
    pub(crate) fn paint(self, settings: &labels::Settings) -> Vec<Labelled> {
        let paint = |item: Item| {
            let Item { points, beside, believed, left_out, loaded, .. } = item;
            let ground = rejected::Ground::of(&loaded.prepared);
            let all = [&points[..], &believed[..]].concat();
            let mut labelled =
                labels::paint(loaded.prepared, &all, self.unlabelled_margin, settings);
            let unknown = beside.completeness == Completeness::Partial;
            if unknown && self.completeness == Completeness::Complete {
                rejected::only_known(&mut labelled, ground);
            }
            rejected::leave_out(&mut labelled, ground, &left_out);
            let mask = settings.mask_radius_fraction;
            beside.rejected.paint(&mut labelled, ground, &points, mask);
            labelled
        };
        self.training.into_iter().map(paint).collect()
    }
}

fn places(points: &[Coordinate]) -> Vec<(f64, f64)> {
    points.iter().map(|point| (point.x_mic_px, point.y_mic_px)).collect()
}

//! Looking for the particle radius: scale-free model + micrographs → proposal with its evidence.
//!
//! The model is told one radius after another, as if each were right; [`crate::radius`] tells from
//! its picks which is. What was found is kept in the run directory (`report/radius.json`,
//! `report/radius.svg`) and holds for it however many micrographs come after.

use ndarray::{Array2, s};
use serde::{Deserialize, Serialize};

use crate::detect::Detector;
use crate::error::{Error, Result};
use crate::micrograph::{self, Identity, Source};
use crate::model::{Card, Inference, Model};
use crate::preprocess::{self, Area};
use crate::publish::publish_text;
use crate::radius::{Confidence, Profile, Proposal, Rung, Seen, ladder, propose, rungs};
use crate::report::curves;
use crate::run::{Cancel, Failure, RunDir, fingerprint};
use crate::stages::load::guarded;
use crate::stages::workers::in_order;

/// Most micrographs that are looked at, evenly spread over the list.
const MOST_MICROGRAPHS: usize = 6;
/// Of a micrograph the middle is looked at, as wide as so many radii.
const WINDOW_RADII: f64 = 54.0;

/// What was found in a run's micrographs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    schema: u32,
    /// Stands for the model and the way it looks.
    fingerprint: String,
    /// The micrographs that were looked at.
    looked_at: Vec<(String, Identity)>,
    /// The radius, if there is anything to go by.
    pub proposal: Option<Proposal>,
    /// What was picked with each radius.
    pub rungs: Vec<Rung>,
}

impl Measured {
    /// How many micrographs were looked at.
    pub fn micrographs(&self) -> usize {
        self.looked_at.len()
    }

    /// What an earlier measurement has found in some of these micrographs with this model; one that
    /// found too little may find more today.
    pub fn recall(run: &RunDir, model: (&str, &Card), sources: &[Source]) -> Option<Measured> {
        let text = std::fs::read_to_string(run.radius()).ok()?;
        let measured: Measured = serde_json::from_str(&text).ok()?;
        let unchanged = |(name, input): &(String, Identity)| {
            let mut sources = sources.iter();
            let source = sources.find(|source| source.name == *name);
            source.is_some_and(|source| input.holds(&source.path))
        };
        let same = measured.fingerprint == way_of_looking(model).ok()?;
        let found = measured.proposal.is_some_and(|own| own.confidence != Confidence::Unsure);
        (found && same && measured.looked_at.iter().all(unchanged)).then_some(measured)
    }
}

fn way_of_looking((hash, card): (&str, &Card)) -> Result<String> {
    fingerprint(&(env!("CARGO_PKG_VERSION"), Card::SCHEMA, hash, card.preprocess.particles))
}

/// What happens while the radius is looked for.
#[derive(Debug)]
pub enum Look<'a> {
    /// So many of the micrographs have been looked at.
    At {
        /// These.
        done: usize,
        /// All.
        total: usize,
    },
    /// A micrograph could not be read.
    Failed(&'a Failure),
}

/// Looks for the radius and keeps what was found; micrographs that cannot be read are told to
/// `observe` and left out.
pub fn measure(
    run: &RunDir,
    model: &Model,
    sources: &[Source],
    observe: &mut dyn FnMut(Look),
    cancel: &Cancel,
) -> Result<Measured> {
    let count = sources.len().min(MOST_MICROGRAPHS);
    let mut chosen = Vec::new();
    let mut shorter_side = usize::MAX;
    for source in (0..count).map(|index| &sources[index * sources.len() / count]) {
        match guarded(&source.path, || micrograph::header(&source.path)) {
            Ok(header) => {
                shorter_side = shorter_side.min(header.shape.width).min(header.shape.height);
                chosen.push(source);
            }
            Err(error) => observe(Look::Failed(&Failure::new(&source.name, &error))),
        }
    }
    if chosen.is_empty() {
        return Err(Error::missing(
            "there is no micrograph to measure the particle radius on",
            "give the radius with data.particle_radius_px",
        ));
    }
    let radii = ladder(shorter_side);
    let card = &model.card;
    let look = |network: &Inference, _: usize, source: &&Source| {
        guarded(&source.path, || {
            let pixels = micrograph::read(&source.path)?.pixels;
            radii.iter().map(|radius| at(network, card, &pixels, *radius)).collect()
        })
    };
    observe(Look::At { done: 0, total: chosen.len() });
    let mut seen = vec![Vec::new(); radii.len()];
    let mut looked_at = Vec::new();
    let take = |order: usize, one: Result<Vec<Seen>>| {
        match one {
            Ok(one) => {
                seen.iter_mut().zip(one).for_each(|(rung, one)| rung.push(one));
                looked_at.push((chosen[order].name.clone(), Identity::of(&chosen[order].path)?));
            }
            Err(error) => observe(Look::Failed(&Failure::new(&chosen[order].name, &error))),
        }
        observe(Look::At { done: order + 1, total: chosen.len() });
        Ok(())
    };
    let devices = model.machine.devices().len();
    in_order(&chosen, devices, |worker| model.network_for(worker), look, take, cancel)?;
    let rungs = rungs(&radii, &seen);
    let fingerprint = way_of_looking((&model.hash, card))?;
    let measured = Measured { schema: 1, fingerprint, looked_at, proposal: propose(&rungs), rungs };
    measured.keep(run)?;
    Ok(measured)
}

impl Measured {
    fn keep(&self, run: &RunDir) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::setting("radius", e.to_string(), "report this as a defect"))?;
        publish_text(&run.radius().with_extension("svg"), &self.plot()?)?;
        publish_text(&run.radius(), &(text + "\n"))
    }

    fn plot(&self) -> Result<String> {
        curves::radius(&self.rungs, self.proposal.as_ref())
    }
}

/// What the model picks in the middle of a micrograph when told this radius.
fn at(network: &Inference, card: &Card, pixels: &Array2<f32>, radius: f64) -> Result<Seen> {
    let (height, width) = pixels.dim();
    let side = (WINDOW_RADII * radius) as usize;
    let middle = |size: usize| {
        let start = size.saturating_sub(side) / 2;
        (start, start + side.min(size))
    };
    let ((y0, y1), (x0, x1)) = (middle(height), middle(width));
    let window = pixels.slice(s![y0..y1, x0..x1]).to_owned();
    let prepared = preprocess::prepare(window, radius, &card.preprocess)?;
    let mut picks = Detector::new(network, card).picks(&prepared)?;
    let mut profile = Profile::default();
    for pick in &mut picks {
        let place = prepared.frame.work_from_mic(pick.x_mic_px, pick.y_mic_px);
        profile.add(&prepared.image, prepared.valid, place, prepared.radius_work_px);
        pick.x_mic_px += x0 as f64;
        pick.y_mic_px += y0 as f64;
    }
    Ok(Seen { window: Area { x0, y0, x1, y1 }, picks, profile })
}

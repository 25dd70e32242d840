//! Models and their cards: what a model is, what it was made from, and how it is to be used.
//!
//! Everything needed to use a model is in its one file ([`file`]), so it can be copied and mailed.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Architecture, Inference, Machine, Origin, file, torch};
use crate::error::{Error, Result};
use crate::labels::pseudo;
use crate::pick::odds;
use crate::units::PixelSize;
use crate::{labels, pick, preprocess};

/// What a model is, what it was made from, and how it is to be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Layout of this card.
    pub schema: u32,
    /// The picker that trained it.
    pub picker_version: String,
    /// The libtorch that trained it.
    pub libtorch_version: String,
    /// The network's shape.
    pub architecture: Architecture,
    /// How micrographs are brought to the working scale.
    pub preprocess: preprocess::Settings,
    /// How labels were painted.
    pub labels: labels::Settings,
    /// How the map of log-odds becomes picks.
    pub pick: pick::Settings,
    /// Particle radius in micrograph px; a scale-free model has none.
    pub particle_radius_px: Option<f64>,
    /// Å/px of the training micrographs, where known.
    pub pixel_size_a: Option<PixelSize>,
    /// The margin that the labels left free, in particle radii.
    pub unlabelled_margin_radii: f64,
    /// Score from which on a peak is a pick: the best on the validation micrographs.
    pub threshold: f32,
    /// The threshold that fits models of this kind in general; the chosen one stays near it.
    pub general_threshold: f32,
    /// What scores mean.
    pub reading: pseudo::Reading,
    /// Precision, recall and F1 at that threshold on the validation micrographs.
    pub validation: ValidationScores,
    /// What validation was done on, in words.
    pub validated_how: String,
    /// The training micrographs.
    pub trained_on: Vec<Seen>,
    /// The validation micrographs.
    pub validated_on: Vec<Seen>,
    /// Micrographs that self-training gave pseudo-labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pseudo_labelled_on: Vec<Seen>,
    /// Micrographs of any kind that the models before it were made with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<Seen>,
    /// Seed of the training.
    pub seed: u64,
    /// Epoch whose weights these are, counted from 1.
    pub epoch: usize,
    /// Hash of the model file whose weights training started from; none: from the seed alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<String>,
    /// What self-training made of it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_training: Option<SelfTraining>,
    /// How to make it again, if it is packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
}

impl Card {
    /// The layout that this version writes.
    pub const SCHEMA: u32 = file::SCHEMA;

    /// Whether it was trained on simulated proteins, as the default model is.
    pub fn is_general(&self) -> bool {
        self.recipe.as_ref().is_some_and(|recipe| recipe.simulated.is_some())
    }

    /// Whether it knows no particle radius in micrograph px, nor a pixel size: it picks particles
    /// of whatever radius it is told.
    pub fn is_scale_free(&self) -> bool {
        self.particle_radius_px.is_none()
    }

    /// The particle radius in micrograph px, which a scale-free model does not know.
    pub fn radius_px(&self) -> Result<f64> {
        self.particle_radius_px.ok_or_else(Error::no_radius)
    }

    /// How particles look in the micrographs to come, if that was said and is unlike those of the
    /// training.
    pub fn take_particles_as(&mut self, particles: Option<preprocess::Particles>) {
        self.preprocess.particles = particles.or(self.preprocess.particles);
    }

    /// Every micrograph that had a part in making it.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        [&self.trained_on, &self.validated_on, &self.pseudo_labelled_on, &self.inherited]
            .into_iter()
            .flatten()
    }

    /// The radius in working px that it has learnt particles at.
    pub fn learnt_radius_work_px(&self) -> f64 {
        let (own, working) = (self.particle_radius_px, self.preprocess.working_radius_px);
        own.map_or(working, |radius| self.preprocess.radius_work_px(radius))
    }
}

impl file::Description for Card {
    fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, range: RangeInclusive<f64>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (least, most) = range.into_inner();
            Err(Error::setting(name, format!("{value} is not between {least} and {most}"), ""))
        };
        let is_hash = |name: &str, text: &str| {
            if blake3::Hash::from_hex(text).is_ok() {
                return Ok(());
            }
            Err(Error::setting(name, format!("{text:?} is not the hash of a model file"), ""))
        };
        self.architecture.check()?;
        self.preprocess.check()?;
        self.labels.check()?;
        self.pick.check()?;
        // Whole numbers below 2⁵³ are exact in f64.
        within("schema", f64::from(self.schema), 1.0..=f64::from(Card::SCHEMA))?;
        within("epoch", self.epoch as f64, 1.0..=1e9)?;
        if let Some(radius) = self.particle_radius_px {
            within("particle_radius_px", radius, 0.1..=1e6)?;
        }
        if let Some(PixelSize(size)) = self.pixel_size_a {
            within("pixel_size_a", size, 1e-3..=1e4)?;
        }
        within("unlabelled_margin_radii", self.unlabelled_margin_radii, 0.0..=20.0)?;
        within("threshold", self.threshold.into(), 0.0..=1.0)?;
        within("general_threshold", self.general_threshold.into(), 0.0..=1.0)?;
        let ValidationScores { precision, recall, f1 } = self.validation;
        within("validation.precision", precision, 0.0..=1.0)?;
        within("validation.recall", recall, 0.0..=1.0)?;
        within("validation.f1", f1, 0.0..=1.0)?;
        if let Some(hash) = &self.started_from {
            is_hash("started_from", hash)?;
        }
        if let Some(SelfTraining { base, round }) = &self.self_training {
            is_hash("self_training.base", base)?;
            within("self_training.round", *round as f64, 1.0..=1e9)?;
        }
        Ok(())
    }

    fn up_to_date(mut self) -> Card {
        /// The built-in floor of layout 1: nobody chose it.
        const FLOOR: f32 = 0.05;
        if self.schema != 1 {
            return self;
        }
        // The scores of layout 1 are probabilities. What is none is refused as it stands.
        let score = |own: f32| match own {
            0.0..=1.0 => odds::score_of_probability(own),
            _ => own,
        };
        self.threshold = score(self.threshold);
        self.general_threshold = score(self.general_threshold);
        self.pick.floor = match self.pick.floor {
            FLOOR => pick::Settings::default().floor,
            floor => score(floor),
        };
        self.schema = Card::SCHEMA;
        self
    }
}

/// A micrograph that had a part in making a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SeenAsWritten")]
pub struct Seen {
    /// Its name then.
    pub name: String,
    /// The hash of its content; models of picker 0.1.0 know names alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SeenAsWritten {
    Name(String),
    Whole { name: String, content: Option<String> },
}

impl From<SeenAsWritten> for Seen {
    fn from(written: SeenAsWritten) -> Seen {
        match written {
            SeenAsWritten::Name(name) => Seen { name, content: None },
            SeenAsWritten::Whole { name, content } => Seen { name, content },
        }
    }
}

impl Seen {
    /// Whether this is the micrograph of that name and content, which decides where it is known.
    pub fn is(&self, name: &str, content: Option<&str>) -> bool {
        match (self.content.as_deref(), content) {
            (Some(own), Some(other)) => own == other,
            _ => self.name == name,
        }
    }
}

/// How a model was made, in place of micrographs' names that say nothing to its users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The micrographs it was trained and validated on, if they were simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
    /// The commands that trained it, as typed.
    pub commands: Vec<String>,
    /// Their settings, as a file for `--config`.
    pub config: String,
    /// How many micrographs it was trained on; how many simulated ones, if `simulated` is given.
    pub trained_on: usize,
    /// How many of the same kind it was validated on.
    pub validated_on: usize,
}

/// What `picker simulate` makes the same micrographs from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// The picker that simulated them.
    pub picker_version: String,
    /// `--preset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// `--seed`.
    pub seed: u64,
    /// `--count`.
    pub count: usize,
    /// `--config`, or the built-in ranges of the preset, in that picker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teaching: Option<serde_json::Value>,
}

/// Where a self-trained model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTraining {
    /// Hash of the model file it started from.
    pub base: String,
    /// The round that made it, counted from 1.
    pub round: usize,
}

/// Picking quality on the validation micrographs, mean over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationScores {
    /// Share of picks that are particles.
    pub precision: f64,
    /// Share of particles that are picked.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// A network with its card.
#[derive(Debug)]
pub struct Model {
    /// What it is.
    pub card: Card,
    /// The network itself, on the first device.
    pub network: Inference,
    /// Where it may run.
    pub machine: Machine,
    /// Hash of the file it came from, in hexadecimal.
    pub hash: String,
}

impl Model {
    /// File of a trained model in a model folder.
    pub const TRAINED: &str = "best.safetensors";
    /// File of what self-training made of it, beside it.
    pub const SELF_TRAINED: &str = "self_trained.safetensors";
    /// Name of what a training goes on from, beside the model.
    pub const CHECKPOINT: &str = "last.safetensors";

    /// The network for the worker of this number: workers take the devices in turn.
    pub(crate) fn network_for(&self, worker: usize) -> Result<Inference> {
        let devices = self.machine.devices();
        self.network.on(devices[worker % devices.len()])
    }
}

/// Writes a model's weights in f16, under another card.
pub fn pack(from: &Origin, card: &Card, to: &Path) -> Result<()> {
    let (_, tensors) = file::read::<Card>(from)?;
    let half = |(name, tensor): (String, Tensor)| {
        let half = tensor.f_to_kind(Kind::Half).map_err(torch("packing weights"))?;
        if file::is_finite(&half)? {
            return Ok((name, half));
        }
        Err(Error::unusable(
            from.to_string(),
            format!("{name} holds numbers that do not fit into f16"),
            "such weights come from a training that diverged: train again",
        ))
    };
    file::write(to, card, &tensors.into_iter().map(half).collect::<Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::file::Description;
    use crate::model::{Architecture, Device, Network, Precision};
    use crate::pick::EdgeMargin;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    #[test]
    fn micrographs_are_known_by_their_content_and_by_name_only_where_it_is_not_known() {
        let seen: Vec<Seen> =
            serde_json::from_str(r#"["a.mrc", { "name": "b.mrc", "content": "c0ffee" }]"#).unwrap();
        let [old, new] = seen.as_slice() else { panic!("{seen:?}") };
        assert!(old.is("a.mrc", Some("c0ffee")) && !old.is("b.mrc", Some("c0ffee")));
        assert!(new.is("/elsewhere/x.mrc", Some("c0ffee")) && !new.is("b.mrc", Some("beef")));
        assert!(new.is("b.mrc", None));
    }

    fn network(seed: u64) -> Network {
        let architecture = Architecture { base_features: 4, ..Architecture::default() };
        Network::new(architecture, seed, Device::Cpu, Precision::F32).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn the_numbers_of_a_card_are_read_as_they_were_written(
            x in proptest::collection::vec(0.0..1.0_f64, 14),
        ) {
            let card = Card {
                preprocess: preprocess::Settings {
                    working_radius_px: 2.0 + 50.0 * x[0],
                    background_radii: 9.0 * x[1],
                    clip_sd: 1.0 + 9.0 * x[2],
                    particles: None,
                },
                labels: labels::Settings {
                    mask_radius_fraction: 0.1 + x[3],
                    ignore_radius_fraction: 0.1 + x[4],
                    ..labels::Settings::default()
                },
                pick: pick::Settings {
                    smoothing_radii: x[5],
                    window_radii: 0.05 + x[6],
                    min_distance_radii: 0.1 + x[7],
                    edge_margin_radii: EdgeMargin::Radii(x[8]),
                    floor: 0.02 + 0.9 * x[9] as f32,
                },
                particle_radius_px: Some(1.0 + 500.0 * x[10]),
                pixel_size_a: Some(PixelSize(0.1 + x[11])),
                unlabelled_margin_radii: 2.0 * x[12],
                threshold: x[13] as f32,
                general_threshold: x[0] as f32 / 3.0,
                validation: ValidationScores { precision: x[1], recall: x[2], f1: x[3] },
                ..Origin::Default.card().unwrap()
            };
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("model.safetensors");
            file::write(&path, &card, &BTreeMap::new()).unwrap();
            prop_assert_eq!(Origin::File(path).card().unwrap(), card);
        }
    }

    #[test]
    fn thresholds_of_layout_1_are_read_as_scores_and_those_of_later_ones_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let read = |schema: u32, floor: f32| {
            let card = Card {
                schema,
                threshold: 0.7,
                general_threshold: 0.4,
                pick: pick::Settings { floor, ..pick::Settings::default() },
                ..Origin::Default.card().unwrap()
            };
            file::write(&path, &card, &BTreeMap::new()).unwrap();
            let read = Origin::File(path.clone()).card().unwrap();
            assert_eq!(file::describe::<Card>(&path).unwrap(), read);
            assert_eq!(read.schema, Card::SCHEMA);
            (read.threshold, read.general_threshold, read.pick.floor)
        };
        // The odds of a score are the fourth root of those of the probability.
        assert_eq!(read(1, 0.2), (0.553, 0.475, 0.414));
        assert_eq!(read(1, 0.05).2, pick::Settings::default().floor, "the built-in one of then");
        assert_eq!(read(2, 0.2), (0.7, 0.4, 0.2));
        // The default model picks from a probability of .7 on.
        let card = Origin::Default.card().unwrap();
        assert_eq!((card.threshold, card.pick.floor), (0.553, 0.12));
    }

    #[test]
    fn a_threshold_of_layout_1_that_is_no_probability_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let card = Card { schema: 1, threshold: 7.0, ..Origin::Default.card().unwrap() };
        file::write(&path, &card, &BTreeMap::new()).unwrap();
        let error = Origin::File(path).card().unwrap_err().to_string();
        assert!(error.contains("threshold: 7 is not between"), "{error}");
    }

    /// The default model's card with another value at a path of keys, as it is read.
    fn with(path: &[&str], value: Value) -> Result<Card, String> {
        let mut card = serde_json::to_value(Origin::Default.card().unwrap()).unwrap();
        let mut place = &mut card;
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
        let card: Card = serde_json::from_value(card).map_err(|e| e.to_string())?;
        card.check().map_err(|e| e.to_string())?;
        Ok(card)
    }

    #[test]
    fn every_number_of_a_card_is_checked() {
        let hash = "0".repeat(64);
        for (path, good) in [
            (&["schema"][..], json!(1)),
            (&["architecture", "base_features"], json!(8)),
            (&["architecture", "levels"], json!(3)),
            (&["architecture", "heads"], json!(4)),
            (&["preprocess", "working_radius_px"], json!(9.5)),
            (&["preprocess", "background_radii"], json!(0.0)),
            (&["preprocess", "clip_sd"], json!(5.0)),
            (&["labels", "mask_radius_fraction"], json!(0.7)),
            (&["labels", "ignore_radius_fraction"], json!(0.7)),
            (&["pick", "smoothing_radii"], json!(0.3)),
            (&["pick", "window_radii"], json!(0.4)),
            (&["pick", "min_distance_radii"], json!(0.8)),
            (&["pick", "edge_margin_radii"], json!(0.5)),
            (&["pick", "floor"], json!(0.05)),
            (&["particle_radius_px"], json!(54.0)),
            (&["pixel_size_a"], json!(1.06)),
            (&["unlabelled_margin_radii"], json!(0.5)),
            (&["threshold"], json!(0.5)),
            (&["general_threshold"], json!(0.5)),
            (&["validation", "precision"], json!(1.0)),
            (&["validation", "recall"], json!(0.0)),
            (&["validation", "f1"], json!(0.5)),
            (&["epoch"], json!(3)),
            (&["self_training"], json!({ "base": hash, "round": 1 })),
            (&["started_from"], json!(hash)),
        ] {
            with(path, good).unwrap();
            let mut name: &str = path[path.len() - 1];
            let mut bad = vec![json!(-50.0), json!(1e300)];
            match name {
                "schema" => bad = vec![json!(0), json!(99)],
                "epoch" => bad = vec![json!(0), json!(u64::MAX)],
                "base_features" | "levels" | "heads" => bad = vec![json!(0), json!(1_000_000)],
                "self_training" => {
                    name = "self_training.base";
                    bad = vec![json!({ "base": "00", "round": 1 })];
                    let round = with(path, json!({ "base": hash, "round": 0 })).unwrap_err();
                    assert!(round.starts_with("self_training.round:"), "{round}");
                }
                "started_from" => bad = vec![json!("../model"), json!("")],
                _ => {}
            }
            for bad in bad {
                let refused = with(path, bad.clone()).expect_err(&format!("{path:?} {bad}"));
                let place = refused.split(':').next().unwrap();
                assert!(place.ends_with(name), "{path:?} {bad}: {refused}");
            }
        }
        // JSON has no NaN; a card in memory may.
        let card = Card { threshold: f32::NAN, ..Origin::Default.card().unwrap() };
        assert!(card.check().unwrap_err().to_string().starts_with("threshold: NaN"));
    }

    #[test]
    fn a_file_whose_card_cannot_be_used_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let mut card = Origin::Default.card().unwrap();
        card.preprocess.clip_sd = -5.0;
        file::write(&path, &card, &network(1).variables()).unwrap();
        let origin = Origin::File(path.clone());
        let to = dir.path().join("packed");
        for error in [
            origin.card().unwrap_err(),
            origin.load(&Machine::cpu(1), Precision::F32).unwrap_err(),
            pack(&origin, &card, &to).unwrap_err(),
            super::super::export::weights(&origin, &to).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("model.safetensors: its description"), "{error}");
            assert!(error.contains("preprocess.clip_sd: -5 is"), "{error}");
        }
        assert!(!to.exists());
    }

    #[test]
    fn packed_in_f16_the_weights_are_the_same_to_three_digits_and_f32_once_read() {
        let dir = tempfile::tempdir().unwrap();
        let [whole, packed] = ["whole", "packed"].map(|name| dir.path().join(name));
        let (before, after) = (network(1), network(2));
        let card = Origin::Default.card().unwrap();
        file::write(&whole, &card, &before.variables()).unwrap();
        pack(&Origin::File(whole.clone()), &card, &packed).unwrap();
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&packed) < size(&whole) * 2 / 3);
        file::load_weights(&Origin::File(packed), &after).unwrap();
        for (name, before) in before.variables() {
            let after = &after.variables()[&name];
            assert_eq!(after.kind(), Kind::Float);
            let off = (&before - after).abs() - before.abs() * 1e-3;
            assert!(off.max().double_value(&[]) < 1e-7, "{name}");
        }
    }

    #[test]
    fn weights_beyond_f16_are_not_packed() {
        let dir = tempfile::tempdir().unwrap();
        let [whole, packed] = ["whole", "packed"].map(|name| dir.path().join(name));
        let card = Origin::Default.card().unwrap();
        let huge = BTreeMap::from([("huge".to_string(), Tensor::from_slice(&[1e6_f32]))]);
        file::write(&whole, &card, &huge).unwrap();
        let error = pack(&Origin::File(whole), &card, &packed).unwrap_err().to_string();
        assert!(error.contains("huge") && !packed.exists(), "{error}");
    }
}

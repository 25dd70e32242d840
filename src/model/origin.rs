//! Where a model is kept: a path or the word `default` → the bytes of a model file.
//!
//! The default model is part of the program. It was trained on simulated micrographs and a few pictures
//! without particles, by `make default-model`, and is scale-free ([`Card::is_scale_free`]).

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::checkpoint::{Card, Model};
use super::file::{self, Contents};
use super::{Machine, Network, Precision};
use crate::error::{Error, Result};
use crate::publish::publish;

const DEFAULT: &[u8] = include_bytes!("default.safetensors");

/// Where a model is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File(PathBuf),
    /// In this program.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Origin::File(path) => path.display().fmt(f),
            Origin::Default => f.write_str("the default model"),
        }
    }
}

impl Origin {
    /// What stands for the default model where a path could stand.
    pub const DEFAULT: &str = "default";

    /// What `path` means: the word `default`, a model file, a model folder, or a run directory.
    ///
    /// A self-trained model counts while the model that it was made from is still there.
    pub fn locate(path: &Path) -> Result<Origin> {
        let trained = Origin::locate_trained(path)?;
        let Origin::File(file) = &trained else { return Ok(trained) };
        let better = file.with_file_name(Model::SELF_TRAINED);
        if path.is_file() || !better.is_file() {
            return Ok(trained);
        }
        let better = Origin::File(better);
        let base = better.card()?.self_training.map(|made| made.base);
        Ok(if base == Some(trained.hash()?) { better } else { trained })
    }

    /// As [`Origin::locate`], the model before any self-training.
    pub fn locate_trained(path: &Path) -> Result<Origin> {
        if path == Path::new(Origin::DEFAULT) {
            return Ok(Origin::Default);
        }
        let candidates = [
            path.to_path_buf(),
            path.join(Model::TRAINED),
            path.join("model").join(Model::TRAINED),
        ];
        let found = candidates.into_iter().find(|candidate| candidate.is_file());
        found.map(Origin::File).ok_or_else(|| {
            Error::missing(
                format!("there is no trained model at {}", path.display()),
                "train one with `picker train`, or name another one; model = default is the one \
                 inside picker",
            )
        })
    }

    /// The model of a model folder, or the default model where it holds none.
    pub fn in_folder(folder: &Path) -> Result<Origin> {
        let trained = folder.join(Model::TRAINED).is_file();
        if trained { Origin::locate(folder) } else { Ok(Origin::Default) }
    }

    /// The model file, whole.
    pub fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            Origin::File(path) => {
                std::fs::read(path).map(Cow::Owned).map_err(Error::io("read", path))
            }
            Origin::Default => Ok(Cow::Borrowed(DEFAULT)),
        }
    }

    /// Copies the model file.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let bytes = self.bytes()?;
        publish(path, |file| file.write_all(&bytes))
    }

    /// The hash of the model file, in hexadecimal.
    pub fn hash(&self) -> Result<String> {
        Ok(hash_of(&self.bytes()?))
    }

    /// The card alone, without building the network.
    pub fn card(&self) -> Result<Card> {
        Contents::of(&self.bytes()?, self)?.description()
    }

    /// The model, ready for scoring.
    pub fn load(&self, machine: &Machine, precision: Precision) -> Result<Model> {
        let bytes = self.bytes()?;
        let contents = Contents::of(&bytes, self)?;
        let card: Card = contents.description()?;
        let network = Network::new(card.architecture, 0, machine.first(), precision)?;
        file::fill(&network.variables(), &contents.tensors()?, self)?;
        let network = network.for_inference(machine)?;
        Ok(Model { card, network, machine: machine.clone(), hash: hash_of(&bytes) })
    }
}

/// The hash of a model file, in hexadecimal.
pub(crate) fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

//! `picker model`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::args::check_threshold;
use super::info::print_fields;
use super::show::{Known, summary};
use super::words::{as_written, short};
use super::{Exit, Global};
use crate::model::{Device, Network, Origin, Precision, export};
use crate::studies::packing;
use crate::units::counted;

/// Shows what a model is, packs a trained model for particles of any size, exports weights
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(ShowArgs),
    Pack(PackArgs),
    Export(ExportArgs),
}

/// Shows what a model is, how good it was in validation, and how to use it
#[derive(Debug, Args)]
struct ShowArgs {
    /// A model file, the folder of a run, or `default`, the model inside picker
    #[arg(value_name = "MODEL", default_value = Origin::DEFAULT)]
    model: PathBuf,
    /// Show all that is known: every setting, and the micrographs that it was made from
    #[arg(long)]
    all: bool,
    /// Print all as one JSON object
    #[arg(long, conflicts_with = "all")]
    json: bool,
}

/// Writes a model for particles of any size, in half the file size; using it requires the particle
/// radius
///
/// Its card says how the model was trained, in place of the micrographs' names.
#[derive(Debug, Args)]
struct PackArgs {
    /// The run directory of a training, or its model file there
    #[arg(value_name = "RUN|FILE")]
    model: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Score from which on a peak is a pick, if nothing else is said [default: as trained]
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
}

/// Writes a model's weights as safetensors, in f32, under the names of a `state_dict`
///
/// The file's metadata tells, under `picker`, the architecture, the model's card, and which of
/// picker's tensors each one is.
#[derive(Debug, Args)]
struct ExportArgs {
    /// A model file, the folder of a run, or `default`, the model inside picker
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also write an image and the logits the model gives it (`input`, `output`), to compare with
    #[arg(long, value_name = "FILE")]
    example: Option<PathBuf>,
}

pub(super) fn run(args: &ModelArgs, _global: &Global) -> Result<Exit> {
    match &args.command {
        Command::Show(args) => show(args),
        Command::Pack(args) => pack(args),
        Command::Export(args) => export(args),
    }
}

fn show(args: &ShowArgs) -> Result<Exit> {
    let model = Origin::locate(&args.model)?;
    let card = model.card()?;
    let network = Network::new(card.architecture, 0, Device::Cpu, Precision::F32)?;
    let (hash, size_bytes) = (model.hash()?, model.bytes()?.len());
    let mut out = io::stdout().lock();
    if !args.all && !args.json {
        let typed = &args.model.display().to_string();
        let parameters = network.parameter_count();
        let known = Known { typed, origin: &model, hash: short(&hash), size_bytes, parameters };
        for (name, value) in summary(&card, &known) {
            writeln!(out, "{name}: {value}")?;
        }
        return Ok(Exit::Done);
    }
    let told = json!({
        "schema": 1,
        "model": model.to_string(),
        "hash": hash,
        "size_bytes": size_bytes,
        "architecture": card.architecture.name(),
        "parameters": network.parameter_count(),
        "scale_free": card.is_scale_free(),
        "card": as_written(&card)?,
    });
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
    } else {
        print_fields(&mut out, &told, 0)?;
    }
    Ok(Exit::Done)
}

fn pack(args: &PackArgs) -> Result<Exit> {
    let threshold = check_threshold(args.threshold)?;
    let card = packing::pack(&args.model, threshold, &args.out)?;
    let packed = Origin::File(args.out.clone());
    writeln!(
        io::stdout(),
        "scale-free model: {packed} ({}), {:.1} MB, threshold {:.3}",
        short(&packed.hash()?),
        packed.bytes()?.len() as f64 / 1e6,
        card.threshold
    )?;
    Ok(Exit::Done)
}

fn export(args: &ExportArgs) -> Result<Exit> {
    let model = Origin::locate(&args.model)?;
    let tensors = export::weights(&model, &args.out)?;
    writeln!(io::stdout(), "weights: {}, {}", args.out.display(), counted(tensors, "tensor"))?;
    if let Some(path) = &args.example {
        export::example(&model, path)?;
        writeln!(io::stdout(), "example: {}", path.display())?;
    }
    Ok(Exit::Done)
}

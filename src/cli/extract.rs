//! `picker extract`: as programs call the Topaz executable.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::give_paths;
use super::session::Session;
use super::words::tell;
use super::{Exit, Global, recall, show};
use crate::coords;
use crate::error::Error;
use crate::micrograph::{self, Filter};
use crate::model::{Card, Machine, Origin, Precision};
use crate::run::RunDir;
use crate::settings::{Data, Given};
use crate::stages::begin;
use crate::studies::extract::{Job, Summary};
use crate::units::counted;

/// Works like `topaz extract`, so that RELION can use `picker` as the Topaz executable
///
/// -t SCORE -r RADIUS -d DEVICE [-x UP] [-s DOWN] [-m MODEL] -o OUT MICROGRAPHS: -m is a
/// model of picker (without it, the default model), the radius is in px of the images given
/// (without it, and without images, those of `picker_run` in the current folder), coordinates are multiplied by UP/DOWN. Scores are log-odds against the model's own threshold: 0 is where `picker pick` cuts.
#[derive(Debug, Args)]
pub(super) struct ExtractArgs {
    /// The arguments of `topaz extract`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGUMENTS"
    )]
    arguments: Vec<String>,
}

/// What matters only to how Topaz itself computes; each has a value.
const WITHOUT_EFFECT: [&str; 9] = [
    "--assignment-radius",
    "--min-radius",
    "--max-radius",
    "--step-radius",
    "--num-workers",
    "--batch-size",
    "--patch-size",
    "--patch-padding",
    "-j",
];

/// The arguments, understood.
#[derive(Debug, Default, PartialEq)]
struct Call {
    threshold: f32,
    radius_px: Option<f64>,
    device: i64,
    /// Coordinates of the output from those in the images given.
    scale: f64,
    model: Option<PathBuf>,
    out: Option<PathBuf>,
    threads: Option<usize>,
    micrographs: Vec<PathBuf>,
}

pub(super) fn run(args: &ExtractArgs, global: &Global) -> Result<Exit> {
    // RELION stops for good where the file is missing, and goes on where it is empty.
    if let Some(out) = out_of(&args.arguments) {
        coords::topaz::write(&out, &[])?;
    }
    let call = Call::of(&args.arguments)?;
    let missing = |what: &str, hint: &str| Error::missing(what.to_string(), hint);
    let out = call.out.as_deref().ok_or_else(|| missing("no output is named", "add -o FILE"))?;
    let session = Session::start(&call.global(global))?;
    let origin = call.model.as_deref().map_or(Ok(Origin::Default), begin::locate)?;
    super::name_default(&origin)?;
    let model = origin.load(&session.machine, Precision::default())?;
    let data = call.data(&model.card)?;
    // RELION has chosen: all of its micrographs are meant.
    let all = [String::from("*")];
    let filter = match call.micrographs.as_slice() {
        [] => data.filter(),
        _ => Filter { include: &all, exclude: &[] },
    };
    let listed = micrograph::list(&data.micrographs, filter)?;
    listed.check_scale(data.radius(), data.pixel_size())?;
    let sources = listed.whole()?;
    let scale = data.scale().with_model(&model.card);
    let job = Job { model: &model, scale, factor: call.scale, least_score: call.threshold };
    let mut warn = |warning: &str| tell(&format!("warning: {warning}"));
    let Summary { micrographs, picks, failures } =
        job.run(&sources, out, &mut warn, &session.cancel)?;
    let (picks, micrographs) = (counted(picks, "pick"), counted(micrographs, "micrograph"));
    writeln!(io::stdout(), "{picks} on {micrographs}: {}", out.display())?;
    Ok(show::ended_with(&failures))
}

/// The output file, found even where other arguments make no sense.
fn out_of(arguments: &[String]) -> Option<PathBuf> {
    let at = arguments.iter().position(|word| word == "-o" || word == "--output")?;
    arguments.get(at + 1).map(PathBuf::from)
}

impl Call {
    fn of(arguments: &[String]) -> Result<Call> {
        let mut call = Call { threshold: -6.0, scale: 1.0, ..Call::default() };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                call.micrographs.push(word.into());
                continue;
            }
            let refused = |what: &str| {
                Error::setting(
                    word.clone(),
                    what.to_string(),
                    "`picker extract` answers as Topaz where RELION calls it; by hand, use `picker pick`",
                )
            };
            let value = words.next().ok_or_else(|| refused("has no value"))?;
            let number = || {
                let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
                number.ok_or_else(|| refused(&format!("{value} is not a number")))
            };
            let positive = || {
                number().and_then(|n| {
                    if n > 0.0 { Ok(n) } else { Err(refused(&format!("{value} is not above 0"))) }
                })
            };
            match word.as_str() {
                "-t" | "--threshold" => call.threshold = number()? as f32,
                "-r" | "--radius" => call.radius_px = Some(positive()?),
                "-d" | "--device" => call.device = number()? as i64,
                "-x" | "--up-scale" => call.scale *= positive()?,
                "-s" | "--down-scale" => call.scale /= positive()?,
                "-m" | "--model" => call.model = Some(value.into()),
                "-o" | "--output" => call.out = Some(value.into()),
                "--num-threads" => call.threads = Some(positive()? as usize),
                known if WITHOUT_EFFECT.contains(&known) => {}
                _ => return Err(refused("is not known here").into()),
            }
        }
        Ok(call)
    }

    /// The images and the size of particles: what is not given is that of the model or of the run in
    /// the current folder.
    fn data(&self, card: &Card) -> Result<Data> {
        let run = RunDir::look_into("picker_run".as_ref());
        let mut given = Given::default();
        give_paths(&mut given, "data.micrographs", &self.micrographs)?;
        recall::micrographs(&run, &mut given)?;
        given.set("data.particle_radius_px", self.radius_px)?;
        if card.is_scale_free() {
            recall::radius(&run, &mut given)?;
        }
        let data = given.resolve()?.settings.data;
        if card.is_scale_free() && data.radius().is_none() {
            return Err(Error::missing("no particle radius is given", "add -r PX").into());
        }
        Ok(data)
    }

    /// As Topaz, a GPU is used if there is one; that there is none is said.
    fn global(&self, global: &Global) -> Global {
        let wanted = format!("cuda:{}", self.device);
        let device = if self.device < 0 {
            "cpu".to_string()
        } else if Machine::choose(&wanted, None, 1).is_ok() {
            wanted
        } else {
            tell(&format!(
                "warning: device {} is not there: the network runs on the CPU",
                self.device
            ));
            "cpu".to_string()
        };
        Global { device, threads: self.threads.or(global.threads), ..global.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call> {
        Call::of(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_taken_as_relion_writes_them() {
        let line = "-t -6 -r 18 -d 0 -x 4 -m M -o out.txt --num-workers 8 a.mrc b.mrc";
        let expected = Call {
            threshold: -6.0,
            radius_px: Some(18.0),
            device: 0,
            scale: 4.0,
            model: Some("M".into()),
            out: Some("out.txt".into()),
            threads: None,
            micrographs: vec!["a.mrc".into(), "b.mrc".into()],
        };
        assert_eq!(call(line).unwrap(), expected);
        for (line, reason) in [
            ("--filaments -r 3", "not known here"),
            ("-r", "no value"),
            ("-r big", "not a number"),
            ("-x 0", "not above 0"),
        ] {
            assert!(call(line).unwrap_err().to_string().contains(reason), "{line}");
        }
    }
}

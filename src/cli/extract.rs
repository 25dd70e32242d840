//! `picker extract`: as programs call the Topaz executable.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::session::Session;
use super::words::tell;
use super::{Exit, Global, show};
use crate::coords::{self, Coordinate, Coordinates};
use crate::error::Error;
use crate::micrograph;
use crate::model::{Machine, Origin, Precision};
use crate::run::Failure;
use crate::stages::{begin, pick};
use crate::units::Radius;

/// Answers as `topaz extract`, so that `picker` can be entered as the Topaz executable
///
/// -t SCORE -r RADIUS -d DEVICE [-x UP] [-s DOWN] [-m MODEL] -o OUT MICROGRAPHS: -m is a
/// model of picker (without it, the default model), the radius is in px of the images given,
/// coordinates are multiplied by UP/DOWN. Scores are log-odds against the model's own threshold: 0 is where `picker pick` cuts.
#[derive(Debug, Args)]
pub(super) struct ExtractArgs {
    /// As Topaz takes them
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
    let radius =
        call.radius_px.ok_or_else(|| missing("no particle radius is given", "add -r PX"))?;
    let session = Session::start(&call.global(global))?;
    let origin = call.model.as_deref().map_or(Ok(Origin::Default), begin::locate)?;
    super::name_default(&origin)?;
    let model = origin.load(&session.machine, Precision::default())?;
    let sources = micrograph::list(&call.micrographs)?;
    let mut all = Vec::new();
    let mut failures = Vec::new();
    for source in &sources {
        if session.cancel.requested() {
            return Err(Error::Interrupted.into());
        }
        match pick::peaks_of(&model, source, Radius::Px(radius)) {
            Ok((peaks, warnings)) => {
                warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
                let points =
                    peaks.iter().filter_map(|peak| call.scored(peak, model.card.threshold));
                let micrograph = source.name.clone();
                all.push(Coordinates::new(micrograph, points.collect()));
            }
            Err(error) => failures.push(Failure::new(&source.name, &error)),
        }
    }
    coords::topaz::write(out, &all)?;
    let picks: usize = all.iter().map(|own| own.points.len()).sum();
    writeln!(io::stdout(), "{picks} picks on {} micrographs: {}", all.len(), out.display())?;
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

    /// As Topaz, a GPU is used if there is one; that there is none is said.
    fn global(&self, global: &Global) -> Global {
        let wanted = format!("cuda:{}", self.device);
        let device = if self.device < 0 {
            "cpu".to_string()
        } else if Machine::choose(&wanted, None, 1).is_ok() {
            wanted
        } else {
            tell(&format!(
                "warning: device {} is not there: the network runs on the processor",
                self.device
            ));
            "cpu".to_string()
        };
        Global { device, threads: self.threads.or(global.threads), ..global.clone() }
    }

    /// A peak as it is to be written, if its score is above what was asked for.
    fn scored(&self, peak: &Coordinate, threshold: f32) -> Option<Coordinate> {
        let odds = |score: f32| {
            let score = score.clamp(1e-6, 1.0 - 1e-6);
            (score / (1.0 - score)).ln()
        };
        let score = odds(peak.score?) - odds(threshold);
        (score > self.threshold).then_some(Coordinate {
            x_mic_px: peak.x_mic_px * self.scale,
            y_mic_px: peak.y_mic_px * self.scale,
            score: Some(score),
        })
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

    #[test]
    fn scores_are_log_odds_against_the_models_threshold() {
        let at = |score| Coordinate { x_mic_px: 10.0, y_mic_px: 20.0, score: Some(score) };
        let call = call("-t 0 -x 4").unwrap();
        assert_eq!(call.scored(&at(0.3), 0.4), None);
        let found = call.scored(&at(0.5), 0.4).unwrap();
        assert_eq!((found.x_mic_px, found.y_mic_px), (40.0, 80.0));
        assert!((found.score.unwrap() - 1.5_f32.ln()).abs() < 1e-6);
    }
}

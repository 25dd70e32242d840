//! `picker info`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::words::as_written;
use super::{Exit, Global};
use crate::coords;
use crate::error::Error;
use crate::micrograph::{self, Statistics};
use crate::model::Origin;

/// Prints what a micrograph, coordinate or model file contains, and whether it can be used
///
/// Exit code 1 if one of the files cannot be used.
#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    /// Files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InfoArgs, _global: &Global) -> Result<Exit> {
    let mut out = io::stdout().lock();
    let mut exit = Exit::Done;
    let mut all = Vec::new();
    for file in &args.files {
        let told = look(file).unwrap_or_else(|error| {
            exit = Exit::Failed;
            json!({ "error": error.to_string(), "hint": error.hint() })
        });
        if args.json {
            all.push(json!({ "file": file, "usable": told.get("error").is_none(), "info": told }));
        } else {
            writeln!(out, "{}", file.display())?;
            print_fields(&mut out, &told, 1)?;
        }
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "schema": 1, "files": all }))?)?;
    }
    Ok(exit)
}

fn look(file: &Path) -> Result<Value, Error> {
    if file.extension().is_some_and(|e| e == "safetensors") {
        let card = Origin::File(file.to_path_buf()).card()?;
        return Ok(
            json!({ "kind": "model", "card": as_written(&card).map_err(|error| unwritable(&error))? }),
        );
    }
    if coords::Format::of_name(file).is_some() {
        let all = match coords::read(file) {
            Err(Error::Unusable { .. }) if file.extension().is_some_and(|e| e == "star") => {
                return look_at_list(file);
            }
            read => read?,
        };
        let points = || all.iter().flat_map(|own| &own.points);
        let range = |of: fn(&coords::Coordinate) -> f64| {
            let values = points().map(of);
            let low = values.clone().reduce(f64::min);
            low.zip(values.reduce(f64::max)).map(|(low, high)| json!([low, high]))
        };
        return Ok(json!({
            "kind": "coordinates",
            "micrographs": all.len(),
            "coordinates": points().count(),
            "with_score": points().filter(|point| point.score.is_some()).count(),
            "x_range_px": range(|point| point.x_mic_px),
            "y_range_px": range(|point| point.y_mic_px),
        }));
    }
    let header = micrograph::header(file)?;
    let micrograph = micrograph::read(file)?;
    let statistics = Statistics::of(&micrograph.pixels);
    Ok(json!({
        "kind": "micrograph",
        "format": header.format.name(),
        "samples": header.sample,
        "width_px": header.shape.width,
        "height_px": header.shape.height,
        "pixel_size_a": micrograph.header_pixel_size.measured(),
        "pixel_size_doubt": micrograph.header_pixel_size.doubt(),
        "min": statistics.and_then(|s| as_written(&s.min).ok()),
        "max": statistics.and_then(|s| as_written(&s.max).ok()),
        "mean": statistics.map(|s| s.mean),
        "sd": statistics.map(|s| s.sd),
        "not_finite": statistics.map(|s| s.not_finite),
        "warnings": micrograph.warnings,
    }))
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::internal(error.to_string())
}

/// A STAR file without coordinates may list micrographs.
fn look_at_list(file: &Path) -> Result<Value, Error> {
    let sources = micrograph::named(&[file.to_path_buf()])?;
    let sizes: Vec<f64> = sources.iter().filter_map(|source| Some(source.pixel_size?.0)).collect();
    Ok(json!({
        "kind": "list of micrographs",
        "micrographs": sources.len(),
        "with_pixel_size": sizes.len(),
        "smallest_pixel_size_a": sizes.iter().copied().reduce(f64::min),
        "largest_pixel_size_a": sizes.iter().copied().reduce(f64::max),
    }))
}

/// Fields as indented lines, nested ones deeper.
pub(super) fn print_fields(out: &mut impl Write, told: &Value, depth: usize) -> io::Result<()> {
    let indent = "  ".repeat(depth);
    for (key, value) in told.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                writeln!(out, "{indent}{key}:")?;
                print_fields(out, value, depth + 1)?;
            }
            Value::Null => {}
            Value::String(text) if text.contains('\n') => {
                writeln!(out, "{indent}{key}:")?;
                let deeper = |line: &str| format!("{indent}  {line}");
                text.lines().try_for_each(|line| writeln!(out, "{}", deeper(line).trim_end()))?;
            }
            Value::String(text) => writeln!(out, "{indent}{key}: {text}")?,
            other => writeln!(out, "{indent}{key}: {other}")?,
        }
    }
    Ok(())
}

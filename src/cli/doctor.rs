//! `picker doctor`.

use std::fs;
use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Exit, Global};
use crate::model::device::{Found, Libtorch};
use crate::model::{Architecture, Origin, Precision};

/// Shows the machine and the libtorch that the program uses
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    picker_version: &'static str,
    libtorch: Libtorch,
    threads: usize,
    cpu_features: Vec<&'static str>,
    memory_total_gib: Option<f64>,
    memory_available_gib: Option<f64>,
    /// What a container or a cluster job may use.
    memory_limit_gib: Option<f64>,
    default_model: DefaultModel,
}

#[derive(Serialize)]
struct DefaultModel {
    hash: String,
    architecture: Architecture,
    size_bytes: usize,
    threshold: f32,
}

pub(super) fn run(args: &DoctorArgs, _global: &Global) -> Result<Exit> {
    let (model, card) = (Origin::Default, Origin::Default.card()?);
    let report = Report {
        schema: 2,
        picker_version: env!("CARGO_PKG_VERSION"),
        libtorch: Libtorch::query(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        cpu_features: cpu_features(),
        memory_total_gib: memory("MemTotal:"),
        memory_available_gib: memory("MemAvailable:"),
        memory_limit_gib: memory_limit(),
        default_model: DefaultModel {
            hash: model.hash()?,
            architecture: card.architecture,
            size_bytes: model.bytes()?.len(),
            threshold: card.threshold,
        },
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(Exit::Done);
    }
    let gib = |value: Option<f64>| value.map_or("unknown".into(), |gib| format!("{gib:.1} GiB"));
    writeln!(out, "picker     {}", report.picker_version)?;
    writeln!(out, "libtorch   {}", report.libtorch.version)?;
    writeln!(
        out,
        "devices    cpu{}",
        match &report.libtorch.no_cuda {
            Some(reason) => format!("; no CUDA device: {reason}"),
            None => format!(", {} CUDA", report.libtorch.cuda_devices),
        }
    )?;
    writeln!(out, "threads    {}", report.threads)?;
    writeln!(out, "processor  {}", report.cpu_features.join(" "))?;
    for found in &report.libtorch.devices {
        writeln!(out, "precision  {}: {}", found.device, precision(found))?;
    }
    writeln!(
        out,
        "memory     {}, {} free",
        gib(report.memory_total_gib),
        gib(report.memory_available_gib)
    )?;
    if report.memory_limit_gib.is_some() {
        writeln!(out, "           {} allowed here", gib(report.memory_limit_gib))?;
    }
    let DefaultModel { hash, architecture, size_bytes, threshold } = &report.default_model;
    writeln!(
        out,
        "model      default: {}, {}, {} base features, {:.1} MB, threshold {threshold:.3}",
        super::words::short(hash),
        architecture.name(),
        architecture.base_features,
        *size_bytes as f64 / 1e6
    )?;
    Ok(Exit::Done)
}

/// The number format in which the network computes on a device, and why.
fn precision(found: &Found) -> String {
    let chosen = if found.precision == Precision::Bf16 { "bf16" } else { "f32" };
    let bf16 = &found.bf16;
    let instructions = match bf16.instructions {
        Some(true) => "it has instructions for bf16; ",
        Some(false) => "it lacks instructions for bf16; ",
        None => "",
    };
    let error = match bf16.error {
        Some(error) => format!("a convolution in bf16 is within {:.1} % of f32", 100.0 * error),
        None => "libtorch has no convolution in bf16".to_string(),
    };
    let slowdown =
        bf16.slowdown.map_or(String::new(), |s| format!(" and takes {s:.2} times as long"));
    format!("{chosen} ({instructions}{error}{slowdown})")
}

/// The instruction sets that matter to the network.
fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ];
        known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}

/// A line of /proc/meminfo, in GiB.
fn memory(key: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / (1 << 20) as f64)
}

/// The memory limit of this process's control group: version 2, then version 1.
fn memory_limit() -> Option<f64> {
    // Version 1 writes "no limit" as a number near the largest; no machine has that much.
    const NO_LIMIT: u64 = 1 << 60;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let files = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => Some(("/sys/fs/cgroup", group, "memory.max")),
            "memory" => Some(("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes")),
            _ => None,
        }
    });
    let limit = files
        // Inside a container the group may be mounted as the root.
        .flat_map(|(root, group, file)| [format!("{root}{group}/{file}"), format!("{root}/{file}")])
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
        .filter(|&bytes: &u64| bytes < NO_LIMIT)
        .min()?;
    Some(limit as f64 / (1u64 << 30) as f64)
}

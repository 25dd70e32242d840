//! `picker doctor`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Exit, Global};
use crate::model::device::Libtorch;

/// Shows what this program sees of the machine and of libtorch
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
}

pub(super) fn run(args: &DoctorArgs, _global: &Global) -> Result<Exit> {
    let report = Report {
        schema: 1,
        picker_version: env!("CARGO_PKG_VERSION"),
        libtorch: Libtorch::query(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        cpu_features: cpu_features(),
        memory_total_gib: memory("MemTotal:"),
        memory_available_gib: memory("MemAvailable:"),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(Exit::Done);
    }
    let gib = |value: Option<f64>| value.map_or("unknown".into(), |gib| format!("{gib:.1} GiB"));
    println!("picker     {}", report.picker_version);
    println!("libtorch   {}", report.libtorch.version);
    println!(
        "devices    cpu{}",
        match report.libtorch.cuda_devices {
            0 => "; libtorch sees no CUDA device".to_string(),
            n => format!(", {n} CUDA"),
        }
    );
    println!("threads    {}", report.threads);
    println!("processor  {}", report.cpu_features.join(" "));
    println!("precision  {}", if report.libtorch.fast_bf16 { "bf16" } else { "f32" });
    println!(
        "memory     {}, {} free",
        gib(report.memory_total_gib),
        gib(report.memory_available_gib)
    );
    Ok(Exit::Done)
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
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / (1 << 20) as f64)
}

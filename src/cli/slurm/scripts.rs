//! The batch scripts of a run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::cli::Global;
use crate::error::Error;
use crate::settings::Given;
use crate::slurm;

/// What the jobs take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Jobs")]
pub(super) struct JobArgs {
    /// Partition of the jobs
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Account of the jobs
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Time limit of each job, as sbatch takes it
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Processors of each job
    #[arg(long, value_name = "N", default_value_t = 4)]
    cpus_per_task: usize,
    /// Memory of each job, as sbatch takes it [default: 1 GB a processor and 1 GB, at least 4]
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// Most tasks of the array job that run at once
    #[arg(long, value_name = "N")]
    array_throttle: Option<usize>,
    /// Partition of the job that trains
    #[arg(long, value_name = "NAME")]
    train_partition: Option<String>,
    /// Generic resources of the job that trains, as gpu:1
    #[arg(long, value_name = "GRES")]
    train_gres: Option<String>,
    /// A script with placeholders in double braces, in place of picker's own: modules, environments,
    /// containers
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

impl JobArgs {
    /// picker takes 1 GB a thread, at least 3, beside libtorch and the model.
    fn memory(&self, sbatch: &[String]) -> Option<String> {
        let own = sbatch.iter().any(|word| word.starts_with("--mem"));
        let needed = || format!("{}G", self.cpus_per_task.max(3) + 1);
        if own { self.mem.clone() } else { Some(self.mem.clone().unwrap_or_else(needed)) }
    }
}

/// Makes the scripts of one run.
pub(super) struct Scripts<'a> {
    jobs: &'a JobArgs,
    sbatch: &'a [String],
    template: (String, PathBuf),
    run: PathBuf,
    shards: usize,
    /// Options of every command.
    common: String,
}

impl<'a> Scripts<'a> {
    pub(super) fn of(
        jobs: &'a JobArgs,
        sbatch: &'a [String],
        (run, shards): (&Path, usize),
        global: &Global,
    ) -> Result<Scripts<'a>> {
        let template = match &jobs.template {
            Some(path) => (Error::read_settings_file(path)?, path.clone()),
            None => (slurm::DEFAULT_TEMPLATE.to_string(), PathBuf::from("template.sh")),
        };
        // As it was typed, since RELION's lists hold it; the scripts work in the same folder.
        let run = run.to_path_buf();
        let out = format!("--threads \"$SLURM_CPUS_PER_TASK\" --out {}", slurm::quoted(&run)?);
        let mut common = vec![out];
        if global.device != "auto" {
            common.push(format!("--device {}", slurm::quoted(Path::new(&global.device))?));
        }
        common.extend(global.memory.map(|gb| format!("--memory {gb}")));
        common.extend(global.seed.map(|seed| format!("--seed {seed}")));
        let common = common.join(" ");
        Ok(Scripts { jobs, sbatch, template, run, shards, common })
    }

    pub(super) fn train(&self, folder: &Path, given: &Given) -> Result<String> {
        let mut arguments = "train".to_string();
        // Not left to the settings file, whose paths begin where it lies: names of micrographs come
        // from paths as typed, and have to be those of the picks.
        for (key, flag) in [
            ("data.micrographs", ""),
            ("data.coordinates", " --coordinates"),
            ("data.validation", " --validation"),
        ] {
            let paths: Vec<PathBuf> =
                given.get(key).and_then(|paths| paths.try_into().ok()).unwrap_or_default();
            if !paths.is_empty() {
                arguments.push_str(flag);
            }
            for path in paths {
                arguments.push(' ');
                arguments.push_str(&slurm::quoted(&path)?);
            }
        }
        let settings = slurm::quoted(&folder.join("settings.toml"))?;
        let options = [
            ("partition", self.jobs.train_partition.clone().or(self.jobs.partition.clone())),
            ("gres", self.jobs.train_gres.clone()),
        ];
        self.script("train", &options, &format!("{arguments} --config {settings} {}", self.common))
    }

    pub(super) fn pick(&self, numbers: &[usize]) -> Result<String> {
        let options = [
            ("partition", self.jobs.partition.clone()),
            ("array", Some(slurm::array(numbers, self.jobs.array_throttle))),
        ];
        let shard = format!("--shard \"$SLURM_ARRAY_TASK_ID/{}\"", self.shards);
        self.script("pick", &options, &format!("pick {shard} {}", self.common))
    }

    pub(super) fn merge(&self) -> Result<String> {
        let options = [("partition", self.jobs.partition.clone())];
        self.script("merge", &options, &format!("merge {}", self.common))
    }

    fn script(&self, job: &str, own: &[(&str, Option<String>)], arguments: &str) -> Result<String> {
        let log = if job == "pick" { "%x-%A_%a.log" } else { "%x-%j.log" };
        let log = std::path::absolute(self.run.join("slurm").join(log))?.display().to_string();
        let mut options = vec![
            ("job-name", Some(format!("picker-{job}"))),
            ("output", Some(log)),
            // A task that is requeued writes behind what it wrote before.
            ("open-mode", Some("append".into())),
            ("nodes", Some("1".into())),
            ("ntasks", Some("1".into())),
            ("cpus-per-task", Some(self.jobs.cpus_per_task.to_string())),
            ("mem", self.jobs.memory(self.sbatch)),
            ("time", self.jobs.time.clone()),
            ("account", self.jobs.account.clone()),
            // A minute for the micrograph in hand, before the time limit.
            ("signal", Some("B:TERM@60".into())),
            ("requeue", Some(String::new())),
        ];
        options.extend(own.iter().cloned());
        let program = slurm::quoted(&std::env::current_exe()?)?;
        let folder = slurm::quoted(&std::env::current_dir()?)?;
        let environment = format!(
            "echo \"picker-{job}: host $(hostname), job $SLURM_JOB_ID, task \
             ${{SLURM_ARRAY_TASK_ID:-none}}, start $((${{SLURM_RESTART_COUNT:-0}} + 1)), \
             $SLURM_CPUS_PER_TASK processors, $(date -Is)\""
        );
        let values = [
            ("directives", slurm::directives(&options, self.sbatch)?),
            ("environment", environment),
            ("folder", folder),
            ("command", format!("{program} {arguments}")),
            ("program", program),
            ("arguments", arguments.to_string()),
            ("run", slurm::quoted(&self.run)?),
            ("job", job.to_string()),
        ];
        let (text, path) = &self.template;
        Ok(slurm::fill(text, path, &values)?)
    }
}

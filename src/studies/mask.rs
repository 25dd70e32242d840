//! Masks: micrographs → where particles can be picked, as MRC, a table of their quality, and the list
//! of those that are worth picking.
//!
//! A record beside each mask says what it was made from, so that the same command makes only what is
//! missing or out of date.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::detect::cut;
use crate::error::{Error, Result};
use crate::mask::{self, Settings};
use crate::micrograph::mrc::{self, Mode};
use crate::micrograph::{self, Identity, Source};
use crate::model::Machine;
use crate::preprocess;
use crate::publish::publish_text;
use crate::run::{Cancel, Failure, Output, RunDir, beside, fingerprint};
use crate::scale::Scale;
use crate::stages::budget::Budget;
use crate::stages::load::load_anew;
use crate::stages::pick::read_peaks;
use crate::stages::workers::in_order;
use crate::star;
use crate::units::PixelSize;

/// The layout of a record.
const SCHEMA: u32 = 1;

/// All that one masking needs.
pub struct Job<'a> {
    /// What is masked.
    pub settings: &'a Settings,
    /// Micrographs with a larger masked share are not listed as good.
    pub most_masked: f64,
    /// The size of particles.
    pub scale: Scale<'a>,
    /// The STAR file that lists the micrographs, if one does.
    pub listed_in: Option<&'a Path>,
    /// Where everything goes.
    pub out: &'a Path,
    /// The run whose picks are put into the table.
    pub run: &'a RunDir,
    /// What it runs on.
    pub machine: &'a Machine,
}

/// What happens while masks are made.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many of the micrographs have been dealt with.
    At(usize),
    /// Something that a user should read.
    Warning(&'a str),
    /// A micrograph could not be masked.
    Failed(&'a Failure),
}

/// How a masking ended.
#[derive(Debug, Default)]
pub struct Summary {
    /// Masks in place.
    pub masks: usize,
    /// Of these, made by an earlier run.
    pub kept: usize,
    /// Of the micrographs, those that are listed as good.
    pub good: usize,
    /// The table of the quality.
    pub quality: PathBuf,
    /// The list of good micrographs.
    pub listed: PathBuf,
}

/// What is known of a mask; written after it.
#[derive(Serialize, Deserialize)]
struct Record {
    schema: u32,
    picker_version: String,
    micrograph: String,
    input: Identity,
    /// Stands for all that was asked.
    asked: String,
    mask: Output,
    /// Of the area.
    masked_share: f64,
}

/// Makes the masks of all micrographs, the table and the list; nothing where every micrograph fails.
pub fn run(
    job: &Job,
    sources: &[Source],
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Summary> {
    let mut summary = Summary {
        quality: job.out.join("quality.star"),
        listed: job.out.join("micrographs_good.star"),
        ..Summary::default()
    };
    let mut shares: Vec<(&Source, f64)> = Vec::new();
    let budget = Budget::of(job.machine);
    let work = |(): &(), _: usize, source: &Source| job.mask(source, &budget);
    let take = |order: usize, made: Result<Made>| {
        let source = &sources[order];
        match made {
            Ok(Made { record, kept, warnings }) => {
                warnings.iter().for_each(|warning| observe(Event::Warning(warning)));
                summary.masks += 1;
                summary.kept += usize::from(kept);
                shares.push((source, record.masked_share));
            }
            Err(error) if error.stops_run() => return Err(error),
            Err(error) => observe(Event::Failed(&Failure::new(&source.name, &error))),
        }
        observe(Event::At(order + 1));
        Ok(())
    };
    in_order(sources, 1, |_| Ok(()), work, take, cancel)?;
    if cancel.requested() {
        return Err(Error::Interrupted);
    }
    // Of an earlier run the table and the list stay.
    if shares.is_empty() {
        return Ok(summary);
    }
    publish_text(&summary.quality, &quality(job.run, &shares)?)?;
    let good = shares.iter().filter(|(_, share)| *share <= job.most_masked);
    let good: HashSet<&str> = good.map(|(source, _)| source.name.as_str()).collect();
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let list = micrograph::star_of(job.listed_in, &names, &|name| good.contains(name))?;
    publish_text(&summary.listed, &list)?;
    summary.good = good.len();
    Ok(summary)
}

/// The mask of a micrograph in place.
struct Made {
    record: Record,
    /// Whether an earlier run had made it.
    kept: bool,
    warnings: Vec<String>,
}

impl Job<'_> {
    fn mask(&self, source: &Source, budget: &Budget) -> Result<Made> {
        let seen_as = preprocess::Settings::default();
        let folder = RunDir::look_into(self.out);
        let asked = (self.settings, &seen_as, self.scale.key(), source.pixel_size);
        let asked = fingerprint(&(SCHEMA, env!("CARGO_PKG_VERSION"), asked))?;
        let (path, record_path) = [".mrc", ".json"]
            .map(|end| beside(self.out, &source.stem, &format!("_mask{end}")))
            .into();
        let known = std::fs::read(&record_path).ok();
        let known: Option<Record> = known.and_then(|text| serde_json::from_slice(&text).ok());
        // Another file may have had the same stem in an earlier run.
        let holds = |record: &Record| {
            record.micrograph == source.name
                && record.asked == asked
                && record.input.holds(&source.path)
                && folder.holds(&record.mask)
        };
        if let Some(record) = known.filter(holds) {
            return Ok(Made { record, kept: true, warnings: Vec::new() });
        }
        let _share = budget.take_to_prepare(source, &self.scale, &seen_as)?;
        let input = Identity::of(&source.path)?;
        let loaded = load_anew(source, &self.scale, &seen_as)?;
        let usable = mask::usable(&loaded.prepared, self.settings);
        let masked = usable.iter().filter(|own| !**own).count();
        let frame = loaded.prepared.frame;
        let binning = frame.mic.width as f64 / frame.work.width as f64;
        let pixel_size = loaded.pixel_size.map(|PixelSize(size)| PixelSize(size * binning));
        let image = usable.mapv(|own| f32::from(u8::from(own)));
        mrc::write(&path, &image, pixel_size, Mode::Int8)?;
        let record = Record {
            schema: SCHEMA,
            picker_version: env!("CARGO_PKG_VERSION").to_string(),
            micrograph: source.name.clone(),
            input,
            asked,
            mask: folder.output(&path)?,
            masked_share: masked as f64 / usable.len() as f64,
        };
        let text = serde_json::to_string_pretty(&record).map_err(|e| {
            Error::malformed(&record_path, None, e.to_string(), "use finite numbers")
        })?;
        publish_text(&record_path, &(text + "\n"))?;
        Ok(Made { record, kept: false, warnings: loaded.warnings() })
    }
}

/// The table of the quality: the masked share of each micrograph, and where the run has its picks,
/// how many these are and their mean score.
fn quality(run: &RunDir, shares: &[(&Source, f64)]) -> Result<String> {
    let picks = picks(run)?;
    let labels = ["rlnMicrographName", "pickerMaskedShare", "pickerPicks", "pickerMeanScore"];
    let rows = shares.iter().map(|(source, share)| {
        let (count, score) = picks.get(&source.name).copied().unzip();
        let score = score.flatten();
        let or_nan = |text: Option<String>| text.unwrap_or_else(|| "nan".into());
        Ok(vec![
            star::quoted(&source.name)?,
            format!("{share:.4}"),
            or_nan(count.map(|count: usize| count.to_string())),
            or_nan(score.map(|score: f64| format!("{score:.4}"))),
        ])
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    Ok(star::table("quality", &labels, rows))
}

/// The number of picks of each micrograph and their mean score, if there are any.
fn picks(run: &RunDir) -> Result<HashMap<String, (usize, Option<f64>)>> {
    let Some(list) = run.list()? else { return Ok(HashMap::new()) };
    let mut all = HashMap::new();
    for (entry, item) in run.items_of(&list) {
        let Some(peaks) = item.scored().and_then(|own| read_peaks(run, own).ok()) else { continue };
        let mut picks = peaks;
        cut(&mut picks, list.threshold_of(entry));
        let scores = picks.iter().filter_map(|pick| pick.score).map(f64::from);
        let mean = scores.sum::<f64>() / picks.len().max(1) as f64;
        all.insert(entry.micrograph.clone(), (picks.len(), (!picks.is_empty()).then_some(mean)));
    }
    Ok(all)
}

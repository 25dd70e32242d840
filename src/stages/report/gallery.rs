//! Pictures of the best, the median and the worst micrograph, with picks on them.

use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;

use super::Picked;
use crate::coords::{self, Coordinate};
use crate::detect::cut;
use crate::error::{Error, Result};
use crate::eval::Counts;
use crate::micrograph::{self, Source};
use crate::report::overlay::{self, Kind, Mark};
use crate::report::page::{Picture, Section};
use crate::run::{Item, RunDir, StageName};
use crate::stages::evaluate::Stored;
use crate::stages::pick::read_peaks;

/// Longer side of a picture in the gallery.
const PICTURE_PX: u32 = 900;

/// The best, the median and the worst micrograph, by F1 where there is truth, else by picks.
pub(super) fn gallery(run: &RunDir, items: &[Picked], judged: Option<&Stored>) -> Section {
    // Figures of other micrographs say nothing of these.
    let judged = judged
        .map(|judged| (judged, judged.counts()))
        .filter(|(_, counts)| items.iter().any(|own| counts.get(&own.item.micrograph).is_some()));
    let counts_of =
        |picked: &Picked| judged.as_ref().and_then(|(_, own)| own.get(&picked.item.micrograph));
    let value = |picked: &Picked| match &judged {
        Some(_) => counts_of(picked).map(|counts| counts.scores().f1),
        None => Some(picked.picks as f64),
    };
    let names: [&str; 3] = match judged {
        Some(_) => ["best", "median", "worst"],
        None => ["most picks", "median", "fewest picks"],
    };
    let mut ranked: Vec<(f64, &Picked)> =
        items.iter().filter_map(|item| Some((value(item)?, item))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let chosen: Vec<(&str, &Picked)> = match ranked.len() {
        0 => Vec::new(),
        1 => vec![("the only one", ranked[0].1)],
        2 => vec![(names[0], ranked[0].1), (names[2], ranked[1].1)],
        n => [(0, names[0]), (n / 2, names[1]), (n - 1, names[2])]
            .map(|(at, name)| (name, ranked[at].1))
            .to_vec(),
    };
    let (mut pictures, mut unread) = (Vec::new(), Vec::new());
    let truth = judged.as_ref().map_or(&[][..], |(judged, _)| &judged.truth);
    for (name, picked) in chosen {
        match picture(run, picked, truth) {
            Ok(jpeg) => {
                let caption = caption(name, &picked.item, counts_of(picked));
                pictures.push(Picture { caption, jpeg });
            }
            Err(error) => unread.push(error.to_string()),
        }
    }
    let mut text = match judged {
        None => "Circles have the particle's radius.".to_string(),
        Some(_) => format!(
            "Circles have the particle's radius: hits are {}, misses {}, picks without a known \
             particle {}; the bars compare their numbers.",
            Kind::Hit.look(),
            Kind::Miss.look(),
            Kind::False.look()
        ),
    };
    if !unread.is_empty() {
        text = format!("{text} Not shown: {}.", unread.join("; "));
    }
    let text = if pictures.is_empty() && unread.is_empty() { String::new() } else { text };
    Section { heading: "Pictures".into(), text, pictures, ..Section::default() }
}

fn caption(name: &str, item: &Item, counts: Option<Counts>) -> String {
    let figures = counts.map_or(String::new(), |counts| {
        let scores = counts.scores();
        format!(
            ": F1 {:.3}, {} hits, {} misses, {} false",
            scores.f1, counts.hits, counts.misses, counts.false_picks
        )
    });
    format!("{name}: {}{figures}", item.micrograph)
}

fn picture(run: &RunDir, picked: &Picked, truth: &[PathBuf]) -> Result<Vec<u8>> {
    let Picked { item, scored, threshold, .. } = picked;
    let micrograph = micrograph::read(&file_of(run, item)?)?;
    let mut picks = read_peaks(run, scored)?;
    cut(&mut picks, *threshold);
    let marks = match truth_of(run, item, truth)? {
        Some(truth) => overlay::judge(&picks, &truth, scored.particle_radius_px),
        None => overlay::plain(&picks),
    };
    let settings = overlay::Settings { side_px: PICTURE_PX, ..overlay::Settings::default() };
    let radius = scored.particle_radius_px;
    let picture = overlay::draw(&micrograph.pixels, &marks as &[Mark], radius, &settings)?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&picture).map_err(|error| {
        Error::unusable(&item.path, format!("the picture cannot be made: {error}"), "")
    })?;
    Ok(jpeg)
}

/// The file of a micrograph: its path is as seen from where picking was typed.
fn file_of(run: &RunDir, item: &Item) -> Result<PathBuf> {
    let picking = run.record_of(StageName::Pick)?;
    let from_there = picking.map(|picking| picking.working_folder.join(&item.path));
    Ok(from_there.filter(|path| path.exists()).unwrap_or_else(|| item.path.clone()))
}

/// The particles by which a micrograph was judged, if it was.
fn truth_of(run: &RunDir, item: &Item, by_hand: &[PathBuf]) -> Result<Option<Vec<Coordinate>>> {
    let here = std::env::current_dir().unwrap_or_default();
    let truth = match (by_hand, run.given_to(StageName::Evaluate, &here)?) {
        ([], None) => return Ok(None),
        ([], Some(given)) => given.resolve()?.settings.data.truth,
        (truth, _) => truth.to_vec(),
    };
    let source = Source {
        path: item.path.clone(),
        name: item.micrograph.clone(),
        stem: item.stem.clone(),
        pixel_size: None,
    };
    let matched = coords::match_to(&[source], coords::read_all(&truth)?.sets)?;
    Ok(matched.pairs.into_iter().next().map(|(_, points)| points))
}

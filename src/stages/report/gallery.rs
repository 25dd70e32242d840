//! Pictures of micrographs from the best to the worst, and of those that stand out, with their picks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;

use super::Picked;
use super::outliers::Why;
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

/// From so many micrographs on, quartiles are shown too.
const FOR_QUARTILES: usize = 8;
/// Most pictures of micrographs that stand out.
const MOST_OUTLIERS: usize = 4;

/// From the best to the worst micrograph, by F1 where there is truth, else by picks, then those that
/// stand out; and where the page shows each of them, by name.
pub(super) fn gallery(
    run: &RunDir,
    items: &[Picked],
    outliers: &[(usize, Why)],
    judged: Option<&Stored>,
) -> (Section, BTreeMap<String, String>) {
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
    let mut ranked: Vec<(f64, usize)> =
        items.iter().enumerate().filter_map(|(place, item)| Some((value(item)?, place))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let chosen =
        choose(&ranked.into_iter().map(|(_, place)| place).collect::<Vec<_>>(), judged.is_some());
    let mut chosen: Vec<(&str, usize)> = chosen;
    for (place, why) in outliers.iter().take(MOST_OUTLIERS) {
        if chosen.iter().all(|(_, other)| other != place) {
            chosen.push((why.words(), *place));
        }
    }
    let (mut pictures, mut links, mut unread) = (Vec::new(), BTreeMap::new(), Vec::new());
    let truth = judged.as_ref().map_or(&[][..], |(judged, _)| &judged.truth);
    for (name, place) in chosen {
        let picked = &items[place];
        match picture(run, picked, truth) {
            Ok(jpeg) => {
                let id = format!("picture-{}", place + 1);
                links.insert(picked.item.micrograph.clone(), format!("#{id}"));
                let caption = caption(name, picked, counts_of(picked));
                pictures.push(Picture { id, caption, jpeg });
            }
            Err(error) => unread.push(error.to_string()),
        }
    }
    let mut text = match judged {
        None => "Circles have the particle's radius.".to_string(),
        Some(_) => format!(
            "Circles have the particle's radius: hits are {}, misses {}, picks without a known \
             particle {}.",
            Kind::Hit.look(),
            Kind::Miss.look(),
            Kind::False.look()
        ),
    };
    text.push_str(" Micrographs are low-passed for display.");
    if !unread.is_empty() {
        text = format!("{text} Not shown: {}.", unread.join("; "));
    }
    let text = if pictures.is_empty() && unread.is_empty() { String::new() } else { text };
    (Section { heading: "Pictures".into(), text, pictures, ..Section::default() }, links)
}

/// Some of the micrographs, which are given from the best to the worst, with what each is.
fn choose(ranked: &[usize], judged: bool) -> Vec<(&'static str, usize)> {
    let (best, worst) = if judged { ("best", "worst") } else { ("most picks", "fewest picks") };
    let last = ranked.len().saturating_sub(1);
    let named: Vec<(&str, usize)> = match ranked.len() {
        0 => Vec::new(),
        1 => vec![("the only one", 0)],
        2 => vec![(best, 0), (worst, last)],
        n if n < FOR_QUARTILES => vec![(best, 0), ("median", n / 2), (worst, last)],
        n => vec![
            (best, 0),
            ("upper quartile", n / 4),
            ("median", n / 2),
            ("lower quartile", 3 * n / 4),
            (worst, last),
        ],
    };
    named.into_iter().map(|(name, rank)| (name, ranked[rank])).collect()
}

fn caption(name: &str, picked: &Picked, counts: Option<Counts>) -> String {
    let figures = match counts {
        Some(counts) => format!(
            "F1 {:.3}, {}, {}, {}",
            counts.scores().f1,
            Kind::Hit.count(counts.hits),
            Kind::Miss.count(counts.misses),
            Kind::False.count(counts.false_picks)
        ),
        None => Kind::Pick.count(picked.picks),
    };
    format!("{name}: {}: {figures}", picked.item.micrograph)
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
    let settings = overlay::Settings {
        side_px: PICTURE_PX,
        pixel_size: micrograph.header_pixel_size.measured(),
        ..overlay::Settings::default()
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_go_from_the_best_to_the_worst_without_showing_one_twice() {
        let names = |count: usize, judged: bool| -> Vec<(&str, usize)> {
            // Ranked backwards: the last of the list is the best.
            choose(&(0..count).rev().collect::<Vec<_>>(), judged)
        };
        assert_eq!(names(0, true), []);
        assert_eq!(names(1, true), [("the only one", 0)]);
        assert_eq!(names(3, true), [("best", 2), ("median", 1), ("worst", 0)]);
        assert_eq!(names(2, false), [("most picks", 1), ("fewest picks", 0)]);
        let places: Vec<usize> = names(9, false).into_iter().map(|(_, place)| place).collect();
        assert_eq!(places, [8, 6, 4, 2, 0]);
    }
}

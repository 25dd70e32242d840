//! Pictures of the best, the median and the worst micrograph, with picks on them.

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
pub(super) fn gallery(
    run: &RunDir,
    items: &[Picked],
    threshold: f32,
    judged: Option<&Stored>,
) -> Section {
    let counts = judged.map(Stored::counts);
    let counts_of = |picked: &Picked| counts.as_ref()?.get(&*picked.item.micrograph).copied();
    let value = |picked: &Picked| match judged {
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
    for (name, picked) in chosen {
        match picture(run, picked, threshold) {
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

fn picture(run: &RunDir, picked: &Picked, threshold: f32) -> Result<Vec<u8>> {
    let Picked { item, scored, .. } = picked;
    let micrograph = micrograph::read(&item.path)?;
    let mut picks = read_peaks(run, scored)?;
    cut(&mut picks, threshold);
    let marks = match truth_of(run, item)? {
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

/// The particles by which the pipeline judged a micrograph, if it did.
fn truth_of(run: &RunDir, item: &Item) -> Result<Option<Vec<Coordinate>>> {
    let here = std::env::current_dir().unwrap_or_default();
    let Some(given) = run.given_to(StageName::Evaluate, &here)? else { return Ok(None) };
    let truth = given.resolve()?.settings.data.truth;
    let source = Source {
        path: item.path.clone(),
        name: item.micrograph.clone(),
        stem: item.stem.clone(),
        pixel_size: None,
    };
    let matched = coords::match_to(&[source], coords::read_all(&truth)?.sets)?;
    Ok(matched.pairs.into_iter().next().map(|(_, points)| points))
}

//! Do coordinates fit their images? Coordinates + prepared images → findings, before any training.
//!
//! Particles are darker (or brighter) than what surrounds them, so the mean difference between a
//! disk and a ring around each coordinate shows whether the coordinates lie on particles. Where they
//! do not, other readings of them are tried; one that fits far better is most likely what was meant.
//! Labels may cover a corner of a micrograph only: coordinates that lie on particles are right
//! wherever they lie.

use serde::Serialize;

pub use super::evidence::FEW;
pub use super::evidence::Labelled;
use super::evidence::{Chance, distance, is_uneven, outside, places};
use super::lean::Lean;
use super::search::{Found, best_other, small_shift};
use crate::coords::Coordinate;
use crate::coords::reading::Reading;

/// Where the coordinates come from, as a command to mend them has to name it.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Å/px of the micrographs.
    pub pixel_size_a: Option<f64>,
    /// Files or folders of coordinates, as a shell takes them.
    pub coordinates: String,
    /// Coordinates that score less are left out.
    pub min_score: Option<f32>,
    /// Files or folders of micrographs, as a shell takes them.
    pub micrographs: String,
    /// One of the micrographs with coordinates.
    pub example: String,
    /// Particle radius in micrograph px.
    pub radius_px: f64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong.
    Note,
    /// Worth a look.
    Doubtful,
    /// The coordinates are too few to tell.
    Untold,
    /// The images say too little to tell.
    Unseen,
    /// Another reading fits far better, but not so that the coordinates as given are ruled out.
    Outdone,
    /// The coordinates cannot be meant for these images as they are.
    Impossible,
}

/// Something that is wrong with coordinates, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub what: String,
    /// What to type.
    pub hint: String,
}

/// Coordinates that fit no better than chance would have it,
const CHANCE: f64 = 3.0;
/// while of few, only those that fit so much worse than right ones do on the faintest images, in
/// standard errors a coordinate and in standard errors below: the others are too few to tell.
const FAINT: f64 = 0.7;
const BELOW_FAINT: f64 = 2.0;
/// or than this share of another reading: many coordinates make a few accidental hits count.
const ACCIDENT: f64 = 0.1;
/// With fewer coordinates than this, whatever is found is only a doubt.
const ENOUGH: usize = 20;

impl Origin {
    /// The command that mends coordinates that have to be read so.
    fn remedy(&self, reading: &Reading) -> String {
        format!(
            "`picker convert {} convert.to star convert.out mended {}{}` corrects them",
            self.coordinates,
            reading.keys(&self.micrographs),
            self.least()
        )
    }

    /// What leaves the same coordinates out on the way.
    fn least(&self) -> String {
        self.min_score.map_or(String::new(), |least| format!(" convert.min_score={least}"))
    }

    /// The command that shows them.
    fn picture(&self) -> String {
        let least = self.min_score.map_or(String::new(), |l| format!(" overlay.threshold={l}"));
        format!(
            "`picker overlay {} overlay.picks {} data.particle_radius_px {:.0}{least}` shows them on \
             the image",
            self.example, self.coordinates, self.radius_px
        )
    }
}

/// How the coordinates as given fit, in standard errors from chance.
pub fn as_given(labelled: &[Labelled]) -> f64 {
    let chances: Vec<Chance> = labelled.iter().map(Chance::of).collect();
    distance(labelled, &chances, &Reading::AS_GIVEN).abs()
}

/// Looks at all micrographs together; no finding means that nothing speaks against the coordinates.
///
/// Where the coordinates lie only raises a suspicion; the images decide. Coordinates that lie on
/// particles as given are right, and those that the images say too little about are doubtful. A
/// reading is only named if coordinates read so lie on particles.
pub fn check(labelled: &[Labelled], origin: &Origin) -> Vec<Finding> {
    let count: usize = labelled.iter().map(|one| one.points.len()).sum();
    if count == 0 {
        return vec![Finding {
            severity: Severity::Impossible,
            what: "there is not a single coordinate".into(),
            hint: "check that the coordinate files are the right ones".into(),
        }];
    }
    let chances: Vec<Chance> = labelled.iter().map(Chance::of).collect();
    let signed = distance(labelled, &chances, &Reading::AS_GIVEN);
    let given = signed.abs();
    let binned = in_first_quadrant(labelled);
    let better = (count >= FEW)
        .then(|| best_other(labelled, &chances, origin.pixel_size_a, signed, binned))
        .flatten();
    let mut findings = Vec::new();
    let outside = outside(labelled, &Reading::AS_GIVEN);
    if outside > 0 {
        let tolerated = if count < ENOUGH { count / 2 } else { count / 20 };
        let impossible = outside > tolerated && given < CHANCE;
        findings.push(Finding {
            severity: if impossible { Severity::Impossible } else { Severity::Doubtful },
            what: format!("{outside} of {count} coordinates lie outside their micrographs"),
            hint: if better.is_some() {
                "see the next message".into()
            } else {
                format!(
                    "were they picked on micrographs of another binning or size? {}",
                    origin.picture()
                )
            },
        });
    }
    // Coordinates that are there twice tell no more; where most crowd or lie outside, they are not few.
    let number = Some(places(labelled, &chances)).filter(|own| 2 * own >= count).unwrap_or(count);
    if count < FEW || (number < FEW && better.is_none()) {
        if findings.is_empty() {
            findings.push(too_few(count, "", origin));
        }
        return findings;
    }
    let place = if binned {
        format!("all {count} coordinates lie in the first quadrant and ")
    } else {
        "the coordinates ".into()
    };
    if let Some(Found { reading, fit, given }) = better {
        let impossible = count >= ENOUGH && given < CHANCE.max(ACCIDENT * fit);
        findings.push(Finding {
            severity: if impossible { Severity::Impossible } else { Severity::Outdone },
            what: format!(
                "{place}seem to be {}: read this way, they lie on particles ({fit:.0} standard \
                 errors from chance; as given, {given:.1})",
                reading.meaning()
            ),
            hint: origin.remedy(&reading),
        });
    } else if given < CHANCE && given >= FAINT * f64::sqrt(number as f64) - BELOW_FAINT {
        let seen = format!(" ({given:.1} standard errors from chance)");
        findings.push(too_few(count, &seen, origin));
    } else if given < CHANCE {
        findings.push(Finding {
            severity: Severity::Unseen,
            what: format!(
                "{place}lie on particles no better than chance ({given:.1} standard errors), and no \
                 other unit, binning, flip, turn or shift fits"
            ),
            hint: format!("do they belong to these micrographs? {}", origin.picture()),
        });
    } else if given >= CHANCE && is_uneven(labelled, &chances, &Reading::AS_GIVEN) {
        findings.push(Finding {
            severity: Severity::Unseen,
            what: "the coordinates lie on particles in one part of the micrographs and no better than \
                   chance in another, and no other unit, binning, flip, turn or shift fits"
                .into(),
            hint: format!(
                "is their scale wrong, perhaps in x or y alone? {}",
                origin.picture()
            ),
        });
    } else if given >= CHANCE
        && let Some(Found { reading, fit, given }) = small_shift(labelled, &chances, signed)
    {
        findings.push(Finding {
            severity: Severity::Doubtful,
            what: format!(
                "the coordinates lie on particles, but seem to be {} ({fit:.0} standard errors \
                 from chance; as given, {given:.1})",
                reading.meaning()
            ),
            hint: origin.remedy(&reading),
        });
    }
    findings
}

fn too_few(count: usize, seen: &str, origin: &Origin) -> Finding {
    Finding {
        severity: Severity::Untold,
        what: match count {
            1 => "one coordinate is too little to tell whether it lies on a particle".to_string(),
            _ => format!(
                "{count} coordinates are too few to tell whether they lie on particles{seen}"
            ),
        },
        hint: format!("add some; {}", origin.picture()),
    }
}

/// Says where coordinates that fit lie beside the middle of particles, if that is beyond doubt; less
/// than a quarter of the radius does no harm.
pub fn lean(labelled: &[Labelled], origin: &Origin) -> Option<Finding> {
    let chances: Vec<Chance> = labelled.iter().map(Chance::of).collect();
    let lean = Lean::of(labelled, &chances).filter(Lean::is_significant)?;
    let ((dx, dy), (ex, ey)) = (lean.offset, lean.error);
    // Without -0.0.
    let (dx, dy) = (dx + 0.0, dy + 0.0);
    Some(Finding {
        severity: Severity::Note,
        what: format!(
            "the coordinates lie ({dx:.1}, {dy:.1}) px off the centres that the images show \
             (standard errors {ex:.1} and {ey:.1} px), which does no harm"
        ),
        hint: format!(
            "`picker convert {} convert.to star convert.out centred convert.offset={:.1},{:.1}{}` \
             moves them",
            origin.coordinates,
            0.0 - dx,
            0.0 - dy,
            origin.least()
        ),
    })
}

/// Looks at one micrograph among others that fit; `expected` are the standard errors from chance
/// that its share of the coordinates should have.
///
/// A micrograph with little contrast shows less than the others, so only coordinates that should
/// show far more than chance are doubted for not doing so.
pub fn check_one(one: &Labelled, expected: f64, origin: &Origin) -> Vec<Finding> {
    const SURELY: f64 = 8.0;
    if one.points.is_empty() {
        return Vec::new();
    }
    let mut findings = check(std::slice::from_ref(one), origin);
    findings.retain(|finding| match finding.severity {
        Severity::Note | Severity::Untold => false,
        Severity::Unseen => expected >= SURELY,
        _ => true,
    });
    findings
}

fn in_first_quadrant(labelled: &[Labelled]) -> bool {
    labelled.iter().all(|one| {
        let mic = one.prepared.frame.mic;
        let near_origin = |p: &Coordinate| {
            p.x_mic_px < mic.width as f64 / 2.0 && p.y_mic_px < mic.height as f64 / 2.0
        };
        one.points.iter().all(near_origin)
    })
}

#[cfg(test)]
mod tests;

//! Shifts in tables of particles: RELION's refinement leaves coordinates where particles were cut out
//! and writes beside them how far the particle lies from there (`rlnOriginXAngst`, `rlnOriginX`).
//! The particle is at the coordinate less the origin.

use std::path::Path;

use super::number;
use crate::error::{Error, Result};
use crate::star::{Block, Row};

/// The shifts of a table.
pub(super) struct Shifts {
    x: usize,
    y: usize,
    /// Micrograph px of one unit, by optics group; one without a name where there are no groups.
    scales: Vec<(Option<String>, f64)>,
    group: Option<usize>,
    /// What the scale was taken from, in words.
    from: String,
}

impl Shifts {
    /// Those of a table, if it has any that is not 0.
    pub(super) fn of(path: &Path, blocks: &[Block], block: &Block) -> Result<Option<Shifts>> {
        let both = |x: &str, y: &str| block.column(x).zip(block.column(y));
        let in_angstrom = both("rlnOriginXAngst", "rlnOriginYAngst");
        let Some((x, y)) = in_angstrom.or_else(|| both("rlnOriginX", "rlnOriginY")) else {
            return Ok(None);
        };
        let is_shift = |value: &str| value.parse::<f64>().is_ok_and(|value| value != 0.0);
        if !block.rows.iter().any(|row| is_shift(&row.values[x]) || is_shift(&row.values[y])) {
            return Ok(None);
        }
        let group = block.column("rlnOpticsGroup");
        if in_angstrom.is_none() {
            let from = "taken as px of the micrograph".to_string();
            return Ok(Some(Shifts { x, y, scales: vec![(None, 1.0)], group: None, from }));
        }
        for label in ["rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize"] {
            let sizes = pixel_sizes(blocks, block, label);
            if let Some((_, first)) = sizes.first() {
                let from = format!("at {first} Å/px ({label})");
                let scales = sizes.into_iter().map(|(group, size)| (group, 1.0 / size)).collect();
                return Ok(Some(Shifts { x, y, scales, group, from }));
            }
        }
        Err(Error::malformed(
            path,
            None,
            "its shifts (rlnOriginXAngst) are in Å, and it has no rlnMicrographPixelSize",
            "add rlnMicrographPixelSize to its optics table, or take both columns of shifts out",
        ))
    }

    /// What a row adds to its coordinate.
    pub(super) fn of_row(&self, path: &Path, row: &Row) -> Result<(f64, f64)> {
        let own = self.group.map(|column| row.values[column].as_str());
        let scale = self
            .scales
            .iter()
            .find(|(group, _)| group.is_none() || group.as_deref() == own)
            .map(|(_, scale)| *scale);
        let scale = scale.ok_or_else(|| {
            let what = format!("optics group {} has no pixel size", own.unwrap_or_default());
            Error::malformed(path, row.line, what, "add it to the optics table")
        })?;
        let of = |column: usize| Ok(-scale * number(path, row.line, &row.values[column])?);
        Ok((of(self.x)?, of(self.y)?))
    }

    /// What is said of shifts that were applied.
    pub(super) fn note(&self, path: &Path, shifts: &[(f64, f64)]) -> String {
        let farthest = shifts.iter().map(|(x, y)| x.hypot(*y)).fold(0.0, f64::max);
        format!(
            "{}: the shifts of its particles (rlnOriginX, rlnOriginY), up to {farthest:.1} px, are \
             applied, {}; `picker convert` with convert.ignore_shifts leaves them out",
            path.display(),
            self.from
        )
    }
}

/// The pixel size of each optics group, or of all particles.
fn pixel_sizes(blocks: &[Block], block: &Block, label: &str) -> Vec<(Option<String>, f64)> {
    let size = |text: &str| text.parse::<f64>().ok().filter(|size| *size > 0.0 && size.is_finite());
    if let Some(own) = block.column(label).zip(block.rows.first()) {
        return size(&own.1.values[own.0]).map(|size| (None, size)).into_iter().collect();
    }
    let Some(optics) = blocks.iter().find(|other| other.name == "optics") else {
        return Vec::new();
    };
    let Some(column) = optics.column(label) else { return Vec::new() };
    let group = optics.column("rlnOpticsGroup");
    let pair = |row: &Row| {
        let group = group.map(|column| row.values[column].clone());
        Some((group, size(&row.values[column])?))
    };
    optics.rows.iter().filter_map(pair).collect()
}

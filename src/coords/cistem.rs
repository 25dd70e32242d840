//! Tables of cisTEM, which are STAR with labels of its own and positions in Å.

use std::collections::BTreeMap;
use std::path::Path;

use super::format::Content;
use super::{Coordinate, Coordinates, number};
use crate::error::{Error, Result};
use crate::star::Block;

/// Reads such a table; nothing if it is none.
pub(super) fn read(path: &Path, blocks: &[Block]) -> Result<Option<Content>> {
    let find = |block: &Block| {
        let x = block.column("cisTEMOriginalXPosition")?;
        Some((x, block.column("cisTEMOriginalYPosition")?))
    };
    let Some((block, (x, y))) = blocks.iter().find_map(|block| Some((block, find(block)?))) else {
        let is_cistem = |block: &Block| block.labels.iter().any(|own| own.starts_with("cisTEM"));
        if !blocks.iter().any(is_cistem) {
            return Ok(None);
        }
        return Err(Error::unusable(
            path,
            "a table of cisTEM without positions in micrographs (cisTEMOriginalXPosition)",
            "export the particles to RELION in cisTEM",
        ));
    };
    let name = block.column("cisTEMOriginalImageFilename");
    let Some((name, size)) = name.zip(block.column("cisTEMPixelSize")) else {
        return Err(Error::malformed(
            path,
            None,
            "a table of cisTEM: its positions are in Å, and it lacks cisTEMPixelSize or \
             cisTEMOriginalImageFilename",
            "export it with these columns, or export the particles to RELION in cisTEM",
        ));
    };
    let mut found: BTreeMap<&str, Vec<Coordinate>> = BTreeMap::new();
    for row in &block.rows {
        let value = |column: usize| number(path, row.line, &row.values[column]);
        let size = value(size)?;
        if size <= 0.0 {
            return Err(Error::malformed(
                path,
                row.line,
                format!("{size} is not a pixel size"),
                "correct cisTEMPixelSize",
            ));
        }
        found.entry(row.values[name].trim_matches(['\'', '"'])).or_default().push(Coordinate {
            x_mic_px: value(x)? / size,
            y_mic_px: value(y)? / size,
            score: None,
        });
    }
    let sets = found.into_iter().map(|(name, points)| Coordinates::new(name, points)).collect();
    Ok(Some(Content::of(sets, true)))
}

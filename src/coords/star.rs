//! RELION STAR: one file a micrograph, one table for many, and the lists that RELION reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Content, Coordinate, Coordinates, micrograph_of, number, score, whole};
use crate::error::{Error, Result};
use crate::publish::publish_text;
use crate::star::{self, Block, quoted, table};

const LABELS: [&str; 5] = [
    "rlnCoordinateX",
    "rlnCoordinateY",
    "rlnAutopickFigureOfMerit",
    "rlnClassNumber",
    "rlnAnglePsi",
];
const LIST_BLOCK: &str = "coordinate_files";

/// Reads picks of one micrograph, a particle table of many, or a list of coordinate files.
pub(super) fn read(path: &Path) -> Result<Content> {
    let blocks = star::read(path)?;
    if let Some(list) = blocks.iter().find(|block| block.name == LIST_BLOCK) {
        return read_listed(path, list);
    }
    let find = |block: &Block| Some((block.column(LABELS[0])?, block.column(LABELS[1])?));
    let Some((block, (x, y))) = blocks.iter().find_map(|block| Some((block, find(block)?))) else {
        if blocks.iter().all(|block| block.rows.is_empty()) {
            // What RELION writes where nothing was found.
            return Ok(Content::of_one(path, Vec::new()));
        }
        let labels =
            blocks.iter().flat_map(|b| b.labels.clone()).take(4).collect::<Vec<_>>().join(", ");
        return Err(Error::unusable(
            path,
            format!("no table has rlnCoordinateX and rlnCoordinateY (found {labels}, …)"),
            "give a file of particle coordinates",
        ));
    };
    if let Some(other) = blocks.iter().filter(|other| find(other).is_some()).nth(1) {
        return Err(Error::malformed(
            path,
            other.rows.first().map(|row| row.line),
            format!("a second table of coordinates, data_{}", other.name),
            "keep one table a file",
        ));
    }
    let merit = block.column(LABELS[2]).or(block.column("rlnParticleScore"));
    let micrograph = block.column("rlnMicrographName");
    let own = micrograph_of(path).to_string_lossy().into_owned();
    let mut found: BTreeMap<&str, Vec<Coordinate>> = BTreeMap::new();
    if micrograph.is_none() {
        found.insert(&own, Vec::new());
    }
    for row in &block.rows {
        let name = micrograph.map_or(own.as_str(), |column| row.values[column].as_str());
        found.entry(name).or_default().push(Coordinate {
            x_mic_px: number(path, row.line, &row.values[x])?,
            y_mic_px: number(path, row.line, &row.values[y])?,
            score: merit.and_then(|column| score(&row.values[column])),
        });
    }
    let coordinates = found
        .into_iter()
        .map(|(name, points)| Coordinates { micrograph: name.to_string(), points })
        .collect();
    Ok(Content { coordinates, named: micrograph.is_some() })
}

/// Follows a list of coordinate files; its paths are relative to the project, as RELION has them.
fn read_listed(list: &Path, block: &Block) -> Result<Content> {
    let columns = block.column("rlnMicrographName").zip(block.column("rlnMicrographCoordinates"));
    let Some((name, file)) = columns else {
        return Err(Error::unusable(
            list,
            "the list lacks rlnMicrographName or rlnMicrographCoordinates",
            "",
        ));
    };
    let mut coordinates = Vec::new();
    for row in &block.rows {
        let listed = PathBuf::from(&row.values[file]);
        let beside =
            list.parent().unwrap_or(Path::new("")).join(listed.file_name().unwrap_or_default());
        let path = if listed.exists() || !beside.exists() { listed } else { beside };
        if is_list(&path) {
            return Err(Error::malformed(
                list,
                row.line,
                "a list that lists a list",
                "name coordinate files",
            ));
        }
        let points = super::read(&path)?.into_iter().flat_map(|c| c.points).collect();
        coordinates.push(Coordinates { micrograph: row.values[name].clone(), points });
    }
    Ok(Content { coordinates, named: true })
}

/// Whether a STAR file is a list of coordinate files.
pub(super) fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "star")
        && std::fs::read_to_string(path)
            .is_ok_and(|text| text.lines().any(|line| line.trim() == format!("data_{LIST_BLOCK}")))
}

/// Writes the picks of one micrograph as RELION's own autopick does: whole px, best first, a table
/// without rows where there are none.
pub fn write(path: &Path, points: &[Coordinate]) -> Result<()> {
    publish_text(path, &text(points))
}

fn text(points: &[Coordinate]) -> String {
    let mut points = points.to_vec();
    points.sort_by(|a, b| b.score.unwrap_or(0.0).total_cmp(&a.score.unwrap_or(0.0)));
    let rows = points.iter().map(|point| {
        vec![
            format!("{:12.6}", whole(point.x_mic_px) as f64),
            format!("{:12.6}", whole(point.y_mic_px) as f64),
            format!("{:12.6}", point.score.unwrap_or(0.0)),
            format!("{:12}", 0),
            format!("{:12.6}", 0.0),
        ]
    });
    table("", &LABELS, rows)
}

/// Writes the lists that lead RELION to the files: `autopick.star` for version 4 and later,
/// `coords_suffix_autopick.star` for 3.1, which holds the micrographs' list.
///
/// `files` are micrographs, named exactly as in that list, with their coordinate files.
pub fn write_lists(folder: &Path, files: &[(String, PathBuf)], micrographs: &Path) -> Result<()> {
    let rows = files.iter().map(|(name, path)| vec![quoted(name), quoted(&path.to_string_lossy())]);
    let list = table(LIST_BLOCK, &["rlnMicrographName", "rlnMicrographCoordinates"], rows);
    publish_text(&folder.join("autopick.star"), &list)?;
    let suffix = format!("{}\n", micrographs.display());
    publish_text(&folder.join("coords_suffix_autopick.star"), &suffix)
}

/// The head of one table for all micrographs, as cryoSPARC imports it.
pub fn particles_head() -> String {
    let labels = ["rlnMicrographName", LABELS[0], LABELS[1], LABELS[2]];
    table("", &labels, std::iter::empty()).trim_end().to_string() + " \n"
}

/// Rows of that table: base names, since cryoSPARC keeps micrographs under other folders.
pub fn particles_rows(micrograph: &str, points: &[Coordinate]) -> String {
    let base = Path::new(micrograph).file_name().unwrap_or_default().to_string_lossy();
    let row = |point: &Coordinate| {
        format!(
            "{} {:12.6} {:12.6} {:12.6} \n",
            quoted(&base),
            whole(point.x_mic_px) as f64,
            whole(point.y_mic_px) as f64,
            point.score.unwrap_or(0.0)
        )
    };
    points.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_picks_make_a_table_without_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m_autopick.star");
        write(&path, &[]).unwrap();
        let read = super::super::read(&path).unwrap();
        assert_eq!(read, [Coordinates { micrograph: "m".into(), points: Vec::new() }]);
    }

    #[test]
    fn a_particle_table_is_divided_by_micrograph_and_optics_are_not_particles() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("particles.star");
        let text = "data_optics\nloop_\n_rlnOpticsGroup #1\n1\n\ndata_particles\nloop_\n_rlnCoordinateX #1\n\
            _rlnMicrographName #2\n_rlnCoordinateY #3\n_rlnAutopickFigureOfMerit #4\n\
            5 b.mrc 6 0.5\n1 a.mrc 2 -999.0\n7 b.mrc 8 0.25\n";
        std::fs::write(&path, text).unwrap();
        let read = super::super::read(&path).unwrap();
        assert_eq!(
            read.iter().map(|c| (c.micrograph.as_str(), c.points.len())).collect::<Vec<_>>(),
            [("a.mrc", 1), ("b.mrc", 2)]
        );
        assert_eq!((read[0].points[0].score, read[1].points[1].score), (None, Some(0.25)));
    }

    #[test]
    fn a_coordinate_that_is_no_number_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.star");
        std::fs::write(&path, "data_\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\nnan 4\n")
            .unwrap();
        assert!(super::super::read(&path).unwrap_err().to_string().contains("line 6"));
    }
}

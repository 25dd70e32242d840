//! RELION STAR: one file a micrograph, one table for many, and the lists that RELION reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::format::{Content, CoordinateFormat, TableWriter};
use super::shifts::Shifts;
use super::{Coordinate, Coordinates, Unread, cistem, micrograph_of, number, score, whole};
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

/// RELION STAR.
pub(super) struct Star;

impl CoordinateFormat for Star {
    fn name(&self) -> &'static str {
        "star"
    }

    fn title(&self) -> &'static str {
        "RELION STAR"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["star"]
    }

    fn claims(&self, path: &Path) -> bool {
        suffix_of(path).is_some()
            || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("star"))
    }

    fn is_list(&self, path: &Path) -> bool {
        is_list(path)
    }

    fn read(&self, path: &Path) -> Result<Content> {
        match suffix_of(path) {
            Some(suffix) => read_suffixed(path, suffix),
            None => read(path),
        }
    }

    fn write(&self, path: &Path, own: &Coordinates, _box_size_px: Option<u32>) -> Result<()> {
        write(path, &own.points)
    }

    fn table_writer(&self) -> Option<TableWriter> {
        Some(write_particles)
    }
}

/// Reads picks of one micrograph, a particle table of many, or a list of coordinate files.
fn read(path: &Path) -> Result<Content> {
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
        if let Some(content) = cistem::read(path, &blocks)? {
            return Ok(content);
        }
        let labels =
            blocks.iter().flat_map(|b| b.labels.clone()).take(4).collect::<Vec<_>>().join(", ");
        return Err(Error::unusable(
            path,
            format!("no table has rlnCoordinateX and rlnCoordinateY (found {labels}, …)"),
            "give a file of particle coordinates",
        ));
    };
    if ["rlnCoordinateZ", "rlnTomoName"].iter().any(|label| block.column(label).is_some()) {
        return Err(Error::malformed(
            path,
            None,
            "particles of tomograms: they have a third coordinate",
            "give particles of micrographs",
        ));
    }
    if let Some(other) = blocks.iter().filter(|other| find(other).is_some()).nth(1) {
        return Err(Error::malformed(
            path,
            other.rows.first().map(|row| row.line),
            format!("a second table of coordinates, data_{}", other.name),
            "keep one table a file",
        ));
    }
    let micrograph = block.column("rlnMicrographName");
    let first = blocks.iter().position(|b| b == block).unwrap_or_default();
    if micrograph.is_none() && first > 0 {
        return Err(Error::malformed(
            path,
            None,
            format!(
                "the table data_{} stands before the coordinates: RELION would read that one as \
                 coordinates",
                blocks[0].name
            ),
            "keep only the table of coordinates",
        ));
    }
    let merit = block.column(LABELS[2]).or(block.column("rlnParticleScore"));
    let own = micrograph_of(path).to_string_lossy().into_owned();
    let merit = merit.filter(|column| has_scores(block, *column));
    let shifts = Shifts::of(path, &blocks, block)?;
    let mut found: BTreeMap<&str, Coordinates> = BTreeMap::new();
    if micrograph.is_none() {
        found.insert(&own, Coordinates::new(own.as_str(), Vec::new()));
    }
    for row in &block.rows {
        let name = micrograph.map_or(own.as_str(), |column| row.values[column].as_str());
        let set = found.entry(name).or_insert_with(|| Coordinates::new(name, Vec::new()));
        let shift = shifts.as_ref().map(|shifts| shifts.of_row(path, row)).transpose()?;
        let (dx, dy) = shift.unwrap_or_default();
        set.shifts.extend(shift);
        set.points.push(Coordinate {
            x_mic_px: number(path, row.line, &row.values[x])? + dx,
            y_mic_px: number(path, row.line, &row.values[y])? + dy,
            score: merit.and_then(|column| score(&row.values[column])),
        });
    }
    let sets: Vec<Coordinates> = found.into_values().collect();
    let all: Vec<(f64, f64)> = sets.iter().flat_map(|own| own.shifts.iter().copied()).collect();
    let note = shifts.map(|shifts| shifts.note(path, &all));
    Ok(Content { note, ..Content::of(sets, micrograph.is_some()) })
}

/// Whether a column of scores holds any: picks by hand have 0 or -999 throughout.
fn has_scores(block: &Block, column: usize) -> bool {
    block.rows.iter().any(|row| score(&row.values[column]).is_some_and(|score| score != 0.0))
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
    let mut content = Content::of(Vec::new(), true);
    for row in &block.rows {
        let path = locate(list, Path::new(&row.values[file]));
        if is_list(&path) || suffix_of(&path).is_some() {
            return Err(lists_a_list(list, Some(row.line)));
        }
        content.follow(&path, row.values[name].clone());
    }
    Ok(content)
}

fn lists_a_list(list: &Path, line: Option<usize>) -> Error {
    Error::malformed(list, line, "a list that lists a list", "name coordinate files")
}

/// A listed file: relative to the project, which is the working folder or one above the list; if
/// the job's folder was moved, at the same place below the list.
fn locate(list: &Path, listed: &Path) -> PathBuf {
    let folder = list.parent().unwrap_or(Path::new(""));
    let parts: Vec<_> = listed.components().collect();
    let moved = (1..parts.len()).map(|from| folder.join(parts[from..].iter().collect::<PathBuf>()));
    std::iter::once(listed.to_path_buf())
        .chain(folder.ancestors().map(|above| above.join(listed)))
        .chain(moved)
        .find(|path| path.is_file())
        .unwrap_or_else(|| listed.to_path_buf())
}

/// Follows the marker of RELION 3.1, `coords_suffix_NAME.star`: every `*_NAME.star` below its
/// folder (or whatever its extension is).
fn read_suffixed(marker: &Path, suffix: &str) -> Result<Content> {
    let folder = match marker.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut content = Content::of(Vec::new(), true);
    for entry in walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                content.unread.push(Unread::new(&path, &Error::io("read", &path)(error.into())));
                continue;
            }
        };
        let name = entry.file_name().to_string_lossy();
        let is_marker = suffix_of(entry.path()).is_some();
        let Some(stem) = name.strip_suffix(suffix).filter(|_| !is_marker) else {
            continue;
        };
        let tree = entry.path().strip_prefix(folder).ok().and_then(Path::parent);
        let micrograph = tree.unwrap_or(Path::new("")).join(stem);
        if is_list(entry.path()) {
            return Err(lists_a_list(marker, None));
        }
        content.follow(entry.path(), micrograph.to_string_lossy().into_owned());
    }
    Ok(content)
}

/// The suffix that a marker's name tells: `_autopick.star` of `coords_suffix_autopick.star`.
fn suffix_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("coords_suffix").filter(|s| s.starts_with('_'))
}

/// Whether a STAR file is a list of coordinate files.
fn is_list(path: &Path) -> bool {
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

/// Writes the list that leads RELION 4 and later to coordinate files, `autopick.star`; its path.
///
/// `files` are micrographs, named exactly as in their own list, with their coordinate files.
pub fn write_list(folder: &Path, files: &[(String, PathBuf)]) -> Result<PathBuf> {
    let row = |(name, path): &(String, PathBuf)| {
        Ok(vec![quoted(name)?, quoted(&path.to_string_lossy())?])
    };
    let rows = files.iter().map(row).collect::<Result<Vec<_>>>()?;
    let list = table(LIST_BLOCK, &["rlnMicrographName", "rlnMicrographCoordinates"], rows);
    let path = folder.join("autopick.star");
    publish_text(&path, &list)?;
    Ok(path)
}

/// The marker file that leads RELION 3.1 to the coordinate files beside it.
pub fn marker_path(folder: &Path) -> PathBuf {
    folder.join("coords_suffix_autopick.star")
}

/// Writes the marker file, which holds the path of the micrographs' list.
pub fn write_marker(folder: &Path, micrographs: &Path) -> Result<()> {
    publish_text(&marker_path(folder), &format!("{}\n", micrographs.display()))
}

/// Writes one table of all micrographs' particles, as cryoSPARC imports it.
pub fn write_particles(path: &Path, all: &[Coordinates]) -> Result<()> {
    let rows = all.iter().map(|own| particles_rows(&own.micrograph, &own.points));
    publish_text(path, &format!("{}{} \n", particles_head(), rows.collect::<Result<String>>()?))
}

/// The head of one table for all micrographs, as cryoSPARC imports it.
pub fn particles_head() -> String {
    let labels = ["rlnMicrographName", LABELS[0], LABELS[1], LABELS[2]];
    table("", &labels, std::iter::empty()).trim_end().to_string() + " \n"
}

/// Rows of that table: base names, since cryoSPARC keeps micrographs under other folders.
///
/// # Errors
/// `Setting` when STAR cannot hold the name ([`crate::star::can_be_written`]).
pub fn particles_rows(micrograph: &str, points: &[Coordinate]) -> Result<String> {
    let base = quoted(&Path::new(micrograph).file_name().unwrap_or_default().to_string_lossy())?;
    let row = |point: &Coordinate| {
        format!(
            "{} {:12.6} {:12.6} {:12.6} \n",
            base,
            whole(point.x_mic_px) as f64,
            whole(point.y_mic_px) as f64,
            point.score.unwrap_or(0.0)
        )
    };
    Ok(points.iter().map(row).collect())
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
        assert_eq!(read, [Coordinates { file: path, ..Coordinates::new("m", Vec::new()) }]);
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

    fn read_text(text: &str) -> Result<Content> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.star");
        std::fs::write(&path, text).unwrap();
        super::read(&path)
    }

    #[test]
    fn shifts_of_particles_are_applied_in_px_of_the_micrograph_and_said() {
        let optics = "data_optics\nloop_\n_rlnOpticsGroup\n_LABEL\n1 2.0\n2 4.0\n\n";
        let rows = "data_particles\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnMicrographName\n\
            _rlnOpticsGroup\n_rlnOriginXAngst\n_rlnOriginYAngst\n\
            100 200 a.mrc 1 8 -4\n100 200 b.mrc 2 8 -4\n";
        for label in ["rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize"] {
            let content = read_text(&(optics.replace("LABEL", label) + rows)).unwrap();
            let at = |own: &Coordinates| (own.points[0].x_mic_px, own.points[0].y_mic_px);
            assert_eq!(
                content.coordinates.iter().map(at).collect::<Vec<_>>(),
                [(96.0, 202.0), (98.0, 201.0)]
            );
            let note = content.note.unwrap();
            assert!(note.contains("up to 4.5 px") && note.contains(label), "{note}");
            let mut own = content.coordinates[0].clone();
            own.without_shifts();
            assert_eq!(at(&own), (100.0, 200.0));
        }
        let error = read_text(&(optics.replace("LABEL", "rlnImagePixelSize") + rows)).unwrap_err();
        assert!(error.to_string().contains("are in Å"), "{error}");
        let in_px = rows.replace("Angst", "");
        assert_eq!(read_text(&in_px).unwrap().coordinates[0].points[0].x_mic_px, 92.0);
        let none = rows.replace("8 -4", "0 0.0");
        assert!(read_text(&none).unwrap().note.is_none());
    }

    #[test]
    fn picks_by_hand_have_no_scores() {
        let text = |scores: [&str; 2]| {
            let head =
                "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnAutopickFigureOfMerit\n";
            format!("{head}1 2 {}\n3 4 {}\n", scores[0], scores[1])
        };
        let scores = |scores| {
            let content = read_text(&text(scores)).unwrap();
            content.coordinates[0].points.iter().map(|point| point.score).collect::<Vec<_>>()
        };
        assert_eq!(scores(["0.000000", "0"]), [None, None]);
        assert_eq!(scores(["-999", "0"]), [None, None]);
        assert_eq!(scores(["-9999.0", "0.5"]), [None, Some(0.5)]);
        assert_eq!(scores(["0", "0.5"]), [Some(0.0), Some(0.5)]);
    }

    #[test]
    fn positions_of_cistem_are_in_angstrom() {
        let text = "data_\nloop_\n_cisTEMPixelSize #1\n_cisTEMOriginalImageFilename #2\n\
            _cisTEMOriginalXPosition #3\n_cisTEMOriginalYPosition #4\n2.0 'a.mrc' 160.0 320.0\n";
        let content = read_text(text).unwrap();
        assert_eq!(content.coordinates[0].micrograph, "a.mrc");
        assert_eq!(content.coordinates[0].points[0].y_mic_px, 160.0);
        let error = read_text(&text.replace("cisTEMPixelSize", "cisTEMScore")).unwrap_err();
        assert!(error.to_string().contains("a table of cisTEM: its positions are in Å"), "{error}");
    }

    /// The dialects that RELION 3.1.3 was tried with: accepted, or refused with a reason where it
    /// stops or, worse, reads something else than what is written.
    #[test]
    fn coordinate_files_are_read_as_relion_reads_them_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.star");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            super::super::read(&path).map(|read| {
                let points = read.into_iter().flat_map(|own| own.points);
                points.map(|p| (p.x_mic_px, p.y_mic_px)).collect::<Vec<_>>()
            })
        };
        let head = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n";
        let two = vec![(10.0, 20.0), (30.5, 40.0)];
        for text in [
            format!("{head}10 20\n30.5 40\n"),
            format!("\n# version 30001\n\n{head}10.000000 20\n30.5 4e1"),
            format!(
                "\u{feff}# π\r\n{}10\t20\r\n  30.5 40 # last\r\n \r\n",
                head.replace('\n', "\r\n")
            ),
            format!("{}10 20\n30.5 40\n", head.replace("data_", "data_coordinates")),
            format!("{}10 20\n30.5 40\n", head.replace(" #1", "").replace(" #2", "")),
            format!("{}10 20\n30.5 40\n", head.replace(" #", "\t  #")),
            format!("{}\n# here\n\n10 20\n30.5 40\n", head.replace("loop_", "# so\nloop_")),
            format!("{head}_myOwn #3\n10 20 a\n30.5 40 \"\"\n"),
            format!("{head}10 20\n30.5 40\n\ndata_other\nloop_\n_a #1\n5\n"),
        ] {
            assert_eq!(read(&text).unwrap(), two, "{text}");
        }
        for text in ["", "data_\n", head, "# version 30001\n"] {
            assert_eq!(read(text).unwrap(), [], "{text:?}");
        }
        for (text, reason) in [
            (format!("{}10 20\n", head.replace(" #", "#")), "every value as 0"),
            (format!("{head}10 20\n# note\n30 40\n"), "row of zeros"),
            (format!("{head}10 20\n\n30 40\n"), "lose the rows"),
            (format!("data_optics\nloop_\n_a #1\n1\n\n{head}10 20\n"), "data_optics stands before"),
            (format!("{head}10\n"), "1 values for 2 labels"),
            (format!("{head}10 20 30\n"), "3 values for 2 labels"),
            (format!("{head}nan 20\n"), "not a number"),
            (format!("{head}10 inf\n"), "not a number"),
            (format!("{head}_rlnCoordinateZ\n10 20 30\n"), "particles of tomograms"),
            (format!("{}10 20\n", head.to_lowercase()), "no table has rlnCoordinateX"),
            (format!("{}10 20\n", head.replace("CoordinateX", "CordinateX")), "no table has"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("m.star"), "{text}\n{error}");
        }
    }

    #[test]
    fn relions_lists_lead_to_their_files_wherever_the_job_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("External/job005");
        let at = |x| Coordinate { x_mic_px: x, y_mic_px: 1.0, score: Some(0.5) };
        let micrographs = ["MotionCorr/job002/S/a b.mrc", "MotionCorr/job002/T/a b.mrc"];
        let files: Vec<(String, PathBuf)> = micrographs
            .iter()
            .zip(["S/a b_autopick.star", "T/a b_autopick.star"])
            .map(|(name, file)| (name.to_string(), Path::new("External/job005").join(file)))
            .collect();
        write(&job.join("S/a b_autopick.star"), &[at(1.0)]).unwrap();
        write(&job.join("T/a b_autopick.star"), &[at(2.0)]).unwrap();
        write_list(&job, &files).unwrap();
        write_marker(&job, Path::new("CtfFind/job003/micrographs_ctf.star")).unwrap();
        let seen = |folder: &Path, list: &str| {
            let read = super::super::read(&folder.join(list)).unwrap();
            let one = |own: &Coordinates| (own.micrograph.clone(), own.points[0].x_mic_px);
            read.iter().map(one).collect::<Vec<_>>()
        };
        let listed: Vec<_> = micrographs.map(String::from).into_iter().zip([1.0, 2.0]).collect();
        assert_eq!(seen(&job, "autopick.star"), listed);
        let below = ["S/a b", "T/a b"].map(String::from).into_iter().zip([1.0, 2.0]);
        let below: Vec<_> = below.collect();
        assert_eq!(seen(&job, "coords_suffix_autopick.star"), below);
        let moved = dir.path().join("elsewhere");
        std::fs::rename(&job, &moved).unwrap();
        assert_eq!(seen(&moved, "autopick.star"), listed);
        assert_eq!(seen(&moved, "coords_suffix_autopick.star"), below);
    }

    #[test]
    fn a_coordinate_that_is_no_number_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.star");
        std::fs::write(&path, "data_\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\nnan 4\n")
            .unwrap();
        assert!(super::super::read(&path).unwrap_err().to_string().contains("line 6"));
    }

    #[test]
    fn lists_and_markers_that_lead_to_each_other_end() {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("coords_suffix_autopick.star");
        std::fs::write(&marker, "mics.star\n").unwrap();
        let files = [("m.mrc".to_string(), marker.clone())];
        write_list(dir.path(), &files).unwrap();
        write_marker(dir.path(), Path::new("mics.star")).unwrap();
        let list = dir.path().join("autopick.star");
        assert!(super::super::read(&list).unwrap_err().to_string().contains("lists a list"));
        std::fs::copy(&list, dir.path().join("m_autopick.star")).unwrap();
        assert!(super::super::read(&marker).unwrap_err().to_string().contains("lists a list"));
        std::fs::remove_file(dir.path().join("m_autopick.star")).unwrap();
        // A marker in a folder below is no coordinate file of a micrograph.
        write(&dir.path().join("S/m_autopick.star"), &[]).unwrap();
        std::fs::write(dir.path().join("S/coords_suffix_autopick.star"), "mics.star\n").unwrap();
        let names: Vec<String> =
            super::super::read(&marker).unwrap().into_iter().map(|own| own.micrograph).collect();
        assert_eq!(names, ["S/m"]);
    }
}

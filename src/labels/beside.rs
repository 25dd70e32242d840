//! What lies beside files of coordinates that a person labelled: how complete they are, and what is no
//! particle.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Completeness;
use super::by_hand::{ByHand, Looked, has_record};
use super::rejected::Rejected;
use crate::coords::{self, Candidates, Collected, Coordinates, Unread};
use crate::error::{Error, Result};

/// What a person has said of a micrograph beside its particles.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    /// Whether every particle has a label.
    pub completeness: Completeness,
    /// What is no particle.
    pub rejected: Rejected,
}

/// Looks beside the file of each set of coordinates; sets of micrographs that nobody has looked at are
/// taken out, as are those of which the record cannot be read, which are the second result.
///
/// The first is empty where nothing was labelled by hand, else it has an entry for each set. A file
/// without a record that stands among labelled ones is partly labelled, as the page shows it.
pub fn look(sets: &mut Vec<Coordinates>) -> (Vec<Option<Beside>>, Vec<Unread>) {
    let stems: Vec<Option<(PathBuf, PathBuf)>> = sets.iter().map(|own| stem(&own.file)).collect();
    let labelled: BTreeSet<&Path> = stems
        .iter()
        .flatten()
        .filter(|(folder, stem)| has_record(folder, stem))
        .map(|(folder, _)| folder.as_path())
        .collect();
    if labelled.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let (mut beside, mut unread) = (Vec::new(), Vec::new());
    let mut wanted = Vec::new();
    for (own, stem) in std::mem::take(sets).into_iter().zip(&stems) {
        let among = stem.as_ref().filter(|(folder, _)| labelled.contains(folder.as_path()));
        let Some((folder, stem)) = among else {
            wanted.push(own);
            beside.push(None);
            continue;
        };
        match ByHand::read(folder, stem) {
            Ok(ByHand { state: Looked::Unseen, .. }) => {}
            Ok(ByHand { state, negatives, areas, .. }) => {
                let completeness = match state {
                    Looked::Complete => Completeness::Complete,
                    Looked::Partial | Looked::Unseen => Completeness::Partial,
                };
                let rejected = Rejected { places: negatives, areas };
                wanted.push(own);
                beside.push(Some(Beside { completeness, rejected }));
            }
            Err(error) => unread.push(unread_because(&own.file, &error)),
        }
    }
    *sets = wanted;
    (beside, unread)
}

/// Reads particles to judge picks by. Of labels by hand, those of completely labelled micrographs
/// are taken: elsewhere a pick without a label may be a particle all the same.
///
/// # Errors
/// `Unusable` for a list of candidates; `Missing` where no micrograph is labelled completely.
pub fn read_truth(paths: &[PathBuf]) -> Result<Collected> {
    let mut truth = coords::read_all(paths)?;
    if let Some(candidates) = Candidates::among(&truth) {
        return Err(candidates.refused(paths));
    }
    let (beside, damaged) = look(&mut truth.sets);
    let is_partial = |own: &Option<Beside>| matches!(own, Some(own) if own.completeness == Completeness::Partial);
    let partial = beside.iter().filter(|own| is_partial(own)).count();
    let mut beside = beside.iter();
    truth.sets.retain(|_| !beside.next().is_some_and(is_partial));
    if partial > 0 && truth.sets.is_empty() {
        return Err(Error::missing(
            "no micrograph is labelled completely by hand",
            "picks are judged where every particle has a label; mark such micrographs as complete",
        ));
    }
    let of = partial + truth.sets.len();
    let note = (partial > 0).then(|| {
        format!("not judged, since labelled by hand only in part: {partial} of {of} micrographs")
    });
    truth.remark(note, damaged);
    Ok(truth)
}

fn unread_because(file: &Path, error: &Error) -> Unread {
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    Unread { file: file.to_path_buf(), reason: format!("{error}{hint}") }
}

/// The folder and the stem of a STAR file.
fn stem(file: &Path) -> Option<(PathBuf, PathBuf)> {
    let is_star = file.extension().is_some_and(|extension| extension == "star");
    let stem = file.file_stem().filter(|_| is_star)?;
    Some((file.parent().unwrap_or(Path::new("")).to_path_buf(), PathBuf::from(stem)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coords::read_all;
    use crate::labels::by_hand::Stroke;

    fn write(folder: &Path, name: &str, state: Looked, own: ByHand) {
        ByHand { state, ..own }.write(folder, Path::new(name), name).unwrap();
    }

    #[test]
    fn each_set_has_what_lies_beside_it_and_unseen_ones_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let places = |x: f64| vec![[x, 2.0]];
        let (positives, negatives) = (places(1.0), places(9.0));
        let areas = vec![Stroke { radius: 5.0, points: places(3.0) }];
        let all = ByHand { positives, negatives, areas, ..ByHand::default() };
        write(folder, "a", Looked::Complete, all.clone());
        write(folder, "t/b", Looked::Partial, ByHand { positives: Vec::new(), ..all.clone() });
        write(folder, "c", Looked::Unseen, all.clone());
        write(folder, "d", Looked::Partial, all.clone());
        std::fs::remove_file(folder.join("d.labels.json")).unwrap();
        std::fs::remove_file(folder.join("d.negatives.star")).unwrap();
        write(folder, "e", Looked::Partial, all.clone());
        std::fs::write(folder.join("e.labels.json"), "{").unwrap();
        let text = std::fs::read_to_string(folder.join("a.labels.json")).unwrap();
        std::fs::write(folder.join("c.labels.json"), text.replace("complete", "unseen")).unwrap();
        let mut sets = read_all(&[folder.to_path_buf()]).unwrap().sets;
        let (beside, unread) = look(&mut sets);
        let names: Vec<&str> = sets.iter().map(|own| own.micrograph.as_str()).collect();
        assert_eq!(names, ["a", "d", "t/b"]);
        let of = |at: usize| beside[at].clone().unwrap();
        assert_eq!(of(0).completeness, Completeness::Complete);
        assert_eq!(of(0).rejected.places, [[9.0, 2.0]]);
        assert_eq!(of(0).rejected.areas, all.areas);
        assert_eq!(of(1).completeness, Completeness::Partial);
        assert!(of(1).rejected.is_empty());
        assert_eq!((of(2).completeness, sets[2].points.len()), (Completeness::Partial, 0));
        assert!(unread.len() == 1 && unread[0].reason.contains("e.labels.json"), "{unread:?}");
    }

    #[test]
    fn picks_are_judged_where_every_particle_has_a_label() {
        let dir = tempfile::tempdir().unwrap();
        let own = ByHand { positives: vec![[1.0, 2.0]], ..ByHand::default() };
        write(dir.path(), "a", Looked::Partial, own.clone());
        let paths = [dir.path().to_path_buf()];
        assert!(
            read_truth(&paths)
                .unwrap_err()
                .to_string()
                .contains("no micrograph is labelled completely")
        );
        write(dir.path(), "b", Looked::Complete, own.clone());
        let truth = read_truth(&paths).unwrap();
        assert!(truth.sets.len() == 1 && truth.sets[0].micrograph == "b");
        assert!(truth.notes()[0].contains("only in part: 1 of 2 micrographs"));
        // A table of another program says nothing of this kind.
        std::fs::remove_file(dir.path().join("a.labels.json")).unwrap();
        std::fs::remove_file(dir.path().join("b.labels.json")).unwrap();
        assert_eq!(read_truth(&paths).unwrap().sets.len(), 2);
    }

    #[test]
    fn coordinates_without_labels_by_hand_are_left_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", Looked::Complete, ByHand::default());
        std::fs::remove_file(dir.path().join("a.labels.json")).unwrap();
        let mut sets = read_all(&[dir.path().to_path_buf()]).unwrap().sets;
        let before = sets.clone();
        assert_eq!(look(&mut sets), (Vec::new(), Vec::new()));
        assert_eq!(sets, before);
    }
}

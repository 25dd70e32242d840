//! The same particle twice: sets of one micrograph → one set, of near points → the best.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use super::Coordinates;
use super::matching::key;
use super::names::inside;
use super::nearest::Tree;
use crate::error::{Error, Result};

/// Puts sets of the same micrograph, from several files or programs, into one, under the shortest
/// name.
///
/// # Errors
/// Where a name could mean two of the others.
pub fn merged(sets: Vec<Coordinates>) -> Result<Vec<Coordinates>> {
    let keys: Vec<String> = sets.iter().map(|own| key(&own.micrograph)).collect();
    let distinct: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    // In order, a key is followed by those that add folders to it.
    let longest = |key: &str| -> Result<String> {
        let mut last = key;
        for more in distinct.range(key..).take_while(|more| more.starts_with(key)) {
            if !more.starts_with(last) {
                return Err(two_meanings(key, last, more));
            }
            last = more;
        }
        Ok(last.to_string())
    };
    let stem_of = |key: &str| key.split('/').next().unwrap_or_default().to_string();
    let stems: BTreeSet<String> = distinct.iter().map(|key| stem_of(key)).collect();
    let stems: Vec<&str> = stems.iter().map(String::as_str).collect();
    let inner: HashMap<&str, BTreeSet<usize>> = stems.iter().copied().zip(inside(&stems)).collect();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut merged: Vec<Coordinates> = Vec::new();
    for (own, key) in sets.into_iter().zip(&keys) {
        let mut root = key.clone();
        while let Some(inner) = inner.get(stem_of(&root).as_str()).filter(|inner| !inner.is_empty())
        {
            let both = inner.first().zip(inner.last()).map(|(a, b)| (stems[*a], stems[*b]));
            match both {
                Some((one, other)) if one != other => return Err(two_meanings(&root, one, other)),
                Some((one, _)) => root = format!("{one}/"),
                None => break,
            }
        }
        match places.entry(longest(&root)?) {
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push(own);
            }
            Entry::Occupied(place) => {
                let first = &mut merged[*place.get()];
                first.points.extend(own.points);
                if own.micrograph.len() < first.micrograph.len() {
                    first.micrograph = own.micrograph;
                }
            }
        }
    }
    Ok(merged)
}

fn two_meanings(name: &str, one: &str, other: &str) -> Error {
    let [name, one, other] = [name, one, other].map(|key| key.trim_matches('/'));
    Error::missing(
        format!("coordinates of `{name}` could belong to `{one}` or to `{other}`"),
        "name the micrographs alike in all inputs",
    )
}

/// Leaves out what lies nearer than `distance_px` to a point with a better score, or with the same
/// score and before it; how many that are. Points without a score come after those with one.
pub fn thin(points: &mut Vec<super::Coordinate>, distance_px: f64) -> usize {
    let tree = Tree::of(points);
    let mut order: Vec<usize> = (0..points.len()).collect();
    let merit = |index: usize| points[index].score.unwrap_or(f32::NEG_INFINITY);
    order.sort_by(|&a, &b| merit(b).total_cmp(&merit(a)).then(a.cmp(&b)));
    let (mut kept, mut gone) = (vec![false; points.len()], vec![false; points.len()]);
    for index in order {
        if gone[index] {
            continue;
        }
        kept[index] = true;
        let _ = tree.within(&points[index], distance_px * distance_px, |_, other| {
            gone[other] |= other != index;
            ControlFlow::<()>::Continue(())
        });
    }
    let before = points.len();
    let mut keep = kept.into_iter();
    points.retain(|_| keep.next().unwrap_or(true));
    before - points.len()
}

#[cfg(test)]
mod tests {
    use super::super::Coordinate;
    use super::*;

    fn at(x: f64, score: Option<f32>) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: 5.0, score }
    }

    #[test]
    fn of_near_points_the_best_stays_in_its_place() {
        let mut points = vec![
            at(1.0, Some(0.2)),
            at(3.0, Some(0.9)),
            at(5.0, Some(0.5)),
            at(20.0, None),
            at(21.0, Some(-3.0)),
            at(40.0, None),
            at(41.0, None),
        ];
        assert_eq!(thin(&mut points, 3.0), 4);
        assert_eq!(points, [at(3.0, Some(0.9)), at(21.0, Some(-3.0)), at(40.0, None)]);
        assert_eq!(thin(&mut Vec::new(), 3.0), 0);
    }

    #[test]
    fn sets_of_one_micrograph_become_one_however_programs_spell_it() {
        let set = |name: &str, x, file: &str| Coordinates {
            file: file.into(),
            ..Coordinates::new(name, vec![at(x, None)])
        };
        let all = merged(vec![
            set("a_1", 1.0, "one.csv"),
            set("a_2", 2.0, "one.csv"),
            set("J1/000000000000000000001_a_1_patch_aligned.mrc", 3.0, "two.star"),
            set("b", 4.0, "two.star"),
            set("J1/000000000000000000003_b.mrc", 5.0, "three.star"),
            set("J1/000000000000000000004_c.mrc", 6.0, "three.star"),
            set("J1/000000000000000000005_c.mrc", 7.0, "three.star"),
        ])
        .unwrap();
        let names: Vec<_> =
            all.iter().map(|own| (own.micrograph.as_str(), own.points.len())).collect();
        assert_eq!(
            names,
            [
                ("a_1", 2),
                ("a_2", 1),
                ("b", 2),
                ("J1/000000000000000000004_c.mrc", 1),
                ("J1/000000000000000000005_c.mrc", 1),
            ]
        );
        let trees = |names: &[&str]| {
            merged(names.iter().map(|name| set(name, 1.0, "m.csv")).collect()).map(|all| all.len())
        };
        assert_eq!(trees(&["one/a", "two/a", "one/a_pick", "M/one/a"]).ok(), None);
        assert_eq!(trees(&["one/a", "a", "M/one/a.mrc", "b"]).unwrap(), 2);
        assert!(trees(&["a", "one/a", "two/a"]).is_err());
    }
}

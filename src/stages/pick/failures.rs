//! Micrographs that could not be picked: the last reason of each, in the order in which they failed.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

use crate::run::Failure;

/// Failures by micrograph.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    in_order: BTreeMap<usize, Failure>,
    /// The place of a micrograph's failure in the order.
    places: HashMap<String, usize>,
    next: usize,
}

impl Failures {
    /// Adds a failure in place of an earlier one of the same micrograph.
    pub(super) fn add(&mut self, failure: Failure) {
        if let Some(before) = self.places.insert(failure.micrograph.clone(), self.next) {
            self.in_order.remove(&before);
        }
        self.in_order.insert(self.next, failure);
        self.next += 1;
    }

    /// Takes back the failure of a micrograph, if it had one.
    pub(super) fn forget(&mut self, micrograph: &str) {
        if let Some(place) = self.places.remove(micrograph) {
            self.in_order.remove(&place);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// The one that is there longest.
    pub fn first(&self) -> Option<&Failure> {
        self.in_order.values().next()
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Failure> {
        self.in_order.into_values().collect()
    }
}

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.in_order.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn the_last_failure_of_each_micrograph_is_kept_and_many_take_no_time() {
        let failure = |number: usize, what: &str| {
            Failure::new(&format!("m{number}"), &Error::internal(what.to_string()))
        };
        let started = std::time::Instant::now();
        let mut failures = Failures::default();
        for round in ["first", "second"] {
            for number in 0..100_000 {
                failures.add(failure(number, round));
                failures.forget("another");
            }
        }
        (0..100_000)
            .filter(|number| number % 3 > 0)
            .for_each(|number| failures.forget(&format!("m{number}")));
        let left = failures.into_vec();
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
        assert_eq!(left.len(), 33_334);
        assert!(left[1].micrograph == "m3" && left.iter().all(|own| own.error.contains("second")));
    }
}

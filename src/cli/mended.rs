//! What was mended in micrographs, summed up for a line at the end.

use crate::preprocess::Repairs;
use crate::units::counted;

/// What was mended, and in how many micrographs.
#[derive(Clone, Copy, Default)]
pub(super) struct Mended {
    micrographs: usize,
    repairs: Repairs,
}

impl Mended {
    pub(super) fn add(mut self, repairs: Repairs) -> Mended {
        self.micrographs += usize::from(repairs.in_words().is_some());
        self.repairs += repairs;
        self
    }

    pub(super) fn in_words(self) -> Option<String> {
        let micrographs = counted(self.micrographs, "micrograph");
        Some(format!("mended in {micrographs}: {}", self.repairs.in_words()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_summed_up_in_one_line_with_their_numbers_in_words() {
        let hot = |hot| Repairs { hot, ..Repairs::default() };
        let bordered = Repairs { border: 4096, ..Repairs::default() };
        assert_eq!(Mended::default().add(bordered).in_words(), None);
        let one = Mended::default().add(hot(1)).add(hot(0));
        assert_eq!(one.in_words().unwrap(), "mended in 1 micrograph: 1 hot pixel");
        let more = Repairs { not_finite: 7, hot: 1, dead_lines: 1, border: 0 };
        let words = "mended in 2 micrographs: 7 not-a-number pixels, 2 hot pixels, 1 dead line";
        assert_eq!(one.add(more).in_words().unwrap(), words);
    }
}

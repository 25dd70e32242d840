//! Memory: how many patches may go through a network at once in training.

use super::Settings;
use crate::error::{Error, Result};
use crate::labels::patches;
use crate::model::Architecture;

/// The program with libtorch (200 MB were measured) and micrographs at the working scale.
const FIXED: u64 = 400_000_000;

/// Bytes of weights, gradients and the optimiser's moments, over the square of the features at full
/// resolution.
const WEIGHTS: u64 = 160_000;

/// Numbers that are held for each pixel of a patch until its gradients are known, over those that
/// scoring holds: 4.5 to 4.8 were measured with 8 to 32 base features in f32 and patches of 128 and
/// 256 px. In bf16 they take half of the bytes.
const MAPS: u64 = 5;

impl Settings {
    /// Puts no more patches through the network at once than fit into so many bytes; whether there
    /// are fewer now. A batch stays as large as it was: gradients add up.
    pub fn fit_into(
        &mut self,
        memory: u64,
        architecture: &Architecture,
        patches: &patches::Settings,
    ) -> Result<bool> {
        let sides = self.stages.iter().map(|stage| stage.patch_px).chain([patches.patch_px]);
        let px = sides.max().unwrap_or(patches.patch_px).pow(2) as u64;
        let fixed = FIXED + WEIGHTS * architecture.base_features.pow(2) as u64;
        let bytes = size_of::<f32>() as u64 * MAPS * architecture.maps_per_px() * px;
        let fit = memory.saturating_sub(fixed) / bytes;
        if fit == 0 {
            let need = (fixed + bytes) as f64 / 1e9;
            return Err(Error::setting(
                "machine.memory",
                format!("training takes about {need:.1} GB with a single patch at once"),
                "allow more, or make base_features or patch_px smaller",
            ));
        }
        let fewer = fit < self.patches_at_once as u64;
        if fewer {
            self.patches_at_once = fit as usize;
        }
        Ok(fewer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_patches_at_once_fit_into_less_memory() {
        let fitted = |memory: u64, patch_px: usize| {
            let mut settings = Settings::default();
            let patches = patches::Settings { patch_px, ..patches::Settings::default() };
            settings.fit_into(memory, &Architecture::default(), &patches)?;
            Ok::<usize, Error>(settings.patches_at_once)
        };
        assert_eq!(fitted(3_000_000_000, 128).unwrap(), 16);
        let few = fitted(800_000_000, 128).unwrap();
        assert!((2..16).contains(&few), "{few}");
        assert!(fitted(800_000_000, 256).unwrap() < few);
        assert!(fitted(450_000_000, 128).unwrap_err().to_string().contains("machine.memory"));
    }

    #[test]
    fn the_largest_patches_of_a_progressive_training_have_to_fit() {
        let fitted = |stages: &str| {
            let mut settings: Settings = toml::from_str(stages).unwrap();
            let patches = patches::Settings { patch_px: 64, ..patches::Settings::default() };
            settings.fit_into(800_000_000, &Architecture::default(), &patches).unwrap()
        };
        assert!(!fitted("stages = []"));
        assert!(fitted("stages = [{ share = 0.5, patch_px = 128 }]"));
    }
}

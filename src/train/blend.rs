//! Blended weights: the model that training starts from and the trained network → their weighted mean,
//! which is what is validated and kept (Wortsman et al. 2022).
//!
//! A few labelled micrographs teach their own contrast and ice, and what their labels lack, beside the
//! particle; the mean keeps more of what the starting model knows of others. Running statistics of
//! normalisations are averaged like weights.

use tch::{TchError, Tensor};

use super::flat::Flat;
use crate::error::Result;
use crate::model::{Device, Network};

/// The mean of a network's weights at the start and later.
#[derive(Debug)]
pub(super) struct Blend {
    network: Network,
    flat: Flat,
    /// Values and statistics of the starting model.
    start: [Tensor; 2],
    /// Of the starting model.
    share: f64,
}

impl Blend {
    /// `start` has the weights of the starting model.
    pub(super) fn of(start: &Network, device: Device, share: f64) -> Result<Blend> {
        let network = start.replica(device)?;
        let flat = Flat::of(&network)?;
        let start = [flat.values.copy(), flat.statistics.copy()];
        Ok(Blend { network, flat, start, share })
    }

    /// The network with the mean.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// Takes the mean with the weights as they are now.
    pub(super) fn update(&mut self, current: &Flat) -> Result<(), TchError> {
        let _no_gradients = tch::no_grad_guard();
        let [values, statistics] = &self.start;
        self.flat.values.f_copy_(&current.values.f_lerp(values, self.share)?)?;
        self.flat.statistics.f_copy_(&current.statistics.f_lerp(statistics, self.share)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flat::tests::network;
    use super::*;

    #[test]
    fn it_is_the_weighted_mean_of_the_start_and_the_weights_as_they_are() {
        let (start, trained) = (network(1), network(2));
        for (_, variable) in trained.variables() {
            let _no_gradients = tch::no_grad_guard();
            let _ = variable.shallow_clone().g_add_scalar_(3.0);
        }
        let mut blend = Blend::of(&start, Device::Cpu, 0.25).unwrap();
        let flat = Flat::of(&trained).unwrap();
        // Twice: it does not wander towards the trained weights.
        blend.update(&flat).unwrap();
        blend.update(&flat).unwrap();
        for (name, mean) in blend.network().variables() {
            let expected: Tensor =
                &start.variables()[&name] * 0.25 + &trained.variables()[&name] * 0.75;
            assert!((mean - expected).abs().max().double_value(&[]) < 1e-6, "{name}");
        }
    }
}

//! Averaged weights: the weights after each update → their exponential moving average (Polyak and
//! Juditsky 1992), which is what is validated and kept.
//!
//! Running statistics of normalisations are averaged like weights: they describe activations under
//! the weights of the last few updates, so their average over the same updates is what goes with
//! the averaged weights.

use tch::TchError;

use super::flat::Flat;
use crate::error::Result;
use crate::model::{Device, Network};

/// The moving average of one network's weights.
#[derive(Debug)]
pub(super) struct Average {
    network: Network,
    flat: Flat,
    decay: f64,
}

impl Average {
    /// Begins with the weights as they are.
    pub(super) fn of(network: &Network, device: Device, decay: f64) -> Result<Average> {
        let network = network.replica(device)?;
        Ok(Average { flat: Flat::of(&network)?, network, decay })
    }

    /// The network with averaged weights.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// Its weights.
    pub(super) fn flat(&self) -> &Flat {
        &self.flat
    }

    /// Takes in the weights after an update, counted from 1.
    pub(super) fn update(&mut self, current: &Flat, step: i32) -> Result<(), TchError> {
        let _no_gradients = tch::no_grad_guard();
        let share = 1.0 - decay(self.decay, step);
        let _ = self.flat.values.f_lerp_(&current.values, share)?;
        let _ = self.flat.statistics.f_lerp_(&current.statistics, share)?;
        Ok(())
    }
}

/// What the average keeps of itself: little at first, so that it soon forgets where it began.
fn decay(highest: f64, step: i32) -> f64 {
    highest.min(f64::from(step) / f64::from(step + 9))
}

#[cfg(test)]
mod tests {
    use super::super::flat::tests::network;
    use super::*;
    use tch::Tensor;

    #[test]
    fn the_decay_rises_to_its_height() {
        assert_eq!([1, 11, 91, 100_000].map(|step| decay(0.9, step)), [0.1, 0.55, 0.9, 0.9]);
    }

    #[test]
    fn the_average_follows_its_recurrence() {
        let (first, second) = (network(1), network(2));
        let mut average = Average::of(&first, Device::Cpu, 0.3).unwrap();
        average.update(&Flat::of(&second).unwrap(), 1).unwrap();
        average.update(&Flat::of(&first).unwrap(), 1000).unwrap();
        for (name, average) in average.network().variables() {
            let (first, second) = (&first.variables()[&name], &second.variables()[&name]);
            let after_one = first * 0.1 + second * 0.9;
            let expected: Tensor = after_one * 0.3 + first * 0.7;
            assert!((average - expected).abs().max().double_value(&[]) < 1e-6, "{name}");
        }
    }

    #[test]
    fn running_statistics_are_averaged_with_the_weights() {
        let trained = network(1);
        let mut average = Average::of(&trained, Device::Cpu, 0.5).unwrap();
        let name = "bottom.first.norm.running_mean";
        let _ = trained.variables().remove(name).unwrap().fill_(4.0);
        average.update(&Flat::of(&trained).unwrap(), 1000).unwrap();
        let mean = &average.network().variables()[name];
        assert!((mean - 2.0).abs().max().double_value(&[]) < 1e-6);
    }
}

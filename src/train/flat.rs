//! Flat storage: the parameters of a network side by side in one tensor, its running statistics in
//! another, so that an update takes the same few operations however many layers there are.
//!
//! On a GPU starting an operation takes longer than a small network's arithmetic: with one operation
//! for each parameter and step of the optimiser, training waited for the starts alone.

use tch::{TchError, Tensor};

use crate::error::Result;
use crate::model::{Network, torch};

/// Each tensor begins at a multiple of so many numbers (256 bytes), as one of its own would: kernels for
/// GPUs read several numbers at once, which fails at other places.
const ALIGNMENT: i64 = 64;

/// What training changes of one network. The network's own tensors are views of these; what is
/// frozen is left out.
#[derive(Debug)]
pub(super) struct Flat {
    /// Parameters with their names, in the order in which `values` holds them.
    pub(super) parameters: Vec<(String, Tensor)>,
    /// The numbers of all parameters, with zeros between them.
    pub(super) values: Tensor,
    /// The numbers of all running statistics, likewise.
    pub(super) statistics: Tensor,
    zeros: Tensor,
}

impl Flat {
    /// Moves the tensors of a network into flat storage.
    pub(super) fn of(network: &Network) -> Result<Flat> {
        let _no_gradients = tch::no_grad_guard();
        let changing = network.variables().into_iter().filter(|(name, _)| !network.is_frozen(name));
        let (parameters, statistics): (Vec<_>, Vec<_>) =
            changing.partition(|(_, variable)| variable.requires_grad());
        let options = (tch::Kind::Float, network.device());
        let arranged = || {
            let zeros = Tensor::f_zeros([ALIGNMENT], options)?;
            let (values, statistics) = (joined(&parameters, &zeros)?, joined(&statistics, &zeros)?);
            Ok((values, statistics, zeros))
        };
        let (values, statistics, zeros) = arranged().map_err(torch("arranging the parameters"))?;
        Ok(Flat { parameters, values, statistics, zeros })
    }

    /// The gradient of a loss by all parameters, in the order of `values`.
    pub(super) fn gradient(&self, loss: &Tensor) -> Result<Tensor, TchError> {
        let parameters: Vec<&Tensor> = self.parameters.iter().map(|(_, own)| own).collect();
        let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false)?;
        let _no_gradients = tch::no_grad_guard();
        let gradients = parameters.iter().zip(gradients).map(|(own, gradient)| {
            if gradient.defined() { Ok(gradient) } else { own.f_zeros_like() }
        });
        side_by_side(gradients, &self.zeros)
    }

    /// Takes over the numbers of another network of the same shape.
    pub(super) fn copy(&mut self, other: &Flat) -> Result<(), TchError> {
        let _no_gradients = tch::no_grad_guard();
        self.values.f_copy_(&other.values)?;
        self.statistics.f_copy_(&other.statistics)
    }

    /// Views of a tensor like `values`, by the name of the parameter.
    pub(super) fn views(&self, numbers: &Tensor) -> Result<Vec<(String, Tensor)>, TchError> {
        let sizes = self.parameters.iter().map(|(_, own)| own.size());
        let names = self.parameters.iter().map(|(name, _)| name.clone());
        Ok(names.zip(divided(numbers, sizes)?).collect())
    }
}

/// The numbers of some tensors in one, of which the tensors are views from now on.
fn joined(variables: &[(String, Tensor)], zeros: &Tensor) -> Result<Tensor, TchError> {
    let flat = side_by_side(variables.iter().map(|(_, variable)| variable.f_detach()), zeros)?;
    let views = divided(&flat, variables.iter().map(|(_, variable)| variable.size()))?;
    for ((_, variable), view) in variables.iter().zip(views) {
        variable.shallow_clone().f_set_data(&view)?;
    }
    Ok(flat)
}

/// The numbers of some tensors in one, each from an aligned place on.
fn side_by_side(
    tensors: impl Iterator<Item = Result<Tensor, TchError>>,
    zeros: &Tensor,
) -> Result<Tensor, TchError> {
    // A first one, so that no tensor at all gives an empty one.
    let mut numbers = vec![zeros.f_narrow(0, 0, 0)?];
    for tensor in tensors {
        let tensor = tensor?.f_reshape([-1])?;
        let length = tensor.size1()?;
        numbers.push(tensor);
        numbers.push(zeros.f_narrow(0, 0, aligned(length) - length)?);
    }
    Tensor::f_cat(&numbers, 0)
}

/// Views of such a tensor, one for each size.
fn divided(flat: &Tensor, sizes: impl Iterator<Item = Vec<i64>>) -> Result<Vec<Tensor>, TchError> {
    let mut first = 0;
    sizes
        .map(|size| {
            let length = size.iter().product::<i64>();
            let view = flat.f_narrow(0, first, length)?.f_view(&size[..]);
            first += aligned(length);
            view
        })
        .collect()
}

fn aligned(length: i64) -> i64 {
    (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Architecture, Device, Mode, Precision};
    use tch::Kind;

    /// A small network with weights from a seed.
    pub(in crate::train) fn network(seed: u64) -> Network {
        let architecture = Architecture { base_features: 4, ..Architecture::default() };
        Network::new(architecture, seed, Device::Cpu, Precision::F32).unwrap()
    }

    fn loss(network: &Network) -> Tensor {
        let images = Tensor::arange(2 * 32 * 32, (Kind::Float, tch::Device::Cpu)).sin();
        let logits = network.forward(&images.view([2, 1, 32, 32]), Mode::Training).unwrap();
        logits.full.square().mean(Kind::Float)
    }

    #[test]
    fn the_network_is_the_same_and_changes_with_its_flat_storage() {
        let (plain, arranged) = (network(1), network(1));
        let mut flat = Flat::of(&arranged).unwrap();
        assert_eq!(plain.variables(), arranged.variables());
        let _no_gradients = tch::no_grad_guard();
        let _ = flat.values.fill_(0.25);
        let _ = flat.statistics.fill_(0.5);
        for (name, variable) in arranged.variables() {
            let expected = if variable.requires_grad() { 0.25 } else { 0.5 };
            assert_eq!(variable, variable.full_like(expected), "{name}");
        }
    }

    #[test]
    fn the_gradient_is_that_of_each_parameter() {
        let (plain, arranged) = (network(1), network(1));
        let flat = Flat::of(&arranged).unwrap();
        let gradient = flat.gradient(&loss(&arranged)).unwrap();
        loss(&plain).backward();
        let plain = plain.variables();
        let views = flat.views(&gradient).unwrap();
        assert_eq!(views.len(), plain.values().filter(|own| own.requires_grad()).count());
        for (name, view) in views {
            assert_eq!(view, plain[&name].grad(), "{name}");
        }
        let of_all: f64 = plain
            .values()
            .filter(|own| own.requires_grad())
            .map(|own| own.grad().sum(Kind::Double).double_value(&[]))
            .sum();
        assert!((gradient.sum(Kind::Double).double_value(&[]) - of_all).abs() < 1e-6);
    }

    #[test]
    fn every_tensor_begins_at_an_aligned_place() {
        let network = network(1);
        let flat = Flat::of(&network).unwrap();
        for (name, variable) in network.variables() {
            let of = if variable.requires_grad() { &flat.values } else { &flat.statistics };
            let offset = variable.data_ptr() as usize - of.data_ptr() as usize;
            assert_eq!(offset % 256, 0, "{name}");
        }
    }
}

//! Flat storage: the parameters of a network side by side in one tensor, its running statistics in
//! another, so that an update takes the same few operations however many layers there are.
//!
//! On a GPU starting an operation takes longer than a small network's arithmetic: with one operation
//! for each parameter and step of the optimiser, training waited for the starts alone.

use tch::{TchError, Tensor};

use crate::error::Result;
use crate::model::{Network, torch};

/// What training changes of one network. The network's own tensors are views of these; what is
/// frozen is left out.
#[derive(Debug)]
pub(super) struct Flat {
    /// Parameters with their names, in the order in which `values` holds them.
    pub(super) parameters: Vec<(String, Tensor)>,
    /// The numbers of all parameters.
    pub(super) values: Tensor,
    /// The numbers of all running statistics.
    pub(super) statistics: Tensor,
}

impl Flat {
    /// Moves the tensors of a network into flat storage.
    pub(super) fn of(network: &Network) -> Result<Flat> {
        let _no_gradients = tch::no_grad_guard();
        let changing = network.variables().into_iter().filter(|(name, _)| !network.is_frozen(name));
        let (parameters, statistics): (Vec<_>, Vec<_>) =
            changing.partition(|(_, variable)| variable.requires_grad());
        let flat = |variables: &[(String, Tensor)]| {
            joined(variables, network.device()).map_err(torch("arranging the parameters"))
        };
        Ok(Flat { values: flat(&parameters)?, statistics: flat(&statistics)?, parameters })
    }

    /// The gradient of a loss by all parameters, in the order of `values`.
    pub(super) fn gradient(&self, loss: &Tensor) -> Result<Tensor, TchError> {
        let parameters: Vec<&Tensor> = self.parameters.iter().map(|(_, own)| own).collect();
        let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false)?;
        let _no_gradients = tch::no_grad_guard();
        let numbers = |(own, gradient): (&&Tensor, Tensor)| {
            let gradient = if gradient.defined() { gradient } else { own.f_zeros_like()? };
            gradient.f_reshape([-1])
        };
        let numbers = parameters.iter().zip(gradients).map(numbers).collect::<Result<Vec<_>, _>>()?;
        Tensor::f_cat(&numbers, 0)
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
fn joined(variables: &[(String, Tensor)], device: tch::Device) -> Result<Tensor, TchError> {
    let numbers = |(_, variable): &(String, Tensor)| variable.f_detach()?.f_reshape([-1]);
    // A first one, so that a network without statistics has an empty tensor.
    let nothing = Tensor::f_zeros([0], (tch::Kind::Float, device));
    let numbers = std::iter::once(nothing).chain(variables.iter().map(numbers));
    let flat = Tensor::f_cat(&numbers.collect::<Result<Vec<_>, _>>()?, 0)?;
    let views = divided(&flat, variables.iter().map(|(_, variable)| variable.size()))?;
    for ((_, variable), view) in variables.iter().zip(views) {
        variable.shallow_clone().f_set_data(&view)?;
    }
    Ok(flat)
}

/// Views of a flat tensor, one for each size.
fn divided(
    flat: &Tensor,
    sizes: impl Iterator<Item = Vec<i64>>,
) -> Result<Vec<Tensor>, TchError> {
    let mut first = 0;
    sizes
        .map(|size| {
            let length = size.iter().product::<i64>();
            let view = flat.f_narrow(0, first, length)?.f_view(&size[..]);
            first += length;
            view
        })
        .collect()
}

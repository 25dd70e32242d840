//! Logits: what the network answers in training, at full resolution and from its auxiliary heads,
//! and where its attention was.

use tch::{Kind, TchError, Tensor};

/// Logits in f32.
#[derive(Debug)]
pub(crate) struct Logits {
    /// Of the image's size: what scoring would give.
    pub(crate) full: Tensor,
    /// Of the auxiliary heads, enlarged to the image's size, each with its share of the loss.
    scales: Vec<(Tensor, f64)>,
    /// Maps of attention on the skips, `[n, heads, h', w']` from 0 to 1, each at its own
    /// resolution, coarsest first; none without it.
    pub(crate) attention: Vec<Tensor>,
}

impl Logits {
    /// `scales` are the auxiliary heads', coarsest first.
    pub(super) fn new(
        full: &Tensor,
        scales: &[Tensor],
        attention: Vec<Tensor>,
    ) -> Result<Logits, TchError> {
        let full = full.f_to_kind(Kind::Float)?;
        let (_, _, height, width) = full.size4()?;
        let enlarged = |(coarser, logits): (usize, &Tensor)| {
            let logits = logits.f_to_kind(Kind::Float)?;
            let logits = logits.f_upsample_bilinear2d([height, width], false, None, None)?;
            // Half as much for each coarser resolution (Isensee et al. 2021).
            Ok((logits, 0.5_f64.powi(coarser as i32 + 1)))
        };
        let scales = scales.iter().rev().enumerate().map(enlarged);
        Ok(Logits { full, scales: scales.collect::<Result<_, TchError>>()?, attention })
    }

    /// A loss of all of them: the mean of each one's, weighted by its share.
    pub(crate) fn loss(
        &self,
        of: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Tensor, TchError> {
        let mut loss = of(&self.full)?;
        if self.scales.is_empty() {
            return Ok(loss);
        }
        let mut total = 1.0;
        for (logits, share) in &self.scales {
            loss = loss.f_add(&of(logits)?.f_mul_scalar(*share)?)?;
            total += share;
        }
        loss.f_div_scalar(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarser_scales_count_half_as_much_each() {
        let constant = |value: f64, side: i64| {
            Tensor::full([1, 1, side, side], value, (Kind::Float, tch::Device::Cpu))
        };
        let coarse = [constant(16.0, 2), constant(4.0, 4), constant(2.0, 8)];
        let logits = Logits::new(&constant(1.0, 16), &coarse, Vec::new()).unwrap();
        let mean = |logits: &Tensor| {
            assert_eq!(logits.size(), [1, 1, 16, 16]);
            Ok(logits.mean(Kind::Float))
        };
        let loss = logits.loss(mean).unwrap().double_value(&[]);
        assert!((loss - (1.0 + 1.0 + 1.0 + 2.0) / 1.875).abs() < 1e-6, "{loss}");
        let alone = Logits::new(&constant(3.0, 16), &[], Vec::new()).unwrap();
        assert_eq!(alone.loss(mean).unwrap().double_value(&[]), 3.0);
    }
}

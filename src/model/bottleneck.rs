//! Attention among the cells of the coarsest resolution.
//!
//! It stays within windows of [`WINDOW`] cells a side (as in Swin, Liu et al. 2021): its cost grows
//! with the image's area, not with the square of it, scoring sees no more at once than training
//! does, and an image can still be cut along the windows' borders. The last windows of a row or
//! column may be partly filled; what is not there is not attended to. Cells carry no position of
//! their own: the convolutions before tell them apart (Wu et al. 2021, arXiv 2103.15808).

use tch::nn::{Init, Path};
use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{Architecture, Bottleneck, WINDOW};
use super::layers::{Fold, LayerNorm, Linear, fixed};
use super::part::layer;

/// What follows the convolutions at the coarsest resolution.
#[derive(Debug)]
pub(super) enum WindowAttention {
    SelfAttention(SelfAttention),
    Transformer(Vec<TransformerBlock>),
}

impl WindowAttention {
    /// `path` is the bottom's.
    pub(super) fn new(
        path: &Path,
        features: i64,
        architecture: &Architecture,
    ) -> Result<Option<WindowAttention>, TchError> {
        let path = path / layer::ATTENTION;
        Ok(match architecture.bottleneck {
            Bottleneck::Conv => None,
            Bottleneck::SelfAttention => {
                Some(WindowAttention::SelfAttention(SelfAttention::new(&path, features)?))
            }
            Bottleneck::Transformer => {
                let block = |number| {
                    let path = &path / format!("block{number:02}");
                    TransformerBlock::new(&path, features, architecture.heads)
                };
                let blocks = (0..architecture.transformer_blocks).map(block);
                Some(WindowAttention::Transformer(blocks.collect::<Result<_, _>>()?))
            }
        })
    }

    /// `[n, features, h, w]`, any h and w.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let windows = Windows::of(x)?;
        let mut cells = windows.cut(x)?;
        match self {
            WindowAttention::SelfAttention(attention) => {
                cells = attention.forward(&cells, windows.filled.as_ref())?;
            }
            WindowAttention::Transformer(blocks) => {
                for block in blocks {
                    cells = block.forward(&cells, windows.filled.as_ref())?;
                }
            }
        }
        windows.join(&cells)
    }
}

impl Fold for WindowAttention {
    fn folded(&self, kind: Kind, device: Device) -> Result<WindowAttention, TchError> {
        Ok(match self {
            WindowAttention::SelfAttention(attention) => {
                WindowAttention::SelfAttention(attention.folded(kind, device)?)
            }
            WindowAttention::Transformer(blocks) => {
                WindowAttention::Transformer(blocks.folded(kind, device)?)
            }
        })
    }
}

/// The division of a map into windows: `[n, features, h, w]` ⇄ `[windows, cells, features]`.
struct Windows {
    n: i64,
    features: i64,
    height: i64,
    width: i64,
    /// Windows in a column and in a row.
    rows: i64,
    columns: i64,
    /// Which cells are there, `[windows, 1, 1, cells]`; none: all.
    filled: Option<Tensor>,
}

impl Windows {
    const SIDE: i64 = WINDOW as i64;

    fn of(x: &Tensor) -> Result<Windows, TchError> {
        let (n, features, height, width) = x.size4()?;
        let count = |size: i64| (size + Windows::SIDE - 1) / Windows::SIDE;
        let (rows, columns) = (count(height), count(width));
        let mut windows = Windows { n, features, height, width, rows, columns, filled: None };
        if (rows * Windows::SIDE, columns * Windows::SIDE) != (height, width) {
            let ones = Tensor::f_ones([n, 1, height, width], (Kind::Float, x.device()))?;
            let filled = windows.cut(&ones)?.f_gt(0.5)?;
            windows.filled = Some(filled.f_view([-1, 1, 1, Windows::SIDE * Windows::SIDE])?);
        }
        Ok(windows)
    }

    /// Cells that are not there become 0.
    fn cut(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let side = Windows::SIDE;
        let (below, right) = (self.rows * side - self.height, self.columns * side - self.width);
        let x = if below + right > 0 {
            x.f_constant_pad_nd([0, right, 0, below])?
        } else {
            x.shallow_clone()
        };
        let features = x.size()[1];
        x.f_reshape([self.n, features, self.rows, side, self.columns, side])?
            .f_permute([0, 2, 4, 3, 5, 1])?
            .f_reshape([-1, side * side, features])
    }

    fn join(&self, cells: &Tensor) -> Result<Tensor, TchError> {
        let side = Windows::SIDE;
        let (n, features) = (self.n, self.features);
        // Features stay innermost in memory, as convolutions want them.
        cells
            .f_reshape([n, self.rows, self.columns, side, side, features])?
            .f_permute([0, 1, 3, 2, 4, 5])?
            .f_reshape([n, self.rows * side, self.columns * side, features])?
            .f_narrow(1, 0, self.height)?
            .f_narrow(2, 0, self.width)?
            .f_permute([0, 3, 1, 2])
    }
}

/// softmax(q kᵀ / √d) v (Vaswani et al. 2017) among the cells of each window that are there;
/// `[windows, cells, features]`, the features shared among the heads.
fn attend(
    [query, key, value]: [&Tensor; 3],
    heads: i64,
    filled: Option<&Tensor>,
) -> Result<Tensor, TchError> {
    let split = |x: &Tensor| {
        let (windows, cells, features) = x.size3()?;
        x.f_view([windows, cells, heads, features / heads])?.f_transpose(1, 2)
    };
    let (query, key, value) = (split(query)?, split(key)?, split(value)?);
    let attended = Tensor::f_scaled_dot_product_attention(
        &query, &key, &value, filled, 0.0, false, None, false,
    )?;
    attended.f_transpose(1, 2)?.f_flatten(2, 3)
}

/// Self-attention (Zhang et al. 2019, SAGAN): x + γ · attention(x), γ learnt from 0 on.
#[derive(Debug)]
pub(super) struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    gamma: Tensor,
}

impl SelfAttention {
    /// By this much queries and keys are narrower than the features, as in the paper.
    const NARROWER: i64 = 8;

    fn new(path: &Path, features: i64) -> Result<SelfAttention, TchError> {
        let narrow = (features / SelfAttention::NARROWER).max(1);
        Ok(SelfAttention {
            query: Linear::new(&(path / "query"), features, narrow)?,
            key: Linear::new(&(path / "key"), features, narrow)?,
            value: Linear::new(&(path / "value"), features, features)?,
            gamma: path.f_var("gamma", &[1], Init::Const(0.0))?,
        })
    }

    fn forward(&self, x: &Tensor, filled: Option<&Tensor>) -> Result<Tensor, TchError> {
        let (query, key) = (self.query.forward(x)?, self.key.forward(x)?);
        let attended = attend([&query, &key, &self.value.forward(x)?], 1, filled)?;
        x.f_add(&attended.f_mul(&self.gamma.f_to_kind(x.kind())?)?)
    }
}

impl Fold for SelfAttention {
    fn folded(&self, kind: Kind, device: Device) -> Result<SelfAttention, TchError> {
        Ok(SelfAttention {
            query: self.query.folded(kind, device)?,
            key: self.key.folded(kind, device)?,
            value: self.value.folded(kind, device)?,
            gamma: fixed(&self.gamma, kind, device)?,
        })
    }
}

/// Transformer block (Vaswani et al. 2017) with its normalisations in front (Xiong et al. 2020),
/// as in a vision transformer (Dosovitskiy et al. 2021): x + heads(norm x), then x + mlp(norm x).
#[derive(Debug)]
pub(super) struct TransformerBlock {
    heads: i64,
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    merge: Linear,
    mlp_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl TransformerBlock {
    /// By this much the inner layer of the two behind the heads is wider.
    const WIDER: i64 = 4;

    fn new(path: &Path, features: i64, heads: i64) -> Result<TransformerBlock, TchError> {
        let linear = |name, from, to| Linear::new(&(path / name), from, to);
        let wide = TransformerBlock::WIDER * features;
        Ok(TransformerBlock {
            heads,
            attention_norm: LayerNorm::new(&(path / "attention_norm"), features)?,
            query: linear("query", features, features)?,
            key: linear("key", features, features)?,
            value: linear("value", features, features)?,
            merge: linear("merge", features, features)?,
            mlp_norm: LayerNorm::new(&(path / "mlp_norm"), features)?,
            widen: linear("widen", features, wide)?,
            narrow: linear("narrow", wide, features)?,
        })
    }

    fn forward(&self, x: &Tensor, filled: Option<&Tensor>) -> Result<Tensor, TchError> {
        let normed = self.attention_norm.forward(x)?;
        let (query, key) = (self.query.forward(&normed)?, self.key.forward(&normed)?);
        let attended = attend([&query, &key, &self.value.forward(&normed)?], self.heads, filled)?;
        let x = x.f_add(&self.merge.forward(&attended)?)?;
        let wide = self.widen.forward(&self.mlp_norm.forward(&x)?)?.f_gelu("none")?;
        x.f_add(&self.narrow.forward(&wide)?)
    }
}

impl Fold for TransformerBlock {
    fn folded(&self, kind: Kind, device: Device) -> Result<TransformerBlock, TchError> {
        Ok(TransformerBlock {
            heads: self.heads,
            attention_norm: self.attention_norm.folded(kind, device)?,
            query: self.query.folded(kind, device)?,
            key: self.key.folded(kind, device)?,
            value: self.value.folded(kind, device)?,
            merge: self.merge.folded(kind, device)?,
            mlp_norm: self.mlp_norm.folded(kind, device)?,
            widen: self.widen.folded(kind, device)?,
            narrow: self.narrow.folded(kind, device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::nn::VarStore;

    use super::super::alone;
    use super::super::variants::noise;

    fn built(bottleneck: Bottleneck, features: i64) -> (WindowAttention, VarStore) {
        let architecture =
            Architecture { bottleneck, heads: 2, transformer_blocks: 3, ..Architecture::default() };
        let _alone = alone();
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let layers = WindowAttention::new(&store.root(), features, &architecture);
        (layers.unwrap().unwrap(), store)
    }

    fn map(features: i64, height: i64, width: i64) -> Tensor {
        noise([2, features, height, width])
    }

    fn largest(x: &Tensor) -> f64 {
        x.abs().max().double_value(&[])
    }

    /// Lets self-attention count.
    fn switch_on(store: &VarStore) {
        let _no_gradients = tch::no_grad_guard();
        if let Some(gamma) = store.variables().get("attention.gamma") {
            let _ = gamma.shallow_clone().fill_(1.0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn windows_cover_a_map_of_any_size_and_join_to_it_again(
            features in 1..5_i64, height in 1..20_i64, width in 1..20_i64,
        ) {
            let x = map(features, height, width);
            let windows = Windows::of(&x).unwrap();
            let cells = windows.cut(&x).unwrap();
            prop_assert!(windows.join(&cells).unwrap() == x);
            let there = windows.filled.as_ref().map_or(cells.numel() as i64 / features, |filled| {
                filled.sum(Kind::Int64).int64_value(&[])
            });
            prop_assert_eq!(there, 2 * height * width);
        }

        #[test]
        fn attention_has_the_parameters_of_its_formula_and_keeps_the_shape(
            half in 4..9_i64, height in 1..20_i64, width in 1..20_i64,
        ) {
            let n = 2 * half;
            let linear = |from: i64, to: i64| from * to + to;
            let narrow = (n / 8).max(1);
            let block = 4 * linear(n, n) + linear(n, 4 * n) + linear(4 * n, n) + 2 * 2 * n;
            for (kind, expected) in [
                (Bottleneck::SelfAttention, 2 * linear(n, narrow) + linear(n, n) + 1),
                (Bottleneck::Transformer, 3 * block),
            ] {
                let (layers, store) = built(kind, n);
                let parameters: i64 =
                    store.trainable_variables().iter().map(|v| v.numel() as i64).sum();
                prop_assert_eq!(parameters, expected);
                let x = map(n, height, width);
                prop_assert_eq!(layers.forward(&x).unwrap().size(), x.size());
            }
        }
    }

    #[test]
    fn self_attention_begins_as_the_identity() {
        let (layers, store) = built(Bottleneck::SelfAttention, 16);
        let x = map(16, 5, 11);
        assert!(layers.forward(&x).unwrap() == x);
        switch_on(&store);
        assert!(largest(&(layers.forward(&x).unwrap() - x)) > 0.01);
    }

    #[test]
    fn attention_reaches_all_of_a_window_and_nothing_else() {
        for kind in [Bottleneck::SelfAttention, Bottleneck::Transformer] {
            let (layers, store) = built(kind, 16);
            switch_on(&store);
            let x = map(16, 16, 20);
            let changed = x.copy();
            let _ = changed.select(2, 9).select(2, 17).fill_(2.0);
            let difference = layers.forward(&x).unwrap() - layers.forward(&changed).unwrap();
            let inside = difference.narrow(2, 8, 8).narrow(3, 16, 4).abs().amax([0, 1], false);
            assert!(inside.min().double_value(&[]) > 0.0, "{kind:?}");
            assert_eq!(largest(&difference.narrow(2, 0, 8)), 0.0);
            assert_eq!(largest(&difference.narrow(3, 0, 16)), 0.0);
        }
    }

    #[test]
    fn cells_that_are_not_there_do_not_count() {
        for kind in [Bottleneck::SelfAttention, Bottleneck::Transformer] {
            let (layers, store) = built(kind, 16);
            switch_on(&store);
            // Attention does not know of places: the same cells in a row or in a column.
            let row = map(16, 1, 5);
            let [in_row, in_column] =
                [row.shallow_clone(), row.transpose(2, 3)].map(|x| layers.forward(&x).unwrap());
            assert!(largest(&(in_row - in_column.transpose(2, 3))) < 1e-5, "{kind:?}");
            // A lone cell attends to itself alone.
            let lone = layers.forward(&row.narrow(3, 0, 1)).unwrap();
            let twice = layers.forward(&row.narrow(3, 0, 1).repeat([1, 1, 1, 2])).unwrap();
            assert!(largest(&(twice.narrow(3, 0, 1) - lone)) < 1e-5, "{kind:?}");
        }
    }
}

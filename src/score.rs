//! Scoring: image at the working scale → map of the same size, the log-odds that a pixel lies in a
//! particle's disk.
//!
//! An image goes through the network at once if its maps fit the memory they may take, else in tiles
//! whose halo covers the receptive field: the seams cannot be seen in the result. A network that
//! weighs or normalises features by statistics of the whole image has no such halo: it is given the
//! image at once, whatever that takes. Beyond its edges the image is mirrored.

use ndarray::Array2;
use tch::{Kind, TchError, Tensor};

use crate::error::Result;
use crate::labels::sampling::mirror;
use crate::model::{Architecture, Inference, Tiling, torch};

/// Tiles keep at least this much of a side: less would be all halo.
const LEAST_TILE_PX: usize = 64;

/// Scores one image: log-odds.
pub fn score(network: &Inference, image: &Array2<f32>) -> Result<Array2<f32>> {
    score_tiled(network, image, tile(network, image.dim()))
}

/// Bytes that the network's maps take while an image of this height and width is scored.
pub(crate) fn memory_for(network: &Inference, (height, width): (usize, usize)) -> u64 {
    let (rows, columns) = tile(network, (height, width));
    let halo = network.tiling().map_or(0, |tiling| tiling.halo);
    let longest = |tile: usize, size: usize| if tile == size { size } else { tile + 2 * halo };
    (longest(rows, height) * longest(columns, width)) as u64 * network.bytes_per_px()
}

/// Height and width of what a tile keeps.
fn tile(network: &Inference, (height, width): (usize, usize)) -> (usize, usize) {
    let most_px = network.memory() / network.bytes_per_px();
    let Some(Tiling { halo, grid }) = network.tiling() else { return (height, width) };
    if (height * width) as u64 <= most_px {
        return (height, width);
    }
    let side = (most_px as f64).sqrt() as usize;
    let most = side.saturating_sub(2 * halo) / grid * grid;
    let most = most.max(LEAST_TILE_PX.next_multiple_of(grid));
    // Tiles of one size, on the grid.
    let even = |size: usize| size.div_ceil(size.div_ceil(most)).next_multiple_of(grid).min(size);
    (even(height), even(width))
}

fn score_tiled(
    network: &Inference,
    image: &Array2<f32>,
    tile: (usize, usize),
) -> Result<Array2<f32>> {
    let (height, width) = image.dim();
    let halo = network.tiling().map_or(0, |tiling| tiling.halo);
    let mut map = Array2::zeros((height, width));
    for y in (0..height).step_by(tile.0) {
        for x in (0..width).step_by(tile.1) {
            let rows = Span::new(y, tile.0, halo, height);
            let columns = Span::new(x, tile.1, halo, width);
            let log_odds = run(network, image, &rows, &columns)?;
            for row in rows.keep() {
                for column in columns.keep() {
                    let at = (row - rows.start) * columns.len() + (column - columns.start);
                    map[[row, column]] = log_odds[at];
                }
            }
        }
    }
    Ok(map)
}

/// One axis of a tile: what is kept of it, and the halo around.
struct Span {
    keep_start: usize,
    keep_end: usize,
    /// First pixel of the window; on the grid of tiles, since halo and tiles are.
    start: usize,
    /// One past the last pixel of the window; may lie beyond the image.
    end: usize,
}

impl Span {
    fn new(keep_start: usize, tile: usize, halo: usize, size: usize) -> Span {
        let keep_end = (keep_start + tile).min(size);
        let start = keep_start.saturating_sub(halo);
        let end = (keep_end + halo).min(size);
        let length = (end - start).next_multiple_of(Architecture::STRIDE);
        Span { keep_start, keep_end, start, end: start + length }
    }

    fn keep(&self) -> std::ops::Range<usize> {
        self.keep_start..self.keep_end
    }

    fn len(&self) -> usize {
        self.end - self.start
    }
}

fn run(network: &Inference, image: &Array2<f32>, rows: &Span, columns: &Span) -> Result<Vec<f32>> {
    // The guard, not the closure: a panic inside that one would leave gradients off.
    let _no_gradients = tch::no_grad_guard();
    let logits = network.forward(&window(network, image, rows, columns)?)?;
    on_cpu(&logits).map_err(torch("reading scores"))
}

/// A window of the image, as the network takes it.
fn window(network: &Inference, image: &Array2<f32>, rows: &Span, columns: &Span) -> Result<Tensor> {
    let (height, width) = image.dim();
    let mut window = Vec::with_capacity(rows.len() * columns.len());
    for y in rows.start..rows.end {
        let row = image.row(mirror(y as i64, height));
        window.extend((columns.start..columns.end).map(|x| row[mirror(x as i64, width)]));
    }
    Tensor::f_from_slice(&window)
        .and_then(|t| {
            t.f_view([1, 1, rows.len() as i64, columns.len() as i64])?.f_to_device(network.device())
        })
        .map_err(torch("preparing an image"))
}

fn on_cpu(logits: &Tensor) -> Result<Vec<f32>, TchError> {
    let logits = logits.f_to_device(tch::Device::Cpu)?;
    Vec::try_from(&logits.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?)
}

/// A map of log-odds, and where attention was on the way to it.
#[derive(Debug)]
pub struct Explained {
    /// As [`score`] gives it.
    pub log_odds: Array2<f32>,
    /// The maps of attention on the skips, coarsest first.
    pub attention: Vec<AttentionMap>,
}

/// The weights by which one skip's features are multiplied.
#[derive(Debug)]
pub struct AttentionMap {
    /// So many px of the image are one px of the map along each axis.
    pub coarseness: usize,
    /// Which of several heads, counted from 1.
    pub head: Option<usize>,
    /// From 0 to 1; enlarged to the image.
    pub weights: Array2<f32>,
}

/// Scores one image at once, and keeps the maps of attention.
pub fn explain(network: &Inference, image: &Array2<f32>) -> Result<Explained> {
    let (height, width) = image.dim();
    let halo = network.tiling().map_or(0, |tiling| tiling.halo);
    let (rows, columns) = (Span::new(0, height, halo, height), Span::new(0, width, halo, width));
    let size = [rows.len() as i64, columns.len() as i64];
    let _no_gradients = tch::no_grad_guard();
    let mut shown = Vec::new();
    let mut show = |map: &Tensor| shown.push(map.shallow_clone());
    let logits = network.forward_showing(&window(network, image, &rows, &columns)?, &mut show)?;
    let visible = |values: Vec<f32>| {
        Array2::from_shape_fn((height, width), |(y, x)| values[y * columns.len() + x])
    };
    let log_odds = visible(on_cpu(&logits).map_err(torch("reading scores"))?);
    let mut attention = Vec::new();
    for map in shown {
        let maps = enlarged(&map, size).map_err(torch("reading attention"))?;
        let several = maps.len() > 1;
        let coarseness = rows.len() / map.size()[2].max(1) as usize;
        for (head, values) in (1..).zip(maps) {
            let head = several.then_some(head);
            attention.push(AttentionMap { coarseness, head, weights: visible(values) });
        }
    }
    Ok(Explained { log_odds, attention })
}

/// Each head's map at the size of the image.
fn enlarged(map: &Tensor, size: [i64; 2]) -> Result<Vec<Vec<f32>>, TchError> {
    let map = map.f_to_kind(Kind::Float)?.f_upsample_bilinear2d(size, false, None, None)?;
    let map = map.f_to_device(tch::Device::Cpu)?;
    let head = |head: i64| {
        let own = map.f_select(0, 0)?.f_select(0, head)?.f_contiguous()?.f_view([-1])?;
        Vec::<f32>::try_from(&own)
    };
    (0..map.size()[1]).map(head).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bottleneck, Device, EncoderAttention, Machine, Network, Precision};
    use rand::{Rng, SeedableRng};

    fn network_of(architecture: Architecture) -> Inference {
        Network::new(architecture, 2, Device::Cpu, Precision::F32)
            .unwrap()
            .for_inference(&Machine::cpu(1))
            .unwrap()
    }

    fn network() -> Inference {
        network_of(Architecture { base_features: 4, ..Architecture::default() })
    }

    fn noise(height: usize, width: usize) -> Array2<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        Array2::from_shape_simple_fn((height, width), || rng.random::<f32>() - 0.5)
    }

    #[test]
    fn tiles_equal_the_whole_image() {
        let plain = Architecture { base_features: 4, ..Architecture::default() };
        for architecture in [
            plain,
            Architecture { encoder_attention: EncoderAttention::Spatial, ..plain },
            Architecture { bottleneck: Bottleneck::Transformer, ..plain },
        ] {
            let (network, image) = (network_of(architecture), noise(400, 760));
            let whole = score_tiled(&network, &image, (400, 760)).unwrap();
            let tiled = score_tiled(&network, &image, (128, 128)).unwrap();
            let worst = whole.iter().zip(&tiled).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{worst} {architecture:?}");
            let spread = whole.iter().copied().fold(f32::NEG_INFINITY, f32::max)
                - whole.iter().copied().fold(f32::INFINITY, f32::min);
            assert!(spread > 1e-3, "a network that answers everywhere alike tests nothing");
        }
    }

    #[test]
    fn tiles_are_as_large_as_memory_allows() {
        let network = network();
        let size = (3000, 1000);
        let whole = memory_for(&network, size);
        let network = network.within(whole);
        assert_eq!(tile(&network, size), size);
        let network = network.within(whole / 3);
        let (rows, columns) = tile(&network, size);
        assert!(rows < 1000 && rows.is_multiple_of(16) && columns < 1000, "{rows} {columns}");
        assert!(memory_for(&network, size) <= whole / 3);
        assert_eq!(tile(&network.within(1), size).0, LEAST_TILE_PX);
    }

    #[test]
    fn tiles_lie_on_the_windows_of_the_bottleneck() {
        let network = network_of(Architecture {
            base_features: 4,
            bottleneck: Bottleneck::SelfAttention,
            ..Architecture::default()
        });
        let size = (3000, 2000);
        let whole = memory_for(&network, size);
        let network = network.within(whole / 3);
        let (rows, columns) = tile(&network, size);
        assert!(rows < 3000 && rows.is_multiple_of(128) && columns.is_multiple_of(128));
        assert!(memory_for(&network, size) <= whole / 3);
        assert_eq!(tile(&network.within(1), size), (128, 128));
    }

    #[test]
    fn a_network_that_depends_on_the_whole_image_is_given_it_whatever_that_takes() {
        let network = network_of(Architecture {
            base_features: 4,
            encoder_attention: EncoderAttention::Se,
            ..Architecture::default()
        });
        let size = (3000, 1000);
        let whole = memory_for(&network, size);
        let network = network.within(whole / 3);
        assert_eq!(tile(&network, size), size);
        assert_eq!(memory_for(&network, size), whole);
    }

    #[test]
    fn explaining_a_map_does_not_change_it() {
        let (network, image) = (network(), noise(50, 90));
        let explained = explain(&network, &image).unwrap();
        assert_eq!(explained.log_odds, score(&network, &image).unwrap());
        let coarseness: Vec<usize> = explained.attention.iter().map(|map| map.coarseness).collect();
        assert_eq!(coarseness, [8, 4, 2, 1]);
        for map in &explained.attention {
            assert_eq!((map.weights.dim(), map.head), ((50, 90), None));
            assert!(map.weights.iter().all(|weight| (0.0..=1.0).contains(weight)));
        }
    }

    #[test]
    fn beyond_its_edges_an_image_is_mirrored_at_its_outermost_pixels() {
        let image = Array2::from_shape_fn((17, 21), |(y, x)| (100 * y + x) as f32);
        let whole = |size| Span::new(0, size, 16, size);
        let window = window(&network(), &image, &whole(17), &whole(21)).unwrap();
        assert_eq!(window.size(), [1, 1, 32, 32]);
        let at = |y: i64, x: i64| window.double_value(&[0, 0, y, x]);
        assert_eq!((at(0, 0), at(16, 20)), (0.0, 1620.0));
        // The row of the edge is not repeated.
        assert_eq!((at(17, 3), at(18, 3), at(31, 3)), (1503.0, 1403.0, 103.0));
        assert_eq!((at(5, 21), at(5, 22), at(5, 31)), (519.0, 518.0, 509.0));
        assert_eq!(at(17, 21), 1519.0);
        // What is kept of a tile in the middle starts after its halo.
        let span = Span::new(64, 32, 16, 100);
        assert_eq!((span.start, span.end, span.keep(), span.len()), (48, 112, 64..96, 64));
    }

    #[test]
    fn mirrored_pixels_are_what_scores_at_the_border_depend_on() {
        // The same image with its mirrored border made explicit has the same scores.
        let image = noise(50, 40);
        let larger = Array2::from_shape_fn((64, 48), |(y, x)| {
            image[[if y < 50 { y } else { 98 - y }, if x < 40 { x } else { 78 - x }]]
        });
        let (own, expected) = (score(&network(), &image), score(&network(), &larger));
        let (own, expected) = (own.unwrap(), expected.unwrap());
        assert_eq!(own, expected.slice(ndarray::s![..50, ..40]));
    }

    #[test]
    fn odd_sizes_come_back_as_they_were() {
        let plain = Architecture { base_features: 4, ..Architecture::default() };
        let windows = Architecture { bottleneck: Bottleneck::SelfAttention, ..plain };
        for network in [plain, windows].map(network_of) {
            for (height, width) in [(17, 33), (100, 1), (64, 64)] {
                let map = score(&network, &noise(height, width)).unwrap();
                assert_eq!(map.dim(), (height, width));
                assert!(map.iter().all(|v| v.is_finite()));
            }
        }
    }
}

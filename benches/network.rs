//! The network beside the same network as a framework's tutorial would build it (f32, channels
//! first, normalisations not folded, gradients by the book); see docs/src/benchmarks/speed.md.
//!
//! `network` prints ratios of runs in turn; `network forward` scores ten images of the size of a
//! prepared micrograph and nothing else, for benches/compare.sh to time; `network cuda:0` measures
//! that GPU.
#![allow(missing_docs, clippy::unwrap_used, clippy::default_trait_access, clippy::print_stdout)]

use std::time::Instant;

use ndarray::Array2;
use picker::labels::patches::{self, Batch, Pool};
use picker::labels::{self, Completeness, Labelled};
use picker::model::checkpoint::ValidationScores;
use picker::model::{Architecture, Card, Device, Machine, Network, Precision, device};
use picker::pick;
use picker::preprocess::{self, Area, Prepared, Repairs};
use picker::score::score;
use picker::train::{self, Validation};
use picker::units::{Frame, Shape};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::nn::{self, Module, ModuleT, OptimizerConfig};
use tch::{Kind, Tensor};

/// Two convolutions, each with its normalisation and rectifier.
fn double_conv(path: &nn::Path, from: i64, to: i64) -> nn::SequentialT {
    let conv = |path: nn::Path, from| {
        nn::conv2d(path, from, to, 3, nn::ConvConfig { padding: 1, ..Default::default() })
    };
    nn::seq_t()
        .add(conv(path / "c1", from))
        .add(nn::batch_norm2d(path / "b1", to, Default::default()))
        .add_fn(Tensor::relu)
        .add(conv(path / "c2", to))
        .add(nn::batch_norm2d(path / "b2", to, Default::default()))
        .add_fn(Tensor::relu)
}

/// A 1 × 1 convolution and its normalisation.
fn project(path: &nn::Path, from: i64, to: i64) -> nn::SequentialT {
    nn::seq_t().add(nn::conv2d(path / "c", from, to, 1, Default::default())).add(nn::batch_norm2d(
        path / "b",
        to,
        Default::default(),
    ))
}

struct NaiveDecoder {
    up: nn::ConvTranspose2D,
    skip: nn::SequentialT,
    below: nn::SequentialT,
    weigh: nn::SequentialT,
    merge: nn::SequentialT,
}

struct Naive {
    encoders: Vec<nn::SequentialT>,
    bottom: nn::SequentialT,
    decoders: Vec<NaiveDecoder>,
    head: nn::Conv2D,
}

impl Naive {
    fn new(root: &nn::Path, base: i64) -> Naive {
        let features = |level: i64| base << level;
        let decoder = |level: i64| {
            let (path, n) = (root / format!("d{level}"), features(level));
            let double = nn::ConvTransposeConfig { stride: 2, ..Default::default() };
            NaiveDecoder {
                up: nn::conv_transpose2d(&path / "up", 2 * n, n, 2, double),
                skip: project(&(&path / "skip"), n, n / 2),
                below: project(&(&path / "below"), n, n / 2),
                weigh: project(&(&path / "weigh"), n / 2, 1),
                merge: double_conv(&(&path / "merge"), 2 * n, n),
            }
        };
        let encoder = |level: i64| {
            let from = if level == 0 { 1 } else { features(level - 1) };
            double_conv(&(root / format!("e{level}")), from, features(level))
        };
        Naive {
            encoders: (0..4).map(encoder).collect(),
            bottom: double_conv(&(root / "bottom"), features(3), features(4)),
            decoders: (0..4).rev().map(decoder).collect(),
            head: nn::conv2d(root / "head", base, 1, 1, Default::default()),
        }
    }

    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let mut skips = Vec::new();
        let mut x = images.shallow_clone();
        for encoder in &self.encoders {
            let features = encoder.forward_t(&x, train);
            x = features.max_pool2d_default(2);
            skips.push(features);
        }
        x = self.bottom.forward_t(&x, train);
        for decoder in &self.decoders {
            let (below, skip) = (decoder.up.forward(&x), skips.pop().unwrap());
            let agreement =
                decoder.skip.forward_t(&skip, train) + decoder.below.forward_t(&below, train);
            let gate = decoder.weigh.forward_t(&agreement.relu(), train).sigmoid();
            x = decoder.merge.forward_t(&Tensor::cat(&[skip * gate, below], 1), train);
        }
        self.head.forward(&x)
    }

    fn loss(&self, batch: &Batch, side: i64) -> Tensor {
        let tensor = |values: &[f32]| Tensor::from_slice(values).view([-1, 1, side, side]);
        let [images, targets, weights] =
            [&batch.images, &batch.targets, &batch.weights].map(|values| tensor(values));
        let logits = self.forward(&images, true);
        let entropy = logits.binary_cross_entropy_with_logits::<Tensor>(
            &targets,
            Some(weights.shallow_clone()),
            None,
            tch::Reduction::Mean,
        );
        let probability = logits.sigmoid();
        let hit: Tensor = (&probability * &targets * &weights).sum(Kind::Float);
        let mass: Tensor = ((&probability + &targets) * &weights).sum(Kind::Float);
        let dice: Tensor = 1.0 - (2.0 * hit + 1.0) / (mass + 1.0);
        0.5 * entropy + 0.5 * dice
    }
}

fn noise(side: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((side, side), || rng.random::<f32>() - 0.5)
}

/// Particles on a grid, so that there is something to learn.
fn labelled(side: usize) -> Labelled {
    let near = |at: usize| (at % 40) as f64 - 20.0;
    let target =
        Array2::from_shape_fn((side, side), |(y, x)| u8::from(near(x).hypot(near(y)) < 6.5));
    let centres = (0..side * side / 1600)
        .map(|i| (i % (side / 40), i / (side / 40)))
        .map(|(x, y)| (40.0 * x as f64 + 20.0, 40.0 * y as f64 + 20.0))
        .collect();
    let image = noise(side, 3) - target.mapv(f32::from);
    Labelled { image, target, weight: Array2::ones((side, side)), centres, rejected: Vec::new() }
}

/// Seconds of each of `times` runs, after one that does not count.
fn timed(times: usize, mut work: impl FnMut()) -> Vec<f64> {
    work();
    let run = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    (0..times).map(run).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn tell(what: &str, seconds: &[f64]) {
    let low = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let high = seconds.iter().copied().fold(0.0, f64::max);
    let [low, middle, high] = [low, median(seconds), high].map(|s| 1000.0 * s);
    println!("{what}: {low:.0} / {middle:.0} / {high:.0} ms (min / median / max)");
}

/// One image of 1024²: the network as picker uses it, by precision, and the naive one.
fn forward(side: usize, times: usize) {
    let image = noise(side, 1);
    let network = |precision| {
        let network = Network::new(Architecture::default(), 1, Device::Cpu, precision).unwrap();
        network.for_inference(&Machine::cpu(1)).unwrap()
    };
    let (f32, auto) = (network(Precision::F32), network(Precision::Auto));
    let store = nn::VarStore::new(tch::Device::Cpu);
    let naive = Naive::new(&store.root(), Architecture::default().base_features);
    let input = Tensor::from_slice(image.as_slice().unwrap());
    let input = input.view([1, 1, side as i64, side as i64]);
    let plain = timed(times, || {
        let _ = tch::no_grad(|| naive.forward(&input, false).sigmoid());
    });
    let folded = timed(times, || drop(score(&f32, &image).unwrap()));
    let fast = timed(times, || drop(score(&auto, &image).unwrap()));
    tell(&format!("forward {side}² naive"), &plain);
    tell(&format!("forward {side}² picker, f32"), &folded);
    tell(&format!("forward {side}² picker, {:?}", auto.computes_in()), &fast);
    println!(
        "picker is {:.1}× as fast in f32, {:.1}× in {:?}",
        median(&plain) / median(&folded),
        median(&plain) / median(&fast),
        auto.computes_in()
    );
}

/// One update of the weights: picker's whole loop with its loader, and the naive step alone.
fn step(settings: &train::Settings, patches: &patches::Settings, times: usize) {
    let machine = Machine::cpu(1);
    let labelled = [labelled(400)];
    let pool = Pool { labelled: &labelled, pseudo_labelled: &[] };
    let mut batch = Batch::default();
    patches::draw_batch(pool, patches, (1, 0, 0), settings.batch_size, &mut batch);
    let store = nn::VarStore::new(tch::Device::Cpu);
    let naive = Naive::new(&store.root(), Architecture::default().base_features);
    let mut optimiser = nn::AdamW::default().build(&store, settings.learning_rate).unwrap();
    let plain = timed(times, || {
        optimiser.backward_step_clip_norm(&naive.loss(&batch, patches.patch_px as i64), 1.0);
    });
    let fast = epochs(pool, settings, patches, &machine, times);
    let seconds: Vec<f64> =
        fast.iter().map(|epoch| settings.batch_size as f64 / epoch.patches_per_second).collect();
    let waited: Vec<f64> = fast.iter().map(|epoch| epoch.loader_wait).collect();
    let side = patches.patch_px;
    tell(&format!("step of {} patches of {side}², naive", settings.batch_size), &plain);
    tell(&format!("step of {} patches of {side}², picker", settings.batch_size), &seconds);
    println!(
        "picker is {:.1}× as fast and waits {:.1} % of the time for patches",
        median(&plain) / median(&seconds),
        100.0 * median(&waited)
    );
}

/// Trains as `picker train` does; an epoch's figures are means over its steps.
fn epochs(
    pool: Pool,
    settings: &train::Settings,
    patches: &patches::Settings,
    machine: &Machine,
    epochs: usize,
) -> Vec<train::Epoch> {
    let shape = Shape { width: 64, height: 64 };
    let image = noise(64, 5);
    let prepared = Prepared {
        valid: Area::whole(image.dim()),
        image,
        frame: Frame { mic: shape, work: shape },
        radius_mic_px: 9.5,
        radius_work_px: 9.5,
        repairs: Repairs::default(),
    };
    let truth = vec![picker::coords::Coordinate { x_mic_px: 30.0, y_mic_px: 30.0, score: None }];
    let loss = settings.loss(Completeness::Complete);
    let card = Card {
        schema: 1,
        picker_version: String::new(),
        libtorch_version: String::new(),
        architecture: Architecture::default(),
        preprocess: preprocess::Settings::default(),
        labels: labels::Settings::default(),
        pick: pick::Settings::default(),
        particle_radius_px: Some(9.5),
        pixel_size_a: None,
        unlabelled_margin_radii: 0.0,
        threshold: 0.0,
        general_threshold: loss.general_threshold(false),
        reading: loss.reading(),
        validation: ValidationScores::default(),
        validated_how: String::new(),
        trained_on: Vec::new(),
        validated_on: Vec::new(),
        pseudo_labelled_on: Vec::new(),
        inherited: Vec::new(),
        seed: 1,
        epoch: 0,
        started_from: None,
        self_training: None,
        recipe: None,
    };
    let folder = tempfile::tempdir().unwrap();
    // The first epoch warms up.
    let settings =
        train::Settings { epochs: Some(epochs + 1), patience: epochs + 1, ..settings.clone() };
    let job = train::Job {
        pool,
        loss,
        base: None,
        validation: &[Validation { truth, ..Validation::without_labels(prepared) }],
        by_hand: &[],
        settings: &settings,
        patches,
        card: &card,
        machine,
        folder: folder.path(),
        fingerprint: "",
    };
    train::train(&job, &mut |_| (), &|| false).unwrap().split_off(1)
}

/// Ten images of the size of a prepared 4096² micrograph, two at a time on a processor each.
fn forward_only(side: usize) {
    let network = Network::new(Architecture::default(), 1, Device::Cpu, Precision::Auto).unwrap();
    let network = network.for_inference(&Machine::cpu(1)).unwrap();
    let image = noise(side, 1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (network, image) = (network.on(Device::Cpu).unwrap(), &image);
            scope.spawn(move || {
                device::set_threads(1);
                for _ in 0..5 {
                    score(&network, image).unwrap();
                }
            });
        }
    });
}

/// On a GPU: images of the size of a prepared 4096² micrograph with their transfers, by one worker
/// and by eight that share it; the naive network on several images at once; training by number
/// format and batch.
fn on_gpu(name: &str, side: usize) {
    device::load_cuda();
    let machine = Machine::choose(name, None, rayon::current_num_threads()).unwrap();
    let device = machine.first();
    let Device::Cuda(index) = device else { return println!("{name} is not a GPU") };
    let image = noise(side, 1);
    for precision in [Precision::F32, Precision::Bf16] {
        let network = Network::new(Architecture::default(), 1, device, precision).unwrap();
        let network = network.for_inference(&machine).unwrap();
        let alone = timed(50, || drop(score(&network, &image).unwrap()));
        tell(&format!("{name}: {side}² {precision:?}, transfers included"), &alone);
        let (workers, each) = (8, 50);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let (network, image) = (network.on(device).unwrap(), &image);
                scope.spawn(move || (0..each).for_each(|_| drop(score(&network, image).unwrap())));
            }
        });
        let all = 1000.0 * started.elapsed().as_secs_f64();
        println!("by {workers} workers: {:.2} ms an image", all / f64::from(workers * each));
    }
    let store = nn::VarStore::new(tch::Device::Cuda(index));
    let naive = Naive::new(&store.root(), Architecture::default().base_features);
    for together in [1, 2, 4, 8] {
        let even = side as i64 / 16 * 16;
        let size = [together, 1, even, even];
        let images = Tensor::zeros(size, (Kind::Float, tch::Device::Cuda(index)));
        let seconds = timed(50, || {
            drop(tch::no_grad(|| naive.forward(&images, false)));
            tch::Cuda::synchronize(index as i64);
        });
        let each = 1000.0 * median(&seconds) / together as f64;
        println!("naive network, {together} images at once: {each:.2} ms an image");
    }
    let labelled = [labelled(400)];
    let pool = Pool { labelled: &labelled, pseudo_labelled: &[] };
    for (precision, batch_size, choose) in [
        (Precision::F32, 16, false),
        (Precision::Bf16, 16, false),
        (Precision::F32, 64, false),
        (Precision::Bf16, 64, false),
        (Precision::F32, 16, true),
        (Precision::Bf16, 16, true),
    ] {
        tch::Cuda::cudnn_set_benchmark(choose);
        let settings = train::Settings {
            patches_per_epoch: 2048,
            patches_at_once: batch_size,
            batch_size,
            precision,
            ..Default::default()
        };
        let epochs = epochs(pool, &settings, &patches::Settings::default(), &machine, 3);
        let rates: Vec<f64> = epochs.iter().map(|epoch| epoch.patches_per_second).collect();
        let waited: Vec<f64> = epochs.iter().map(|epoch| epoch.loader_wait).collect();
        println!(
            "training, {batch_size} patches an update, {precision:?}, algorithms {}: {:.0} patches a second, {:.0} % of \
             the time spent waiting for patches",
            if choose { "timed" } else { "as cuDNN guesses" },
            median(&rates),
            100.0 * median(&waited)
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if let Some(gpu) = arguments.iter().find(|argument| argument.starts_with("cuda")) {
        on_gpu(gpu, 721);
    } else if has("forward") {
        forward_only(721);
    } else if has("--test") {
        forward(64, 1);
        let settings =
            train::Settings { patches_per_epoch: 4, batch_size: 2, ..Default::default() };
        step(&settings, &patches::Settings { patch_px: 32, ..Default::default() }, 1);
        forward_only(64);
    } else {
        forward(1024, 7);
        let settings = train::Settings { patches_per_epoch: 64, ..Default::default() };
        step(&settings, &patches::Settings::default(), 7);
    }
}

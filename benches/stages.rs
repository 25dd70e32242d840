//! The cost of each stage between a micrograph on disk and its picks; see docs/src/benchmarks/speed.md.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::Array2;
use picker::micrograph;
use picker::model::{Architecture, Device, Machine, Network, Precision};
use picker::pick::{self, Peak};
use picker::preprocess::{self, Area};
use picker::score::score;
use picker::units::{Frame, Shape};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn noise(side: usize) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    Array2::from_shape_simple_fn((side, side), || rng.random::<f32>())
}

/// Guards the reader: a 4096² MRC file in mode 2.
fn reading(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mrc");
    micrograph::mrc::write(&path, &noise(4096), None, micrograph::mrc::Mode::Float32).unwrap();
    c.bench_function("read MRC 4096²", |b| b.iter(|| micrograph::read(black_box(&path)).unwrap()));
}

/// Guards repairs, Fourier crop, flattening and normalising of a 4096² micrograph, R = 54 px.
fn preparing(c: &mut Criterion) {
    let pixels = noise(4096);
    let settings = preprocess::Settings::default();
    c.bench_function("prepare 4096² to 721²", |b| {
        b.iter_batched(
            || pixels.clone(),
            |pixels| preprocess::prepare(pixels, 54.0, &settings).unwrap(),
            criterion::BatchSize::LargeInput,
        );
    });
}

/// Guards the forward pass of the default network on one prepared micrograph, by precision.
fn scoring(c: &mut Criterion) {
    let image = noise(721);
    for (name, precision) in [("f32", Precision::F32), ("auto", Precision::Auto)] {
        let network = Network::new(Architecture::default(), 1, Device::Cpu, precision).unwrap();
        let network = network.for_inference(&Machine::cpu(1)).unwrap();
        c.bench_function(&format!("score 721² {name}"), |b| {
            b.iter(|| score(&network, black_box(&image)).unwrap());
        });
    }
}

/// Guards smoothing, peaks and suppression on a 1024² map, and suppression alone of 5,000 peaks.
fn picking(c: &mut Criterion) {
    let map = noise(1024);
    let shape = Shape { width: 1024, height: 1024 };
    let frame = Frame { mic: shape, work: shape };
    let settings = pick::Settings::default();
    c.bench_function("pick on a 1024² map", |b| {
        b.iter(|| pick::pick(black_box(&map), Area::whole(map.dim()), &frame, 9.5, 0.0, &settings));
    });
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let peaks: Vec<Peak> = (0..5000)
        .map(|_| Peak {
            x: rng.random_range(0.0..1024.0),
            y: rng.random_range(0.0..1024.0),
            log_odds: rng.random(),
        })
        .collect();
    c.bench_function("suppress 5,000 peaks", |b| {
        b.iter_batched(
            || peaks.clone(),
            |mut peaks| pick::suppress(&mut peaks, 7.6),
            criterion::BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = stages;
    config = Criterion::default().sample_size(10);
    targets = reading, preparing, scoring, picking
}
criterion_main!(stages);

//! Every kind of every part, alone and combined: what holds for each network that can be built.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::*;

/// Small networks by name.
pub(super) fn all() -> Vec<(&'static str, Architecture)> {
    [
        ("unet", "skip_attention = \"none\""),
        ("attention-unet", ""),
        ("two levels", "levels = 2"),
        ("multi-head-gate", "skip_attention = \"multi-head-gate\"\nheads = 2"),
        ("cbam", "skip_attention = \"cbam\"\nreduction = 2"),
        ("encoder se", "encoder_attention = \"se\"\nreduction = 2"),
        ("encoder spatial", "encoder_attention = \"spatial\""),
        ("encoder cbam", "encoder_attention = \"cbam\"\nreduction = 2"),
        ("self-attention", "bottleneck = \"self-attention\""),
        ("transformer", "bottleneck = \"transformer\"\ntransformer_blocks = 1"),
        ("se-resnext", "encoder_block = \"se-resnext\"\ncardinality = 2"),
        ("group", "normalisation = \"group\""),
        ("deep supervision", "deep_supervision = true"),
        (
            "all at once",
            "encoder_block = \"se-resnext\"\nencoder_attention = \"cbam\"\n\
             skip_attention = \"multi-head-gate\"\nbottleneck = \"transformer\"\n\
             normalisation = \"group\"\ndeep_supervision = true\nheads = 2\nreduction = 2\n\
             cardinality = 2\ntransformer_blocks = 1",
        ),
    ]
    .map(|(name, text)| {
        let architecture = toml::from_str(&format!("base_features = 4\n{text}")).unwrap();
        (name, architecture)
    })
    .into()
}

/// White noise of variance 1, the same each time. libtorch has one generator for all threads: a test that
/// drew from it would change the networks that others are just drawing.
pub(super) fn noise(shape: [i64; 4]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let uniform = (0..shape.iter().product()).map(|_| rng.random_range(-1.732..1.732_f32));
    Tensor::from_slice(&uniform.collect::<Vec<_>>()).view(shape)
}

fn images(n: i64, height: i64, width: i64) -> Tensor {
    noise([n, 1, height, width]) * 2.0 + 0.5
}

/// A few steps of plain gradient descent towards bright pixels; the losses.
fn descend(network: &Network, steps: usize) -> Vec<f64> {
    let images = images(2, 48, 64);
    let targets = images.gt(1.0).to_kind(Kind::Float);
    let step = |_| {
        let logits = network.forward(&images, Mode::Training).unwrap();
        let entropy = |logits: &Tensor| {
            let none: Option<Tensor> = None;
            let mean = tch::Reduction::Mean;
            logits.f_binary_cross_entropy_with_logits(&targets, none.as_ref(), none.as_ref(), mean)
        };
        let loss = logits.loss(entropy).unwrap();
        loss.backward();
        let _no_gradients = tch::no_grad_guard();
        for (name, mut variable) in network.variables() {
            if variable.requires_grad() {
                let gradient = variable.grad();
                assert!(gradient.defined(), "{name} has no part in the loss");
                let _ = variable.f_sub_(&(gradient * 0.05)).unwrap();
                variable.zero_grad();
            }
        }
        loss.double_value(&[])
    };
    (0..steps).map(step).collect()
}

/// The largest and the mean difference, as shares of the spread.
fn off(expected: &Tensor, found: &Tensor) -> (f64, f64) {
    let spread = expected.std(false).double_value(&[]);
    assert!(spread > 0.01, "a network that answers everywhere alike tests nothing");
    let differences = (expected - found).abs() / spread;
    let mean = differences.mean(Kind::Float);
    (differences.max().double_value(&[]), mean.double_value(&[]))
}

#[test]
fn each_is_trained_stored_read_and_scores_in_its_fast_form_as_in_its_plain_one() {
    let dir = tempfile::tempdir().unwrap();
    for (name, architecture) in all() {
        let network = Network::new(architecture, 1, Device::Cpu, Precision::F32).unwrap();
        let losses = descend(&network, 2);
        assert!(losses[1] < losses[0], "{name}: {losses:?}");
        let path = dir.path().join("model.safetensors");
        let card = Card { architecture, ..Origin::Default.card().unwrap() };
        file::write(&path, &card, &network.variables()).unwrap();

        // Not a multiple of the bottleneck's windows.
        let images = images(1, 80, 144);
        let _no_gradients = tch::no_grad_guard();
        let plain = network.forward(&images, Mode::Inference).unwrap().full;
        let stored = Origin::File(path);
        let score = |precision| {
            let model = stored.load(&Machine::cpu(1), precision).unwrap();
            assert_eq!(model.card.architecture, architecture);
            off(&plain, &model.network.forward(&images).unwrap())
        };
        let (worst, _) = score(Precision::F32);
        assert!(worst < 1e-4, "{name} in f32: {worst}");
        let (_, mean) = score(Precision::Bf16);
        assert!(mean < 0.1, "{name} in bf16: {mean}");
    }
}

#[test]
fn heads_of_coarser_scales_are_for_training_alone() {
    let plain = Architecture { base_features: 4, ..Architecture::default() };
    let supervised = Architecture { deep_supervision: true, ..plain };
    let network =
        |architecture| Network::new(architecture, 1, Device::Cpu, Precision::F32).unwrap();
    let (plain, supervised) = (network(plain), network(supervised));
    // One number for each feature and a bias, at 8, 16 and 32 features.
    let heads = supervised.parameter_count() - plain.parameter_count();
    assert_eq!(heads, (8 + 1) + (16 + 1) + (32 + 1));
    // The same seed draws the same weights, and scoring does not look at the heads.
    let images = images(1, 32, 48);
    let score = |network: &Network| {
        network.for_inference(&Machine::cpu(1)).unwrap().forward(&images).unwrap()
    };
    assert!(score(&plain) == score(&supervised));
    // But their loss has shaped the network.
    let (_, _) = (descend(&plain, 2), descend(&supervised, 2));
    assert!(score(&plain) != score(&supervised));
}

#[test]
fn every_kind_of_every_part_is_among_them() {
    for key in
        ["encoder_block", "encoder_attention", "skip_attention", "bottleneck", "normalisation"]
    {
        // A kind that is not there is answered with those that are.
        let error = toml::from_str::<Architecture>(&format!("{key} = \"?\"")).unwrap_err();
        let message = error.message().to_string();
        let kinds: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        assert!(kinds.len() > 1, "{message}");
        for kind in kinds {
            let asked = toml::from_str(&format!("{key} = \"{kind}\"")).unwrap();
            let own = |architecture: Architecture| {
                let keys = toml::Table::try_from(architecture).unwrap();
                keys[key].clone()
            };
            let found = all().into_iter().any(|(_, variant)| own(variant) == own(asked));
            assert!(found, "no network with {key} = {kind:?} is tested: add one to all()");
        }
    }
}

//! The cost of lists of coordinates for very many micrographs: reading, matching, writing. Each
//! bench runs at two sizes, so that a cost that grows faster than the list shows in their ratio.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ndarray::Array2;
use picker::coords::{self, Coordinate, Coordinates, Format, matching, nearest::Tree};
use picker::eval::{self, Pair};
use picker::micrograph::{Source, mrc};
use picker::model::{Machine, Origin};
use picker::run::{Cancel, RunDir};
use picker::settings::Given;
use picker::stages::pick::Pick;
use picker::stages::{Context, Stage, chain};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SIZES: [usize; 2] = [500, 5000];
const STAR: &str =
    "data_\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnAutopickFigureOfMerit #3\n";

fn points(rng: &mut ChaCha8Rng, count: usize, side: f64) -> Vec<Coordinate> {
    let point = |_| Coordinate {
        x_mic_px: rng.random_range(0.0..side),
        y_mic_px: rng.random_range(0.0..side),
        score: Some(rng.random()),
    };
    (0..count).map(point).collect()
}

/// Lists of 12 points of micrographs with these names.
fn lists(count: usize, name: impl Fn(usize) -> String) -> Vec<Coordinates> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let list = |index| Coordinates::new(name(index), points(&mut rng, 12, 4096.0));
    (0..count).map(list).collect()
}

fn source(name: &str) -> Source {
    Source { path: name.into(), name: name.into(), stem: name.into(), pixel_size: None }
}

/// Guards the reading of a folder: one file a micrograph; files that share one stem in many
/// folders, with a table beside them that names the same micrographs; one table of all.
fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for count in SIZES {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut rows = String::from("micrograph,x,y,score\n");
        for (index, own) in lists(count, |i| format!("m{i}.mrc")).iter().enumerate() {
            let mut text = STAR.to_string();
            for point in &own.points {
                writeln!(text, "{:12.6} {:12.6} 0.5", point.x_mic_px, point.y_mic_px).unwrap();
            }
            fs::create_dir_all(at("files")).unwrap();
            fs::write(at("files").join(format!("m{index}.star")), &text).unwrap();
            let folder = at("stem").join(format!("d{index}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("m.star"), &text).unwrap();
            for point in &own.points {
                writeln!(rows, "d{index}/m.mrc,{},{},0.5", point.x_mic_px, point.y_mic_px).unwrap();
            }
        }
        fs::write(at("stem/table.csv"), &rows).unwrap();
        fs::write(at("table.csv"), &rows).unwrap();
        for name in ["files", "stem", "table.csv"] {
            group.bench_with_input(
                BenchmarkId::new(name, count),
                &at(name),
                |b, path: &PathBuf| {
                    b.iter(|| coords::read_all(std::slice::from_ref(black_box(path))).unwrap());
                },
            );
        }
    }
}

/// Guards the matching of names to micrographs, with stems of their own and with one stem for all;
/// the matching of picks to particles, as usual and where all points coincide; and the search for
/// duplicates.
fn matching_names_and_points(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    for count in SIZES {
        for (kind, name) in [
            ("names", (|i| format!("job/m{i}.mrc")) as fn(usize) -> String),
            ("names of one stem", |i| format!("job/d{i}/m.mrc")),
        ] {
            let lists = lists(count, name);
            let sources: Vec<Source> = lists.iter().map(|own| source(&own.micrograph)).collect();
            group.bench_function(BenchmarkId::new(kind, count), |b| {
                b.iter(|| matching::owners(black_box(&sources), black_box(&lists)).unwrap());
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let side = (count as f64).sqrt() * 100.0;
        let (picks, truth) = (points(&mut rng, count, side), points(&mut rng, count, side));
        let same = vec![picks[0]; count];
        for (kind, picks, truth) in [("points", &picks, &truth), ("equal points", &same, &same)] {
            group.bench_function(BenchmarkId::new(kind, count), |b| {
                b.iter(|| eval::evaluate(&[Pair { picks, truth }], 50.0, None));
            });
        }
        group.bench_function(BenchmarkId::new("duplicates", count), |b| {
            b.iter(|| {
                let tree = Tree::of(black_box(&picks));
                (0..tree.len()).filter(|&index| tree.has_earlier(index, 2500.0)).count()
            });
        });
    }
}

/// Guards the writing of one table in each format that has tables, and of one large file in each
/// of the others.
fn writing(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("write");
    for count in SIZES {
        let lists = lists(count, |i| format!("m{i}.mrc"));
        let points = lists.iter().flat_map(|own| own.points.clone()).collect();
        let one = Coordinates::new("m.mrc", points);
        for format in Format::written() {
            let path = folder.path().join(Path::new("m").with_extension(format.extension()));
            group.bench_function(BenchmarkId::new(format.name(), count), |b| {
                b.iter(|| {
                    if format.holds_many() {
                        format.write_many(&path, black_box(&lists)).unwrap();
                    } else {
                        format.write_one(&path, black_box(&one), Some(64)).unwrap();
                    }
                });
            });
        }
    }
}

/// Guards the plan of a run, and a picking with nothing to do: both look at every micrograph's
/// record and files, and at nothing twice.
fn looking_at_a_run(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    let mut given = Given::default();
    given.set("data.particle_radius_px", Some(8.0)).unwrap();
    given.set("self_train.iterations", Some(0)).unwrap();
    let card = Origin::Default.card().unwrap();
    let resolved = given.resolve_with(&card).unwrap();
    let machine = Machine::cpu(1);
    for count in [50, 500] {
        let folder = tempfile::tempdir().unwrap();
        let source = |index: usize| {
            let path = folder.path().join(format!("m{index}.mrc"));
            let image = Array2::from_shape_fn((64, 64), |(y, x)| ((x * 7 + y * 13) % 11) as f32);
            mrc::write(&path, &image, None, mrc::Mode::Float32).unwrap();
            Source { path, ..source(&format!("m{index}")) }
        };
        let sources: Vec<Source> = (0..count).map(source).collect();
        let run = RunDir::open(&folder.path().join("run")).unwrap();
        let radius = resolved.settings.data.radius();
        let context = Context {
            sources: &sources,
            radius,
            ..Context::new(&run, &resolved, 1, machine.clone())
        };
        let pick = || Pick.run(&context, &mut |_| (), &Cancel::default()).unwrap();
        pick();
        group.bench_function(BenchmarkId::new("plan", count), |b| {
            b.iter(|| chain::plan(black_box(&context)).unwrap());
        });
        group.bench_function(BenchmarkId::new("pick, nothing to do", count), |b| b.iter(pick));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = reading, matching_names_and_points, writing, looking_at_a_run
}
criterion_main!(benches);

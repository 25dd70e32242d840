//! Damaged files of every kind are read or refused: never a panic, never without an end, never with
//! memory out of proportion.
//!
//! Random bytes seldom get past the first check of a parser, so valid files are mutated: bits turned
//! over, parts cut, repeated and inserted, tokens swapped or replaced by extreme ones.
//! `PICKER_MUTATIONS` sets the number of mutations of each file.

use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use picker::coords::{self, Format};
use picker::micrograph;
use picker::model::{Machine, Origin, Precision};
use picker::run::{RunDir, StageName};
use picker::settings::Given;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::support::{RADIUS, picker, simulate};

/// Longest time for one file of a few kB, on a machine that has other work too.
const LONGEST: Duration = Duration::from_secs(10);
/// Most memory that this process may come to hold, the libraries and other tests included.
const MOST_MEMORY_KB: u64 = 3_000_000;

type Reader = fn(&Path);

/// One kind of file: a valid one, how its mutated content is wrapped, and what reads it.
struct Kind {
    /// The file name; its extension matters.
    name: String,
    seed: Vec<u8>,
    /// Whether tokens are mutated too.
    text: bool,
    /// Puts mutated content into the form in which it passes checksums.
    wrap: fn(Vec<u8>) -> Vec<u8>,
    read: Reader,
    /// One of so many mutations is tried, since reading takes long.
    every: usize,
}

fn read_image(path: &Path) {
    let header = micrograph::header(path);
    if let Ok(image) = micrograph::read(path) {
        let shape = header.unwrap().shape;
        assert_eq!(image.pixels.dim(), (shape.height, shape.width));
        assert!(image.pixels.iter().filter(|value| value.is_finite()).count() > 0);
    }
}

fn read_points(path: &Path) {
    for own in coords::read(path).unwrap_or_default() {
        assert!(own.points.iter().all(coords::is_position));
        assert!(own.points.iter().all(|point| point.score.is_none_or(f32::is_finite)));
    }
}

fn read_micrograph_list(path: &Path) {
    let _ = micrograph::named(&[path]);
}

fn read_settings(path: &Path) {
    let _ = Given::read(path).and_then(|given| given.resolve());
}

fn read_model(path: &Path) {
    let machine = Machine::choose("cpu", Some(4 << 30), 1).unwrap();
    let origin = Origin::File(path.to_path_buf());
    let _ = origin.card();
    let _ = origin.load(&machine, Precision::F32);
}

/// A record of a run directory, among whole ones.
fn read_state(path: &Path) {
    let folder = path.with_extension("run");
    std::fs::create_dir_all(folder.join("items")).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let place = if name == "item.json" { "items/sim_0001.json" } else { name };
    std::fs::copy(path, folder.join(place)).unwrap();
    let run = RunDir::look_into(&folder);
    let _ = (run.records(), run.list(), run.listed_items(), run.failures(), run.threshold());
    let _ = run.content_of(path);
    for stage in [StageName::Train, StageName::Pick] {
        let _ = run.given_to(stage, &folder).map(|given| given.map(|given| given.resolve()));
    }
}

/// The records of a small run.
fn states() -> Vec<Kind> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    let mut run = picker(folder);
    run.args(["run", "micrographs", "--model", "default", "--particle-radius", RADIUS]);
    run.args(["--iterations", "0", "--out", "run"]).assert().success();
    let at = |name: &str| std::fs::read(folder.join("run").join(name)).unwrap();
    [
        ("manifest.json", "manifest.json"),
        ("list.json", "list.json"),
        ("item.json", "items/sim_0001.json"),
    ]
    .map(|(name, place)| kind(name, at(place), true, read_state))
    .into()
}

fn as_it_is(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

fn gzipped(bytes: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(Cursor::new(bytes), flate2::Compression::fast());
    encoder.read_to_end(&mut out).unwrap();
    out
}

/// Corrects the checksums of PNG chunks.
fn with_png_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let Some(chunk) = bytes.get(at + 4..(at + 8).saturating_add(length)) else { break };
        let mut sum = flate2::Crc::new();
        sum.update(chunk);
        let end = at + 8 + length;
        let Some(stored) = bytes.get_mut(end..end + 4) else { break };
        stored.copy_from_slice(&sum.sum().to_be_bytes());
        at = end + 4;
    }
    bytes
}

/// The default model with a mutated header in front of its weights.
fn with_weights(header: Vec<u8>) -> Vec<u8> {
    let model = Origin::Default.bytes().unwrap();
    let length = u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(&model[8 + length..]);
    bytes
}

fn kind(name: &str, seed: Vec<u8>, text: bool, read: Reader) -> Kind {
    Kind { name: name.into(), seed, text, wrap: as_it_is, read, every: 1 }
}

fn kinds() -> Vec<Kind> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut kinds = Vec::new();
    for folder in ["data-fixtures/foreign", "data-fixtures"] {
        let mut files: Vec<PathBuf> =
            root.join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.iter().filter(|path| path.is_file()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let seed = std::fs::read(path).unwrap();
            if Format::of_name(path).is_some() {
                kinds.push(kind(name, seed, true, read_points));
            } else if path.extension().is_none_or(|end| end != "md" && end != "py") {
                kinds.push(kind(name, seed, false, read_image));
            }
        }
    }
    let mut inner = Vec::new();
    let gzip = std::fs::File::open(root.join("data-fixtures/foreign/mrcfile_gzip.mrc.gz")).unwrap();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut inner).unwrap();
    kinds.push(Kind { wrap: gzipped, ..kind("inner.mrc.gz", inner, false, read_image) });
    for name in ["pillow_8bit.png", "pillow_16bit.png"] {
        let seed = std::fs::read(root.join("data-fixtures/foreign").join(name)).unwrap();
        let wrapped = kind(&format!("sums_{name}"), seed, false, read_image);
        kinds.push(Kind { wrap: with_png_checksums, ..wrapped });
    }
    let texts: [(&str, &str, Reader); 8] = [
        (
            "quoted.star",
            "data_particles\n\nloop_ \n_rlnMicrographName #1 \n_rlnCoordinateX #2 \n_rlnCoordinateY #3 \n\"a b/m 1.mrc\" 5 6.5\n'it\"s.mrc' 7 8e1\n\"\" 1 2\n",
            read_points,
        ),
        (
            "old.star",
            "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnParticleScore\n10 20 0.5\n30 40 -999.0\n\ndata_other\n_rlnA 1\n_rlnB 'x y'\n",
            read_points,
        ),
        ("filament.box", "10 20 30 30 -1\n15 25 30 30 -2\n", read_points),
        ("scored.box", "10 20 30 30 0.25\n15 25 30 30 -1.000000\n", read_points),
        (
            "old.cbox",
            "4472.0\t3834.5\t200\t200\t0.145\t208\t203\n72.0\t34.5\t200\t200\t0.9\t208\t203\n",
            read_points,
        ),
        (
            "mics.star",
            "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 0.885\n\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\nm.mrc 1\n",
            read_micrograph_list,
        ),
        (
            "detector.star",
            "data_\n\nloop_\n_rlnMicrographName #1\n_rlnMagnification #2\n_rlnDetectorPixelSize #3\nm.mrc 50000.0 5.0\n",
            read_micrograph_list,
        ),
        ("mics.list", "# mine\nm.mrc\nn.mrc\n", read_micrograph_list),
    ];
    kinds.extend(texts.map(|(name, text, read)| kind(name, text.into(), true, read)));
    for name in ["default.toml", "teaching.toml"] {
        let seed = std::fs::read(root.join("configs").join(name)).unwrap();
        // Keys and values alone: most of these files are comments.
        let seed = String::from_utf8(seed).unwrap();
        let bare: Vec<&str> = seed.lines().map(|l| l.split('#').next().unwrap()).collect();
        kinds.push(kind(name, bare.join("\n").into_bytes(), true, read_settings));
    }
    kinds.extend(states());
    let model = Origin::Default.bytes().unwrap();
    let length = u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
    let header = model[8..8 + length].to_vec();
    let card = kind("header.safetensors", header, true, read_model);
    kinds.push(Kind { wrap: with_weights, every: 5, ..card });
    kinds.push(Kind {
        every: 25,
        ..kind("whole.safetensors", model.into_owned(), false, read_model)
    });
    kinds
}

const TOKENS: [&str; 33] = [
    "-1",
    "0",
    "1",
    "1e308",
    "-1.7e308",
    "1e-320",
    "NaN",
    "inf",
    "-inf",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "4294967295",
    "1e9",
    "2147483647",
    "65536",
    "",
    "\"",
    "'",
    "#",
    "_x",
    "data_",
    "loop_",
    "a/../..",
    "\u{feff}",
    "π",
    "null",
    "true",
    "[]",
    "{}",
    "[[[[[[[[",
    "\0",
];

/// Changes a text in one place.
fn change_text(text: &str, rng: &mut ChaCha8Rng) -> String {
    let is_border = |c: char| c.is_whitespace() || ",:[]{}=\"".contains(c);
    let pieces: Vec<&str> = text.split_inclusive(is_border).collect();
    let mut lines: Vec<&str> = text.lines().collect();
    let (Some(_), Some(_)) = (pieces.first(), lines.first()) else { return TOKENS[0].into() };
    let (a, b) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
    match rng.random_range(0..7) {
        0 => lines.swap(a, b),
        1 => drop(lines.remove(a)),
        2 => lines.insert(a, lines[b]),
        3 => lines.insert(a, TOKENS.choose(rng).unwrap()),
        _ => {
            let at = rng.random_range(0..pieces.len());
            let other = match rng.random_range(0..8) {
                0 => (*pieces.choose(rng).unwrap()).to_string(),
                1 => "9".repeat(rng.random_range(1..4000)),
                _ => (*TOKENS.choose(rng).unwrap()).to_string(),
            };
            let border: String = pieces[at].chars().rev().take_while(|c| is_border(*c)).collect();
            let mut changed = pieces[..at].concat();
            let _ = write!(changed, "{other}{border}");
            return changed + &pieces[at + 1..].concat();
        }
    }
    lines.join("\n") + "\n"
}

/// Changes bytes in one place, more often than not in the first 1,200, where headers are.
fn change_bytes(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    let within = if rng.random_bool(0.7) { bytes.len().min(1200) } else { bytes.len() };
    if within == 0 {
        return bytes.push(rng.random());
    }
    let at = rng.random_range(0..within);
    let end = (at + rng.random_range(1..64)).min(bytes.len());
    match rng.random_range(0..8) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff].choose(rng).unwrap(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let piece: Vec<u8> = (0..rng.random_range(1..16)).map(|_| rng.random()).collect();
            bytes.splice(at..at, piece);
        }
        _ => {
            // A field of a header.
            let width = *[2, 4, 4, 8].choose(rng).unwrap();
            let at = at / width * width;
            let extremes = [
                0,
                1,
                i64::MAX,
                i64::MIN,
                -1,
                i64::from(i32::MAX),
                i64::from(i32::MIN),
                30_000,
                65_535,
                1 << 20,
                f64::NAN.to_bits() as i64,
                f64::MAX.to_bits() as i64,
                i64::from(f32::NAN.to_bits()),
                i64::from(f32::MAX.to_bits()),
            ];
            let value = extremes.choose(rng).unwrap();
            let field = if rng.random() { value.to_le_bytes() } else { value.to_be_bytes() };
            let field = if rng.random() { &field[..width] } else { &field[8 - width..] };
            if let Some(place) = bytes.get_mut(at..at + width) {
                place.copy_from_slice(field);
            }
        }
    }
}

fn mutated(kind: &Kind, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = kind.seed.clone();
    for _ in 0..rng.random_range(1..4) {
        match String::from_utf8(bytes) {
            Ok(text) if kind.text && rng.random_bool(0.8) => {
                bytes = change_text(&text, rng).into_bytes();
            }
            Ok(text) => {
                bytes = text.into_bytes();
                change_bytes(&mut bytes, rng);
            }
            Err(other) => {
                bytes = other.into_bytes();
                change_bytes(&mut bytes, rng);
            }
        }
    }
    (kind.wrap)(bytes)
}

/// The most memory that this process has held.
fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn mutated_files_of_every_kind_are_read_or_refused() {
    let cases: usize = std::env::var("PICKER_MUTATIONS").map_or(100, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for kind in kinds() {
        let path = dir.path().join(&kind.name);
        // The file as it is can be read, or mutations would not get far.
        std::fs::write(&path, (kind.wrap)(kind.seed.clone())).unwrap();
        (kind.read)(&path);
        for case in 0..cases / kind.every {
            let mut rng = ChaCha8Rng::seed_from_u64(case as u64);
            let bytes = mutated(&kind, &mut rng);
            std::fs::write(&path, &bytes).unwrap();
            let start = Instant::now();
            let read = catch_unwind(AssertUnwindSafe(|| (kind.read)(&path)));
            let (time, memory) = (start.elapsed(), peak_memory_kb());
            if read.is_err() || time > LONGEST || memory > MOST_MEMORY_KB {
                let kept = std::env::temp_dir().join(format!("mutated_{case}_{}", kind.name));
                std::fs::write(&kept, &bytes).unwrap();
                let panicked = if read.is_err() { "a panic, " } else { "" };
                failures.push(format!("{}: {panicked}{time:?}, {memory} kB", kept.display()));
                if memory > MOST_MEMORY_KB {
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn what_the_mutations_start_from_covers_every_coordinate_format() {
    let kinds = kinds();
    for format in Format::all() {
        let of_format = |kind: &&Kind| Format::of_name(Path::new(&kind.name)) == Some(format);
        let seeds: Vec<&Kind> = kinds.iter().filter(of_format).collect();
        assert!(!seeds.is_empty(), "{format:?} has no file to start from");
    }
}

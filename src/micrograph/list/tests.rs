use tempfile::TempDir;

use super::find::stem;
use super::*;
use crate::micrograph::{mrc, read};
use crate::units::{PixelSize, Radius};

/// The micrographs, where every entry can be used.
fn listed<P: AsRef<Path>>(inputs: &[P]) -> Result<Vec<Source>> {
    list(inputs, Filter::default())?.whole()
}

/// A folder with empty files of these names.
fn tree(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn stems(sources: &[Source]) -> Vec<&str> {
    sources.iter().map(|source| source.stem.to_str().unwrap()).collect()
}

#[test]
fn stems_follow_relion() {
    for (name, expected) in [
        ("Mics/mic001.mrc", "Mics/mic001"),
        ("MotionCorr/job002/Movies/x.mrc", "Movies/x"),
        ("./Mics/a.b.c.mrc", "Mics/a.b.c"),
        ("/abs/p/m.mrc", "abs/p/m"),
        ("../other/m.tif", "other/m"),
        ("job002/m.mrc", "job002/m"),
        ("A/job12/m.mrc", "A/job12/m"),
        ("A/job001x/m.mrc", "A/job001x/m"),
        ("A/job1234/m.mrc.gz", "m"),
    ] {
        assert_eq!(stem(Path::new(name)), Path::new(expected), "{name}");
    }
}

#[test]
fn a_folder_keeps_its_tree_and_leaves_out_what_is_no_micrograph() {
    let folder = tree(&[
        "b/x.mrc",
        "a/x.mrc",
        "a/y.TIFF",
        "a/z.mrc.gz",
        "a/.hidden.mrc",
        ".trash/x.mrc",
        "a/x.77.part.mrc",
        "a/w.mrc.part",
        "a/x.star",
        "notes.txt",
    ]);
    let sources = listed(&[folder.path()]).unwrap();
    assert_eq!(stems(&sources), ["a/x", "a/y", "a/z", "b/x"]);
    assert_eq!(sources[0].name, sources[0].path.to_str().unwrap());
}

#[test]
fn files_and_globs_are_named_from_their_common_folder() {
    let folder = tree(&["b/x.mrc", "a/x.mrc", "a/y.mrc"]);
    let at = |name: &str| folder.path().join(name);
    let files = listed(&[at("b/x.mrc"), at("a/x.mrc")]).unwrap();
    assert_eq!(stems(&files), ["b/x", "a/x"]);
    assert_eq!(stems(&listed(&[at("a/y.mrc")]).unwrap()), ["y"]);
    assert_eq!(stems(&listed(&[at("*/x.mrc")]).unwrap()), ["a/x", "b/x"]);
    assert_eq!(stems(&listed(&[at("a/[xy].mrc")]).unwrap()), ["x", "y"]);
}

#[test]
fn one_file_counts_once_and_two_never_share_a_stem() {
    let folder = tree(&["a/x.mrc", "a/y.mrc", "b/x.mrc"]);
    let at = |name: &str| folder.path().join(name);
    assert_eq!(listed(&[at("a"), at("a/x.mrc"), at("a/*.mrc")]).unwrap().len(), 2);
    let error = listed(&[at("a"), at("b")]).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Setting { .. }));
    assert!(text.contains("a/x.mrc") && text.contains("b/x.mrc"), "{text}");
}

#[test]
fn a_text_file_lists_in_its_own_order() {
    let folder = tree(&["Mics/b.mrc", "Mics/a.mrc"]);
    let list_file = folder.path().join("sub/mics.txt");
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(&list_file, "# mine\r\nMics/b.mrc\r\n\n  Mics/a.mrc\n").unwrap();
    let sources = listed(&[&list_file]).unwrap();
    assert_eq!(stems(&sources), ["Mics/b", "Mics/a"]);
    assert_eq!(sources[0].name, "Mics/b.mrc");
    fs::write(&list_file, "Mics/b.mrc\n1.mrc\n2.mrc\n3.mrc\n4.mrc\n").unwrap();
    let partly = list(&[&list_file], Filter::default()).unwrap();
    assert_eq!(stems(&partly.sources), ["Mics/b"]);
    let error = partly.unusable[0].to_string();
    assert!(error.contains("4 of 5") && error.ends_with("1.mrc, 2.mrc, 3.mrc, 4.mrc"), "{error}");
    assert!(partly.whole().is_err());
    let names: Vec<String> = (0..11).map(|n| format!("{n}.mrc")).collect();
    fs::write(&list_file, names.join("\n")).unwrap();
    // Where nothing is found the working folder is at fault.
    let error = list(&[&list_file], Filter::default()).unwrap_err();
    assert!(error.to_string().ends_with("9.mrc, …"), "{error}");
    assert!(error.hint().unwrap().contains("project folder"), "{error}");
}

#[test]
fn star_files_give_the_pixel_size_of_each_micrograph() {
    let folder = tree(&["M/job002/S/a.mrc", "M/job002/S/b.mrc"]);
    let star = folder.path().join("mics.star");
    let read = |text: &str| {
        fs::write(&star, text).unwrap();
        listed(&[&star])
    };
    let optics = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n\
                  1 0.885\n2 1.5\n\n";
    let mics = "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n\
                M/job002/S/b.mrc 2\nM/job002/S/a.mrc 1\n";
    let sources = read(&format!("{optics}{mics}")).unwrap();
    assert_eq!(stems(&sources), ["S/b", "S/a"]);
    assert_eq!(sources[0].pixel_size, Some(PixelSize(1.5)));
    assert_eq!(sources[1].name, "M/job002/S/a.mrc");
    let unknown = read(&format!("{optics}{}", mics.replace("mrc 2", "mrc 7"))).unwrap_err();
    assert!(unknown.to_string().contains("optics group 7"));
    assert_eq!(read(mics).unwrap()[0].pixel_size, None);

    let old = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnMagnification #2\n\
               _rlnDetectorPixelSize #3\nM/job002/S/a.mrc 50000.0 5.0\n";
    assert_eq!(read(old).unwrap()[0].pixel_size, Some(PixelSize(1.0)));
    assert!(read(&old.replace("50000.0", "0")).unwrap_err().to_string().contains("line 7"));
    // Either of both alone gives no pixel size.
    let alone = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnMagnification #2\n\
                 M/job002/S/a.mrc 50000.0\n";
    assert_eq!(read(alone).unwrap()[0].pixel_size, None);
    let alone = alone.replace("rlnMagnification", "rlnDetectorPixelSize");
    assert_eq!(read(&alone).unwrap()[0].pixel_size, None);
}

#[test]
fn other_star_files_and_empty_places_are_refused() {
    let folder = tree(&["empty/notes.md"]);
    let star = folder.path().join("x.star");
    for (text, reason) in [
        ("data_movies\n\nloop_\n_rlnMicrographMovieName #1\na.tif\n", "movies"),
        ("data_movies\n\nloop_\n_rlnMicrographName #1\na.tif\n", "movies"),
        ("data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\na.mrc 1\n", "particles"),
        ("data_\n\nloop_\n_rlnCoordinateX #1\n1\n", "rlnMicrographName"),
        ("data_micrographs\n\nloop_\n_rlnMicrographName #1\n", "no micrographs"),
    ] {
        fs::write(&star, text).unwrap();
        let error = listed(&[&star]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} should say {reason}");
    }
    let at = |name: &str| folder.path().join(name);
    for nothing in [at("empty"), at("nowhere"), at("*.mrc"), at("[")] {
        assert!(listed(&[nothing]).is_err());
    }
    assert!(listed::<&Path>(&[]).is_err());
}

/// An image of an exposure: its structure, and noise of its own.
fn image(path: &Path, exposure: u64, noise: u64, shape: (usize, usize)) {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let random = |seed: u64, shape: (usize, usize)| {
        let mut rng = StdRng::seed_from_u64(seed);
        ndarray::Array2::from_shape_simple_fn(shape, || rng.random_range(-0.5f32..0.5))
    };
    let structure = random(1000 + exposure, (40, 40));
    let mut pixels = random(noise, shape);
    for ((y, x), value) in pixels.indexed_iter_mut() {
        *value += structure[[y * 40 / shape.0, x * 40 / shape.1]];
    }
    mrc::write(path, &pixels, Some(PixelSize(1.5)), mrc::Mode::Float32).unwrap();
}

const FULL: (usize, usize) = (320, 320);

fn left(folder: &Path) -> (Vec<String>, Vec<(Reason, usize)>) {
    let listed = list(&[folder], Filter::default()).unwrap();
    let left_out = listed.left_out.iter().map(|own| (own.reason, own.files.len())).collect();
    (stems(&listed.sources).into_iter().map(String::from).collect(), left_out)
}

#[test]
fn one_image_of_each_exposure_is_taken_whatever_lies_beside_it() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for n in 1..=4 {
        image(&at(&format!("g{n}/Foil_{n}_Data_7.mrc")), n, 10 + n, FULL);
        image(&at(&format!("g{n}/Foil_{n}_Data_7_DW.mrc")), n, 20 + n, FULL);
        image(&at(&format!("g{n}/Foil_{n}_Data_7_noDW.mrc")), n, 30 + n, FULL);
        image(&at(&format!("half/Foil_{n}_Data_7_EVN.mrc")), n, 40 + n, FULL);
        // No list of words has this one.
        image(&at(&format!("g{n}/Foil_{n}_Data_7_isonetted.mrc")), n, 50 + n, FULL);
        fs::write(at(&format!("g{n}/Foil_{n}_Data_7.xml")), "<x/>").unwrap();
        fs::write(at(&format!("g{n}/Foil_{n}_Data_7.jpg")), "").unwrap();
        image(&at(&format!("thumbs/{n}_of_Foil_{n}_Data_7.mrc")), n, 60 + n, (40, 40));
    }
    let (stems, left_out) = left(folder.path());
    assert_eq!(stems, [1, 2, 3, 4].map(|n| format!("g{n}/Foil_{n}_Data_7_DW")));
    assert!(left_out.contains(&(Reason::OtherFormat, 4)), "{left_out:?}");
    assert_eq!(left_out.iter().map(|(_, count)| count).sum::<usize>(), 24);
    let words = list(&[folder.path()], Filter::default()).unwrap().in_words().unwrap();
    assert!(
        words.starts_with("left out: 4 copies in another format (g1/Foil_1_Data_7.jpg, …)"),
        "{words}"
    );
    let only = |include: &[&str], exclude: &[&str]| {
        let own = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (include, exclude) = (own(include), own(exclude));
        let filter = Filter { include: &include, exclude: &exclude };
        list(&[folder.path()], filter).map(|listed| listed.sources.len())
    };
    assert_eq!(only(&["*_noDW.mrc", "g1/*_7.mrc"], &[]).unwrap(), 5);
    assert_eq!(only(&["*.mrc"], &["thumbs/*", "half/*"]).unwrap(), 16);
    assert_eq!(only(&[], &["*_DW.mrc"]).unwrap(), 4);
    assert!(only(&["*.nothing"], &[]).unwrap_err().to_string().contains("not included"));
    assert!(only(&["[x"], &[]).unwrap_err().to_string().contains("data.include"));
}

#[test]
fn exposures_with_names_alike_are_all_taken() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let names =
        ["a/m_1.mrc", "b/m_1.mrc", "a/m_1_2.mrc", "a/m_1_left.mrc", "a/even_2.mrc", "a/odd_2.mrc"];
    for (n, name) in names.into_iter().enumerate() {
        image(&at(name), n as u64, 90 + n as u64, FULL);
    }
    let (stems, left_out) = left(folder.path());
    assert_eq!(stems.len(), names.len());
    assert!(left_out.is_empty(), "{left_out:?}");
}

#[test]
fn movies_references_spectra_and_overviews_are_left_out_among_micrographs() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for n in 1..=3 {
        image(&at(&format!("m_{n}.mrc")), n, 10 + n, FULL);
    }
    image(&at("gain_K3_x2.mrc"), 20, 21, FULL);
    image(&at("atlas.mrc"), 22, 23, (300, 300));
    let mut movie = fs::read(at("m_1.mrc")).unwrap();
    movie[8..12].copy_from_slice(&2_i32.to_le_bytes());
    movie.extend_from_within(1024..);
    fs::write(at("frames_9.mrc"), movie).unwrap();
    // The same after half a turn, and without any other order.
    let spectrum = ndarray::Array2::from_shape_fn((128, 128), |(y, x)| {
        let (v, u) = (y, x).min((128 - y, 128 - x));
        ((v * 37 + u * 91 + v * u % 17) as f32).sin()
    });
    mrc::write(&at("m_1_PS.mrc"), &spectrum, None, mrc::Mode::Float32).unwrap();
    let pixels = read(&at("atlas.mrc")).unwrap().pixels;
    mrc::write(&at("atlas.mrc"), &pixels, Some(PixelSize(40.0)), mrc::Mode::Float32).unwrap();
    let (stems, left_out) = left(folder.path());
    assert_eq!(stems, ["m_1", "m_2", "m_3"]);
    let reasons: Vec<Reason> = left_out.iter().map(|(reason, _)| *reason).collect();
    let expected = [Reason::Movie, Reason::Spectrum, Reason::Reference, Reason::Overview];
    assert_eq!(reasons, expected);
    // Alone in a folder they are not passed over: reading says what they are.
    let other = TempDir::new().unwrap();
    fs::copy(at("m_1_PS.mrc"), other.path().join("x.mrc")).unwrap();
    let alone = list(&[other.path()], Filter::default()).unwrap().sources;
    assert!(read(&alone[0].path).unwrap_err().to_string().contains("power spectrum"));
    // A file that is named itself is always taken.
    assert_eq!(list(&[at("frames_9.mrc")], Filter::default()).unwrap().sources.len(), 1);
}

#[test]
fn a_bad_entry_is_named_and_the_others_are_taken() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let folder = tree(&["a.mrc", "sub/b.mrc"]);
    let at = |name: &str| folder.path().join(name);
    symlink("nowhere.mrc", at("gone.mrc")).unwrap();
    symlink("nowhere.txt", at("gone.txt")).unwrap();
    symlink("a.mrc", at("A.mrc")).unwrap();
    symlink("a.mrc", at("second_name.mrc")).unwrap();
    symlink("..", at("sub/loop")).unwrap();
    fs::create_dir(at("folder.mrc")).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket.mrc")).unwrap();
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"grid_\xb5m.mrc")), "").unwrap();
    let listed = list(&[folder.path()], Filter::default()).unwrap();
    assert_eq!(stems(&listed.sources), ["a", "sub/b"]);
    let errors: Vec<String> = listed.unusable.iter().map(ToString::to_string).collect();
    for reason in [
        "gone.mrc: a link that leads nowhere",
        "not UTF-8",
        "not a file",
        "folder without images",
        "loop: a link to a folder above",
    ] {
        assert!(errors.iter().any(|error| error.contains(reason)), "{reason}: {errors:?}");
    }
    assert_eq!(errors.len(), 5, "{errors:?}");
    assert_eq!(listed.left_out[0].reason, Reason::SameFile);
    assert_eq!(listed.left_out[0].files, [at("A.mrc"), at("second_name.mrc")]);
    // What is named on the command line has to be there.
    assert!(list(&[at("gone.mrc")], Filter::default()).is_err());
    assert!(list(&[at("socket.mrc")], Filter::default()).is_err());
}

#[test]
fn one_radius_in_px_is_refused_for_different_pixel_sizes() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (n, name) in ["a.mrc", "b.mrc", "c.mrc"].into_iter().enumerate() {
        image(&at(name), n as u64, 9, FULL);
    }
    let all = || list(&[folder.path()], Filter::default()).unwrap();
    let px = Some(Radius::Px(20.0));
    all().check_scale(px, None).unwrap();
    let pixels = read(&at("c.mrc")).unwrap().pixels;
    mrc::write(&at("c.mrc"), &pixels, Some(PixelSize(3.0)), mrc::Mode::Float32).unwrap();
    let error = all().check_scale(px, None).unwrap_err().to_string();
    assert!(error.contains("1 of 3") && error.contains("c.mrc with 3.0000"), "{error}");
    all().check_scale(px, Some(PixelSize(1.5))).unwrap();
    all().check_scale(Some(Radius::Angstrom(30.0)), None).unwrap();
    all().check_scale(None, None).unwrap();
    let optics =
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 1.5\n2 3\n\n";
    let mics =
        "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\na.mrc 1\nb.mrc 2\n";
    fs::write(at("m.star"), format!("{optics}{mics}")).unwrap();
    let listed = list(&[at("m.star")], Filter::default()).unwrap();
    // The STAR file decides over the number on the command line.
    assert!(listed.check_scale(px, Some(PixelSize(1.5))).is_err());
}

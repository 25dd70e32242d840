//! Picks as RELION itself extracts them; skipped, with a word, where RELION is not installed.

use std::path::Path;
use std::process::Command;

use super::support::{picker, simulate};

fn relion(program: &str, args: &[&str], folder: &Path) -> bool {
    let output = Command::new(program).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn relion_extracts_boxes_centred_on_the_particles() {
    if Command::new("relion_preprocess").arg("--help").output().is_err() {
        eprintln!("skipped: RELION is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    picker(folder)
        .args(["convert", "coordinates", "--to", "csv", "--out", "truth.csv"])
        .assert()
        .success();
    // The truth, written as picks are.
    std::fs::create_dir_all(folder.join("AutoPick/job002/micrographs")).unwrap();
    let mut expected = 0;
    for name in ["sim_0001", "sim_0002"] {
        let truth =
            picker::coords::read(&folder.join("coordinates").join(format!("{name}.star"))).unwrap();
        expected += truth[0].points.len();
        let out = format!("AutoPick/job002/micrographs/{name}_autopick.star");
        picker::coords::star::write(&folder.join(out), &truth[0].points).unwrap();
    }
    std::fs::create_dir_all(folder.join("Import/job001")).unwrap();
    std::fs::create_dir_all(folder.join("Extract/job003")).unwrap();
    relion(
        "relion_import",
        &[
            "--do_micrographs",
            "--i",
            "micrographs/*.mrc",
            "--odir",
            "Import/job001/",
            "--ofile",
            "micrographs.star",
            "--angpix",
            "5",
            "--kV",
            "300",
            "--Cs",
            "2.7",
            "--Q0",
            "0.1",
            "--optics_group_name",
            "o",
        ],
        folder,
    );
    relion(
        "relion_preprocess",
        &[
            "--i",
            "Import/job001/micrographs.star",
            "--coord_dir",
            "AutoPick/job002/",
            "--coord_suffix",
            "_autopick.star",
            "--part_star",
            "Extract/job003/particles.star",
            "--part_dir",
            "Extract/job003/",
            "--extract",
            "--extract_size",
            "64",
        ],
        folder,
    );
    let particles = picker::star::read(&folder.join("Extract/job003/particles.star")).unwrap();
    let table = particles.iter().find(|block| block.name == "particles").unwrap();
    assert_eq!(table.rows.len(), expected);

    // The mean box is darkest at its centre.
    let stacks = ["sim_0001", "sim_0002"]
        .map(|name| folder.join(format!("Extract/job003/micrographs/{name}.mrcs")));
    let mut sum = vec![0.0; 64 * 64];
    for stack in stacks {
        let bytes = std::fs::read(stack).unwrap();
        let pixels: Vec<f32> = bytes[1024..]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        for image in pixels.chunks_exact(64 * 64) {
            image.iter().enumerate().for_each(|(i, v)| sum[i] += f64::from(*v));
        }
    }
    let level = sum.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
    for (i, value) in sum.iter().enumerate() {
        let (column, row) = ((i % 64) as f64, (i / 64) as f64);
        if (column - 32.0).hypot(row - 32.0) < 14.0 {
            let dark = level - value;
            (mass, x, y) = (mass + dark, x + dark * column, y + dark * row);
        }
    }
    assert!(
        (x / mass - 32.0).abs() < 1.0 && (y / mass - 32.0).abs() < 1.0,
        "{} {}",
        x / mass,
        y / mass
    );
}

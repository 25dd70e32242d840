//! Files as independent readers see them: `mrcfile` and `starfile`, Python packages.
//!
//! `PICKER_TEST_PYTHON` names a Python that has both; without it these tests say that they are
//! skipped.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use super::support::{partner, picker, simulate, train};

fn readers() -> Option<OsString> {
    partner("PICKER_TEST_PYTHON", "a Python with mrcfile and starfile")
}

fn run(python: &OsStr, code: &str, folder: &Path) -> String {
    let output = Command::new(python).arg("-c").arg(code).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn simulated_micrographs_are_read_by_mrcfile_in_strict_mode() {
    let Some(python) = readers() else { return };
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), 1);
    let code = "import mrcfile\nwith mrcfile.open('micrographs/sim_0001.mrc') as m:\n \
        assert mrcfile.validate('micrographs/sim_0001.mrc')\n \
        print(m.data.shape, float(m.voxel_size.x), repr(float(m.data[7, 11])))";
    let seen = run(&python, code, dir.path());
    let ours = picker::micrograph::read(&dir.path().join("micrographs/sim_0001.mrc")).unwrap();
    assert!(seen.contains("(256, 320) 5.0"), "{seen}");
    let value: f64 = seen.split_whitespace().last().unwrap().parse().unwrap();
    assert_eq!(value, f64::from(ours.pixels[[7, 11]]));
}

#[test]
fn every_star_file_is_read_by_starfile() {
    let Some(python) = readers() else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).args(["--epochs", "2"]).assert().success();
    picker(folder).args(["pick", "--threshold", "0.366"]).assert().success();
    let rows = "micrographs/sim_0001.mrc\nmicrographs/sim_0002.mrc\n";
    let table = format!("data_micrographs\n\nloop_\n_rlnMicrographName #1\n{rows}");
    std::fs::write(folder.join("mics.star"), table).unwrap();
    picker(folder)
        .args(["relion", "--o", "External/job002/", "--in_mics", "mics.star"])
        .args(["--model", "picker_run", "--threshold", "0.366"])
        .assert()
        .success();
    let code = "import starfile\n\
        nodes = starfile.read('External/job002/RELION_OUTPUT_NODES.star')\n\
        assert nodes.rlnPipeLineNodeName[0] == 'External/job002/autopick.star', nodes\n\
        one = starfile.read('picker_run/picks/sim_0001_autopick.star')\n\
        assert list(one.columns) == ['rlnCoordinateX', 'rlnCoordinateY', 'rlnAutopickFigureOfMerit', 'rlnClassNumber', 'rlnAnglePsi']\n\
        many = starfile.read('picker_run/picks/picked_particles.star')\n\
        lists = starfile.read('picker_run/picks/autopick.star', always_dict=True)\n\
        assert list(lists) == ['coordinate_files'], list(lists)\n\
        assert len(lists['coordinate_files']) == 2\n\
        print(len(one), int((many.rlnMicrographName == 'sim_0001.mrc').sum()))";
    let seen = run(&python, code, folder);
    let ours =
        picker::coords::read(&folder.join("picker_run/picks/sim_0001_autopick.star")).unwrap();
    let count = ours[0].points.len();
    assert_eq!(seen.trim(), format!("{count} {count}"));
}

//! Maps of probability and attention, at the micrograph's own size.

use std::fs;

use predicates::str::contains;

use super::support::{RADIUS, picker, simulate};

#[test]
fn maps_lie_over_the_micrograph_and_are_held_against_the_particles() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    let maps = |more: &[&str]| {
        let mut command = picker(folder);
        command.args(["maps", "micrographs", "--particle-radius", RADIUS]).args(more);
        command
    };
    maps(&[]).assert().success().stderr(contains("sim_0001_maps.png"));
    for name in ["probability", "attention_8px", "attention_4px", "attention_2px", "attention_1px"]
    {
        let map =
            picker::micrograph::read(&folder.join(format!("maps/sim_0002_{name}.mrc"))).unwrap();
        assert_eq!(map.pixels.dim(), (256, 320));
        assert_eq!(map.header_pixel_size.measured().map(|size| size.0), Some(5.0));
        assert!(map.pixels.iter().all(|value| (0.0..=1.0).contains(value)));
    }
    assert_eq!(&fs::read(folder.join("maps/sim_0001_maps.png")).unwrap()[1..4], b"PNG");
    let output = maps(&["--truth", "coordinates", "--json"]).assert().success();
    let told: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let probability = &told["maps"][0];
    assert_eq!(probability["map"], "probability");
    let figure = |name: &str| probability[name].as_f64().unwrap();
    assert!(figure("inside") > 2.0 * figure("outside"), "{probability}");
    assert!(probability["difference"]["margin"].as_f64().is_some());
    fs::create_dir(folder.join("other")).unwrap();
    fs::write(folder.join("other/else.csv"), "micrograph,x,y\nelse.mrc,1,2\n").unwrap();
    maps(&["--truth", "other"]).assert().code(2).stderr(contains("no coordinates of these"));
    maps(&["--truth", "coordinates"]).assert().success().stdout(contains("attention_1px"));
}

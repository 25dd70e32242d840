//! The pipeline from the library, as a program of one's own would run it.

use picker::model::{Machine, Origin};
use picker::run::{Cancel, Cut, RunDir, StageName, State};
use picker::settings::Given;
use picker::stages::{Context, Event, Finished, begin, chain};

use super::support::simulate;

#[test]
fn the_pipeline_runs_without_a_command_line() {
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), 2);
    let mut given = Given::default();
    given.set("data.micrographs", Some([dir.path().join("micrographs")])).unwrap();
    given.set("data.truth", Some([dir.path().join("coordinates")])).unwrap();
    given.set("data.particle_radius_px", Some(14.0)).unwrap();
    given.set("self_train.iterations", Some(0)).unwrap();
    let resolved = given.resolve_with(&Origin::Default.card().unwrap()).unwrap();
    let sources = resolved.settings.data.list().unwrap().sources;
    let run = RunDir::open(&dir.path().join("run")).unwrap();
    let context = Context {
        sources: &sources,
        base: begin::place(&run, &Origin::Default).unwrap(),
        radius: resolved.settings.data.radius(),
        cut: Cut::Threshold(0.3),
        ..Context::new(&run, &resolved, 1, Machine::cpu(1))
    };
    let mut seen = Vec::new();
    let mut observe = |event: Event| {
        if let Event::Finished(finished) = event {
            seen.push(match finished {
                Finished::Pick(summary) => format!("picked {}", summary.micrographs),
                Finished::Evaluate(joined, ..) => format!("judged {}", joined.names.len()),
                Finished::Report(page) => page.file_name().unwrap().to_string_lossy().into_owned(),
                _ => "something else".into(),
            });
        }
    };
    let failures = chain::run(&context, &mut observe, &Cancel::default()).unwrap();
    assert!(failures.is_empty());
    assert_eq!(seen, ["picked 2", "judged 2", "report.html"]);
    let steps = chain::plan(&context).unwrap();
    let stages: Vec<StageName> = steps.iter().map(|step| step.stage).collect();
    let own = [StageName::Train, StageName::SelfTrain, StageName::Pick, StageName::Evaluate];
    assert_eq!(stages, [own.as_slice(), &[StageName::Report]].concat());
    assert!(steps.iter().all(|step| step.state == State::Done), "{steps:?}");
}

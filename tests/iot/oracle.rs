//! The results against a computation in Python that shares no code with ours.

use std::{path::Path, process::Command};

use headwater::{Embedded, prelude::*};

use super::{alerts::AlertRule, built, load, results::Results, series};

fn python(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("python3").arg("-B").args(arguments).output().expect("python3 runs");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn results_equal_an_independent_computation() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!(
            "### python3 is missing: the results are NOT compared with the independent computation ###"
        );
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let embedded = Embedded::open(folder.path().join("log")).unwrap();
        load::load(&embedded, &load::Input::Folder(series())).await.unwrap();
        let topology = built(AlertRule::default(), Emit::OnUpdate, |readings| readings).unwrap();
        let streams =
            embedded.start(topology, Settings { workers: 2, ..Settings::new("iot") }).await.unwrap();
        streams.caught_up().await.unwrap();
        assert_eq!(streams.close().await.unwrap().total().late, 0);
        let results = Results::read(&embedded).await.unwrap();
        results.dump(folder.path()).unwrap();
        let labels = load::Input::Folder(series()).labels().unwrap();
        results.write_tables(&mut std::io::stdout().lock(), &labels).unwrap();
        embedded.close().await.unwrap();
    });
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    for (script, ours) in
        [("hourly.py", "hourly.jsonl"), ("daily.py", "daily.jsonl"), ("alerts.py", "alerts.jsonl")]
    {
        let (well, expected) = python(&[&oracle.join(script).to_string_lossy(), &series().to_string_lossy()]);
        assert!(well, "{script}: {expected}");
        let expected_file = folder.path().join(format!("expected-{ours}"));
        std::fs::write(&expected_file, expected).unwrap();
        let (equal, report) = python(&[
            &oracle.join("compare.py").to_string_lossy(),
            "--expected",
            &expected_file.to_string_lossy(),
            "--actual",
            &folder.path().join(ours).to_string_lossy(),
            "--tolerance",
            "1e-9",
        ]);
        println!("{script}: {}", report.trim());
        assert!(equal, "{script}: {report}");
    }
}

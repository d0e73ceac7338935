//! Short runs of both kinds. They end after so many operations or cuts, not after a time, and a seed replays their faults.

use std::path::PathBuf;
use std::time::Duration;

use steward_faults::cuts;
use steward_faults::host::{HostOptions, scratch};
use steward_faults::kit::{self, Options};
use steward_test_support::{HostOptions as TestHostOptions, spawn_host, steward_program};

const SEED: u64 = 1;

#[tokio::test]
async fn clients_under_faults_see_one_history() {
    let options = Options {
        host: HostOptions { program: steward_program(), plugins: Vec::new(), lease_ms: 4_000 },
        program: PathBuf::from(env!("CARGO_BIN_EXE_steward-faults")),
        // On a busy machine the operations may take as long.
        duration: Duration::from_secs(60),
        operations: Some(6_000),
        seed: SEED,
        clients: 4,
        tasks: 4,
        pace: Duration::from_millis(100),
        directory: None,
    };
    let outcome = kit::run(&options).await.expect("the run comes to its end");
    assert!(outcome.is_good(), "seed {SEED}: {:?} {:?}", outcome.violations, outcome.undecided);
    assert!(outcome.faults > 0 && outcome.operations >= 1_000, "{outcome}");
}

#[tokio::test]
async fn calls_whose_replies_are_cut_happen_once_and_are_answered_as_at_first() {
    let host = spawn_host(TestHostOptions::default());
    let directory = scratch("steward-cuts").expect("a directory for the socket");
    let socket = PathBuf::from(host.unix().trim_start_matches("steward+unix://"));
    let cut = cuts::run(&socket, &host.authkey, directory.path(), 200, SEED);
    let outcome = cut.await.expect("the run comes to its end");
    assert!(outcome.violations.is_empty(), "seed {SEED}: {:?}", outcome.violations);
    assert!(outcome.cuts >= 200 && outcome.repeated > 0, "{outcome}, {} replies again", outcome.repeated);
}

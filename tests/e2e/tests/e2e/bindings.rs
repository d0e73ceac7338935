//! Proxies that `steward bindings` has written: they are what it writes, they compile, and they call what they say.

// As they were written: that is compared.
#[rustfmt::skip]
mod leaderboard;
#[rustfmt::skip]
mod rate_limiter;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use steward_client::Effect;
use steward_test_support::{HostOptions, component, spawn_host, steward_program};

use leaderboard::Leaderboard;
use rate_limiter::RateLimiter;

#[test]
fn written_proxies_are_up_to_date() {
    for (plugin, file) in [("leaderboard", "leaderboard.rs"), ("rate-limiter", "rate_limiter.rs")] {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join(format!("{plugin}.wasm"));
        std::fs::write(&built, component(plugin)).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/bindings").join(file);
        let mut command = Command::new(steward_program());
        command.args(["bindings", "rust"]).arg(built).arg("-o").arg(&file);
        // STEWARD_REWRITE=1 writes them.
        if std::env::var_os("STEWARD_REWRITE").is_none() {
            command.arg("--check");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn written_proxies_call_what_they_say() {
    let host = spawn_host(HostOptions { plugins: &["leaderboard", "rate-limiter"], ..HostOptions::default() });
    let manager = host.connect(host.quic()).await;
    let board = Leaderboard::create_named(&manager, "board").await.unwrap();
    assert_eq!(board.submit("ann", 2.0, None).await.unwrap(), 1);
    assert_eq!(board.submit("ann", 1.0, Some(true)).await.unwrap(), 1);
    assert_eq!(board.add("bob", None).await.unwrap(), 1.0);
    let rows: Vec<(i64, String, f64)> = board.top(Some(1)).await.unwrap();
    assert_eq!(rows, [(1, "ann".to_owned(), 2.0)]);
    assert_eq!(Leaderboard::named(&manager, "board").await.unwrap(), board);

    let limiter = RateLimiter::create(&manager, 0.001, Some(2.0)).await.unwrap();
    limiter.acquire(Some(2.0)).await.unwrap();
    let error = limiter.acquire(None).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!((error.effect(), error.kind()), (Effect::Raised, "TimeoutError"));
    assert!(RateLimiter::named(&manager, "board").await.is_err(), "another type has the name");
}

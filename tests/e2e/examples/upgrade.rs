//! Replaces a type three times while clients call its objects, and prints the longest that any call took: the pause of an
//! object that moves, and all that its client had to wait for besides.
//!
//! ```console
//! $ cargo xtask plugins && cargo run --release -p steward-e2e --example upgrade -- 32 1000
//! ```

#[path = "../load.rs"]
mod load;

use load::Load;
use steward_client::Isolation;
use steward_test_support::{HostOptions, spawn_host};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>().expect("a number"));
    let (clients, objects) = (numbers.next().unwrap_or(32), numbers.next().unwrap_or(1_000));
    let isolation = Isolation::default();
    let guests_max = u32::try_from(objects + 16).expect("so many objects fit into no host");
    let host = spawn_host(HostOptions { guests_max, ..HostOptions::default() });
    let seen = load::run(&host, host.quic(), Load { clients, objects, calls: objects, isolation }).await;
    println!("{clients} clients, {objects} objects, {} calls, none lost, none twice, none failed", seen.calls);
    println!("{} moves, longest call {:.1} ms", seen.moved, seen.longest.as_secs_f64() * 1e3);
}

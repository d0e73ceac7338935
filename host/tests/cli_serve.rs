//! Starting and ending a host, and finding it: keys, contexts, signals, the lifeline.

mod cli_support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use cli_support::{Home, Host};
use rustix::process::Signal;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn first_start_makes_a_private_key_and_a_context_and_later_ones_keep_them() {
    let home = Home::new();
    let host = home.serve(&[]);
    let mode = std::fs::metadata(home.key_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(home.key_file()).unwrap();
    assert_eq!(key.trim().len(), 64);
    let context = home.done(&["context", "show", "local"]);
    assert!(context.contains("steward+unix://") && context.contains("pin\tsha256:"), "{context}");
    host.signal(Signal::TERM);
    assert_eq!(host.ended_status(), Some(0));

    let _host = home.serve(&[]);
    assert_eq!(std::fs::read_to_string(home.key_file()).unwrap(), key);
    assert_eq!(home.done(&["context", "show", "local"]), context, "certificate and place are the same");
    home.done(&["call", "Queue/jobs", "qsize"]);
}

#[test]
fn host_is_reached_over_quic_by_address_key_and_pin() {
    let home = Home::new();
    let mut host = Host::start(home.command(&["serve", "--quic", "127.0.0.1:0", "--no-unix", "--json"]));
    let ready = host.ready();
    let (quic, pin) = (ready["ready"]["quic"].as_str().unwrap(), ready["ready"]["pin"].as_str().unwrap());
    let key = home.key_file();
    let reach = ["-c", quic, "--key-file", key.to_str().unwrap(), "--pin"];
    let args = |pin| [&["call", "Queue/jobs", "qsize"], &reach[..], &[pin]].concat();
    assert_eq!(home.done(&args(pin)), "0\n");
    home.fails(&args(&format!("sha256:{}", "0".repeat(64))), 6, "error:");

    home.fails(&["objects", "-c", quic], 6, "--key-file");
    let output =
        home.command(&["objects", "-c", quic]).env("STEWARD_KEY", std::fs::read_to_string(&key).unwrap()).output();
    assert!(output.unwrap().status.success(), "the environment may hold the key");
}

#[test]
fn without_host_or_with_a_wrong_key_it_is_not_connected() {
    let home = Home::new();
    home.fails(&["types"], 6, "`steward serve` makes the context `local`");
    let host = home.serve(&[]);
    let other = home.path().join("other.key");
    std::fs::write(&other, KEY).unwrap();
    let ran = home.fails(&["types", "--key-file", other.to_str().unwrap(), "--json"], 6, "SignInFailed");
    assert!(!ran.stderr.contains(KEY), "a key is never shown");
    home.done(&["types"]);
    host.signal(Signal::TERM);
    assert_eq!(host.ended_status(), Some(0));
    home.fails(&["types"], 6, "start a host with `steward serve`");
}

#[test]
fn second_host_at_the_same_place_is_told_how_to_stand_beside() {
    let home = Home::new();
    let _host = home.serve(&[]);
    home.fails(&["serve", "--quic", "127.0.0.1:0"], 3, "--unix PATH --context NAME");
    let beside = home.path().join("beside/socket");
    let _beside = home.serve(&["--unix", beside.to_str().unwrap(), "--context", "beside"]);
    home.done(&["create", "Queue", "--name", "jobs", "-c", "beside"]);
    assert_eq!(home.done(&["objects"]), "", "the first host is another one");
    let contexts = home.done(&["context", "list"]);
    assert_eq!(contexts.lines().count(), 2, "{contexts}");
}

#[test]
fn port_that_was_asked_for_must_be_free() {
    let home = Home::new();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.fails(&["serve", "--quic", &address, "--no-unix"], 3, "--quic 127.0.0.1:0");
}

#[test]
fn terminated_host_tells_its_clients_and_ends_well() {
    let home = Home::new();
    let host = home.serve(&[]);
    home.done(&["create", "Queue", "--name", "jobs"]);
    let waiting = Host::start(home.command(&["call", "jobs", "get"]));
    home.wait_for_waiter();
    host.signal(Signal::TERM);
    assert_eq!(host.ended_status(), Some(0));
    let status = waiting.ended_status().unwrap();
    assert!([3, 4, 6].contains(&status), "a call that waited is given up, not answered: {status}");
    let socket = home.path().join(".local/state/steward/steward.sock");
    assert!(!socket.exists(), "the socket goes with its host");
}

#[test]
fn lifeline_gives_the_key_ignores_interrupts_and_ends_the_host() {
    let home = Home::new();
    let mut command = home.command(&["serve", "--private", "--lifeline", "stdin"]);
    let mut host = Host::start({
        command.stdin(Stdio::piped());
        command
    });
    let mut lifeline = host.child.stdin.take().unwrap();
    writeln!(lifeline, "{KEY}").unwrap();
    let ready = host.ready();
    let unix = ready["ready"]["unix"].as_str().unwrap().to_owned();
    let key = home.path().join("key");
    std::fs::write(&key, KEY).unwrap();
    let reach = |args: &[&str]| {
        let all = [args, &["-c", &unix, "--key-file", key.to_str().unwrap()]].concat();
        home.done(&all)
    };
    host.signal(Signal::INT);
    assert_eq!(reach(&["call", "Queue/jobs", "qsize"]), "0\n", "an interrupt is the program's own affair");
    assert!(!home.path().join(".config").exists(), "it writes no context");
    assert!(!home.path().join(".local").exists(), "it keeps nothing");

    drop(lifeline);
    assert_eq!(host.ended_status(), Some(0));
    let directory = std::path::Path::new(unix.trim_start_matches("steward+unix://")).parent().unwrap();
    assert!(!directory.exists(), "its directory is removed");
}

#[test]
fn lifeline_without_a_key_is_refused() {
    let home = Home::new();
    home.fails(&["serve", "--private", "--lifeline", "stdin"], 2, "the key in hex");
}

#[test]
fn contexts_are_added_used_shown_and_removed() {
    let home = Home::new();
    let key = home.path().join("prod.key");
    std::fs::write(&key, KEY).unwrap();
    let key = key.to_str().unwrap();
    home.done(&["context", "add", "prod", "steward://prod:7777", "--tenant", "acme", "--key-file", key]);
    home.done(&["context", "add", "test", "steward://test:7777"]);
    home.done(&["context", "use", "prod"]);
    assert_eq!(
        home.done(&["context", "list"]),
        "*\tprod\tsteward://prod:7777\tacme\n\ttest\tsteward://test:7777\tdefault\n"
    );
    assert!(home.done(&["context", "show"]).contains(&format!("key_file\t{key}")));
    home.fails(&["context", "use", "prd"], 2, "did you mean `prod`?");
    home.fails(&["context", "add", "bad", "prod:7777"], 2, "steward://");
    home.fails(&["context", "add", "bad", "steward://prod:7777", "--key-file", "/nowhere"], 2, "/nowhere");
    home.done(&["context", "remove", "prod"]);
    assert_eq!(home.done(&["context", "list"]), "\ttest\tsteward://test:7777\tdefault\n");
}

#[test]
fn limits_of_the_flags_are_the_limits_of_the_host() {
    let home = Home::new();
    let _host = home.serve(&["--objects-max", "1"]);
    home.done(&["create", "Queue", "--name", "jobs"]);
    home.fails(&["create", "Queue", "--name", "more"], 3, "limit is 1");
}

#[test]
fn bad_arguments_of_a_host_come_with_a_fix() {
    let home = Home::new();
    home.fails(&["serve", "--no-quic", "--no-unix"], 2, "leave out --no-quic or --no-unix");
    home.fails(&["serve", "--tenant", "../x"], 2, "no name for a tenant");
    home.fails(&["serve", "--register", "Jobs=Qeue"], 2, "did you mean `Queue`?");
    home.fails(&["serve", "--singleton", "jobs=Queue[1"], 2, "get_queue=Queue[100]");
    home.fails(&["serve", "--plugin", "/nowhere.wasm"], 2, "/nowhere.wasm");
    home.fails(&["serve", "--profile", "sparse"], 2, "auto, fast, dense");
    for flag in ["--guest-steps-max", "--guest-steps-per-tenant-max"] {
        home.fails(&["serve", flag, "0"], 2, "0 is not in 1..");
    }
    let steps = ["serve", "--guest-steps-max", "4", "--guest-steps-per-tenant-max", "5"];
    home.fails(&steps, 2, "--guest-steps-per-tenant-max is 5, limit is 4");
    home.fails(&steps, 2, "--guest-steps-max 5");
    home.fails(&["serve", "--log", "a=b=c", "--no-unix"], 2, "log filter");
    let deep = format!("/tmp/{}", "x".repeat(120));
    home.fails(&["serve", "--unix", &deep], 2, "limit is 107");
}

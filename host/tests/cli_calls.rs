//! Commands against a running host: what they print, and how they end.

mod cli_support;

use cli_support::{Home, Host};

#[test]
fn objects_are_created_called_listed_and_deleted() {
    let home = Home::new();
    let _host = home.serve(&[]);

    let ident = home.done(&["create", "Queue", "--name", "jobs", "maxsize=2"]);
    assert!(ident.starts_with('#'), "{ident}");
    let ident = ident.trim();
    home.done(&["call", "jobs", "put", r#"{"id": 7, "raw": {"$bytes": "aGk="}}"#]);
    home.done(&["call", ident, "put", "plain text"]);
    assert_eq!(home.done(&["call", "Queue/jobs", "qsize"]), "2\n");

    let objects = home.done(&["objects"]);
    assert_eq!(objects, format!("Queue\tjobs\t{ident}\t1\t0\n"), "a pipe gets tabs and no header");
    let taken = home.done(&["call", "jobs", "get", "--json"]);
    assert_eq!(taken, "{\"id\":7,\"raw\":{\"$bytes\":\"aGk=\"}}\n");
    assert_eq!(home.done(&["call", "jobs", "get", "--timeout", "0"]), "plain text\n");

    home.fails(&["delete", "jobs"], 2, "add --yes");
    home.done(&["delete", "jobs", "--yes"]);
    home.fails(&["call", "jobs", "qsize"], 3, "no object is named `jobs`");
    assert_eq!(home.done(&["objects"]), "");
}

#[test]
fn unnamed_object_goes_with_the_command_that_made_it() {
    let home = Home::new();
    let _host = home.serve(&[]);
    let ran = home.run(&["create", "dict"]);
    assert_eq!(ran.status, 0);
    assert!(ran.stderr.contains("--name NAME keeps it"), "{ran:?}");
    home.fails(&["call", ran.stdout.trim(), "keys"], 3, "fix: `steward objects`");
}

#[test]
fn exit_status_is_the_effect() {
    let home = Home::new();
    let _host = home.serve(&[]);
    home.done(&["create", "dict", "--name", "config", "debug=true"]);
    assert_eq!(home.done(&["call", "config", "get", "debug"]), "true\n");

    home.fails(&["call", "config", "__getitem__", "none"], 1, "KeyError");
    home.fails(&["call", "Queue/jobs", "get", "--timeout", "0"], 1, "error: Empty\n");
    home.fails(&["call", "config"], 2, "METHOD");
    home.fails(&["call", "config", "get", r#"{"$bytes": 1}"#], 2, "`$bytes` takes bytes in Base64");
    home.fails(&["call", "#999", "get"], 3, "#999");
    home.fails(&["call", "list/config", "append", "1"], 3, "is a dict, not a list");
}

#[test]
fn json_errors_say_kind_message_effect_and_hint() {
    let home = Home::new();
    let _host = home.serve(&[]);
    let error = |args: &[&str], status| {
        let ran = home.fails(args, status, "");
        let line: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|_| panic!("{ran:?}"));
        line["error"].clone()
    };
    let raised = error(&["call", "Queue/jobs", "get_nowait", "--json"], 1);
    assert_eq!((&raised["kind"], &raised["effect"]), (&"Empty".into(), &"raised".into()), "{raised}");
    let refused = error(&["create", "Qeue", "--json"], 3);
    assert_eq!((&refused["kind"], &refused["effect"]), (&"UnknownType".into(), &"refused".into()), "{refused}");
    assert_eq!(refused["hint"], "did you mean `Queue`?");
}

#[test]
fn misspelt_names_are_answered_with_the_nearest() {
    let home = Home::new();
    let _host = home.serve(&[]);
    home.done(&["create", "Queue", "--name", "jobs"]);
    home.fails(&["create", "qeue"], 3, "did you mean `Queue`?");
    home.fails(&["types", "dikt"], 3, "did you mean `dict`?");
    home.fails(&["call", "jobs", "putt", "1"], 3, "did you mean `put`?");
    home.fails(&["call", "job", "put", "1"], 3, "did you mean `jobs`?");
    home.fails(&["creat", "Queue"], 2, "create");
}

#[test]
fn types_show_what_can_be_called() {
    let home = Home::new();
    let _host = home.serve(&["--register", "Jobs=Queue", "--singleton", "get_jobs=Jobs[1]"]);
    let types = home.done(&["types"]);
    for typeid in ["Queue\t", "Jobs\t", "get_jobs\t"] {
        assert!(types.lines().any(|line| line.starts_with(typeid)), "{typeid}: {types}");
    }
    let methods = home.done(&["types", "Jobs"]);
    assert!(methods.lines().any(|line| line.starts_with("put\tput(")), "{methods}");
    let info: serde_json::Value = serde_json::from_str(&home.done(&["types", "Jobs", "--json"])).unwrap();
    assert_eq!(info["typeid"], "Jobs");

    // One object for everybody, with the arguments of the registration.
    let ident = home.done(&["create", "get_jobs"]);
    assert_eq!(home.done(&["create", "get_jobs"]), ident);
    home.done(&["call", ident.trim(), "put", "1"]);
    home.fails(&["call", ident.trim(), "put_nowait", "2"], 1, "Full");
}

#[test]
fn reference_in_an_argument_keeps_its_object() {
    let home = Home::new();
    let _host = home.serve(&[]);
    let jobs = home.done(&["create", "Queue", "--name", "jobs"]);
    let jobs = jobs.trim();
    home.done(&["create", "dict", "--name", "registry"]);
    home.done(&["call", "registry", "update", &format!("jobs={{\"$ref\": \"{jobs}\"}}")]);
    home.done(&["delete", "jobs", "--yes"]);
    let stored = home.done(&["call", "registry", "get", "jobs", "--json"]);
    assert_eq!(stored, format!("{{\"$ref\":\"Queue{jobs}\"}}\n"), "the type was found");
    assert_eq!(home.done(&["call", jobs, "qsize"]), "0\n", "the dict keeps it");
}

#[test]
fn interrupted_call_ends_with_130_and_leaves_no_waiter() {
    let home = Home::new();
    let _host = home.serve(&[]);
    home.done(&["create", "Queue", "--name", "jobs"]);
    let waiting = Host::start(home.command(&["call", "jobs", "get"]));
    home.wait_for_waiter();
    waiting.signal(rustix::process::Signal::INT);
    assert_eq!(waiting.ended_status(), Some(130));
    home.done(&["call", "jobs", "put", "1"]);
    assert_eq!(home.done(&["call", "jobs", "qsize"]), "1\n", "nobody took it");
}

#[test]
fn bench_measures_and_leaves_nothing_behind() {
    let home = Home::new();
    let _host = home.serve(&[]);
    let report = home.done(&["bench", "--seconds", "0.05", "--in-flight", "4", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(
        report["calls"].as_u64().unwrap() > 0 && report["p99_us"].as_f64() >= report["p50_us"].as_f64(),
        "{report}"
    );
    assert_eq!(home.done(&["objects"]), "");
}

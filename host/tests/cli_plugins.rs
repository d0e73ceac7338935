//! Commands around plugins, and the demo. What a plugin is made of here is just enough to be refused.

mod cli_support;
#[path = "../../tests/guests/changeling/versions.rs"]
#[expect(unreachable_pub, reason = "elsewhere it is")]
mod versions;

use cli_support::Home;

#[test]
fn file_that_is_no_plugin_is_a_finding() {
    let home = Home::new();
    let file = home.path().join("empty.wasm");
    let component = wasm_encoder::Component::new();
    std::fs::write(&file, component.finish()).unwrap();
    let file = file.to_str().unwrap();
    let ran = home.run(&["check", file]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains("finding: not a plugin"), "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&home.run(&["check", file, "--json"]).stdout).unwrap();
    assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{report}");
    home.fails(&["check", "/nowhere.wasm"], 2, "cannot read plugin /nowhere.wasm");
    let mut later = include_bytes!("guest/frozen/hyperloglog-0.1.0.wasm").to_vec();
    let places: Vec<_> = (0..later.len() - 6).filter(|at| later[*at..].starts_with(b"@0.1.0")).collect();
    places.into_iter().for_each(|at| later[at + 1..at + 6].copy_from_slice(b"0.2.0"));
    std::fs::write(home.path().join("later.wasm"), later).unwrap();
    let ran = home.run(&["check", home.path().join("later.wasm").to_str().unwrap()]);
    assert_eq!(ran.stdout.matches("plugin was built for world 0.2, this host serves 0.1").count(), 1, "{ran:?}");
    for (bytes, what) in [
        (&b""[..], "it is empty"),
        (b"#!/bin/sh", "it is no WebAssembly"),
        (b"\0asm\x01\0\0\0", "it is a core module of WebAssembly, and no component"),
    ] {
        let other = home.path().join("other.wasm");
        std::fs::write(&other, bytes).unwrap();
        let ran = home.run(&["check", other.to_str().unwrap()]);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.stdout.ends_with(&format!("finding: not a plugin: {what}\n")), "{ran:?}");
    }
    home.fails(&["serve", "--plugin", file], 3, "steward check");
}

/// From a running host without plugins to one with a second version, and back.
#[test]
fn plugin_is_registered_replaced_and_removed_while_the_host_runs() {
    let home = Home::new();
    let _host = home.serve(&[]);
    let first = component("changeling");
    let second = home.path().join("second.wasm");
    std::fs::write(&second, versions::version(&std::fs::read(&first).unwrap(), "2.0.7001", "changed.....", &[]))
        .unwrap();
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    assert_eq!(home.done(&["register", first]), "Changeling 1.0.7001\nStone 1.0.7001\n");
    home.done(&["call", "Changeling/sum", "add", "4"]);
    home.done(&["call", "Stone/stone", "count"]);
    home.fails(&["register", second], 3, "add --replace");
    home.fails(&["register", second, "--type", "Stoan"], 3, "the plugin has no type `Stoan`: it has Changeling, Stone");
    home.fails(&["unregister", "Ston"], 3, "did you mean `Stone`?");
    home.fails(&["unregister", "Gravel"], 3, "`steward plugins` lists those there are");
    let told = home.done(&["register", second, "--replace"]);
    let expected = "Changeling 1.0.7001 → 2.0.7001: 1 object will move\n\
                    Stone 1.0.7001 → 2.0.7001: 0 objects will move, 1 object will stay, which cannot be saved and loaded\n";
    assert_eq!(told, expected);
    assert_eq!(home.done(&["call", "sum", "behaviour"]), "changed.....\n");
    assert_eq!(home.done(&["call", "sum", "sum"]), "4\n");
    home.fails(&["call", "sum", "trap", "1"], 3, "had no effect");
    let listed = home.done(&["plugins"]);
    let digest = |line: &str| line.split('\t').nth(2).unwrap().to_owned();
    let listed: Vec<String> = listed.lines().map(|line| line.replace(&digest(line), "…")).collect();
    let expected = [
        "Changeling\t2.0.7001\t…\tobject\t1\t1\t0\t0",
        "Stone\t2.0.7001\t…\tobject\t0\t0\t0\t0",
        "Stone\t1.0.7001\t…\tobject\t1\t\t\t",
    ];
    assert_eq!(listed, expected);
    let types = home.done(&["types"]);
    for expected in ["Changeling\t1\t1\t1\t", "Stone\t1\t0\t0\t", "Queue\t0\t\t\t"] {
        assert!(types.lines().any(|line| line.starts_with(expected)), "{expected}: {types}");
    }
    let types: serde_json::Value = serde_json::from_str(&home.done(&["types", "--json"])).unwrap();
    let sum = types.as_array().unwrap().iter().find(|info| info["typeid"] == "Changeling").unwrap();
    assert_eq!((&sum["objects"], &sum["recovered"]), (&1.into(), &1.into()));
    assert_eq!(home.done(&["unregister", "Stone"]), "Stone removed, objects left as they are: 1\n");
    assert_eq!(home.done(&["call", "stone", "count"]), "2\n");
    assert_eq!(home.done(&["unregister", "Changeling", "--force"]), "Changeling removed, objects poisoned: 1\n");
    home.fails(&["call", "sum", "sum"], 5, "was removed");
    home.fails(&["register", "/nowhere.wasm"], 2, "cannot read plugin");
}

/// Chosen for one file, for all of them, or for one that is registered later.
#[test]
fn memory_of_an_object_is_what_was_chosen_for_its_plugin() {
    let home = Home::new();
    let probe = component("probe");
    let probe = probe.to_str().unwrap();
    {
        let _host = home.serve(&["--plugin", probe, "--plugin-memory-bytes", &format!("2097152,{probe}=3145728")]);
        home.fails(&["call", "Probe/p", "grow"], 3, "limit is 3145728 bytes");
    }
    {
        let _host = home.serve(&["--plugin", probe, "--plugin-memory-bytes", "2097152"]);
        home.fails(&["call", "Probe/p", "grow"], 3, "limit is 2097152 bytes");
    }
    let _host = home.serve(&[]);
    home.fails(&["register", probe, "--memory-bytes", "65535"], 2, "65536 are the least");
    home.fails(&["register", probe, "--memory-bytes", "1000000000"], 3, "limit is 67108864");
    home.done(&["register", probe, "--memory-bytes", "1310720"]);
    home.fails(&["call", "Probe/p", "grow"], 3, "limit is 1310720 bytes");

    let misspelt = ["serve", "--plugin", probe, "--plugin-memory-bytes", "prob.wasm=2097152"];
    home.fails(&misspelt, 2, "--plugin-memory-bytes names prob.wasm, which is not served");
    home.fails(&["serve", "--plugin", probe, "--plugin-memory-bytes", "1"], 2, "65536 are the least");
    home.fails(&["serve", "--plugin", probe, "--plugin-memory-bytes", "1000000000"], 3, "67108864 is the most");
}

/// The plugins' room is not the tenant's: whoever asks for more of one is told of the other.
#[test]
fn room_that_a_tenant_may_not_use_is_said() {
    let home = Home::new();
    let note = "note: a tenant may have 10000 objects, fewer than the 100000 of plugins; --objects-max raises it";
    home.fails(&["serve", "--profile", "dense", "--plugin", "/nowhere.wasm"], 2, note);
    let told = ["serve", "--profile", "dense", "--objects-max", "100000", "--plugin", "/nowhere.wasm"];
    assert!(!home.run(&told).stderr.contains("note:"));
    assert!(!home.run(&["serve", "--plugin", "/nowhere.wasm"]).stderr.contains("note:"));
}

#[test]
fn doctor_says_what_the_system_s_limits_mean_and_changes_nothing() {
    let home = Home::new();
    let findings: serde_json::Value = serde_json::from_str(&home.run(&["doctor", "--json"]).stdout).unwrap();
    let detail = |what: &str| {
        let mut all = findings.as_array().unwrap().iter();
        all.find(|finding| finding["what"] == what).unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("vm.max_map_count").contains(" objects of plugins laid out fast"), "{findings}");
    assert!(detail("memlock").contains("a host locks none"), "{findings}");
}

/// Where it is registered, and where a host is started with it.
#[test]
fn objects_of_a_type_share_where_they_are_registered_so() {
    let home = Home::new();
    let component = component("changeling");
    let component = component.to_str().unwrap();
    let host = home.serve(&["--plugin", component, "--isolation", "Changeling=shared"]);
    home.done(&["call", "Changeling/ada", "add", "4"]);
    home.done(&["call", "Changeling/grace", "add", "7"]);
    home.fails(&["call", "ada", "trap", "1"], 3, "had no effect");
    assert_eq!(
        (home.done(&["call", "ada", "sum"]), home.done(&["call", "grace", "sum"])),
        ("4\n".into(), "7\n".into())
    );
    let report: serde_json::Value = serde_json::from_str(&home.done(&["plugins", "--json"])).unwrap();
    let version = &report[0]["versions"][0];
    assert_eq!((version["isolation"].as_str(), version["objects"].as_u64()), (Some("shared"), Some(2)), "{report}");
    assert_eq!(version["shards"], 1, "{report}");

    let refused = "`Stone` does not save, so its objects cannot share";
    home.fails(&["register", component, "--replace", "--isolation", "shared"], 3, refused);
    home.fails(&["register", component, "--isolation", "both"], 2, "`both` is none of object, shared");
    let args = ["register", component, "--replace", "--type", "Changeling", "--isolation", "object"];
    assert_eq!(home.done(&args), "Changeling 1.0.7001 → 1.0.7001: 2 objects will move\n");
    assert_eq!(home.done(&["call", "grace", "sum"]), "7\n");
    assert!(home.done(&["plugins"]).lines().next().unwrap().contains("\tobject\t1\t"));
    drop(host);
    let unknown = ["serve", "--plugin", component, "--isolation", "Changelings=shared"];
    home.fails(&unknown, 2, "did you mean `Changeling`?");
    home.fails(&["serve", "--plugin", component, "--isolation", "Stone=shared"], 3, refused);
}

/// A plugin of this checkout.
fn component(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("a test lies in target/PROFILE/deps");
    let path = target.join("plugins").join(name).with_extension("wasm");
    assert!(path.exists(), "{}: run `cargo xtask plugins` first", path.display());
    path
}

/// Each plugin of this checkout has a page, which the gallery leads to and which names what clients can call.
#[test]
fn every_plugin_has_its_page() {
    let home = Home::new();
    let plugins = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let gallery = std::fs::read_to_string(plugins.join("README.md")).unwrap();
    let folders = plugins.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut pages = 0;
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let page = std::fs::read_to_string(folder.join("README.md")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(gallery.contains(&format!("[`{name}`]({name})")), "the gallery leads to {name}");
        pages += 1;
        // What Go's make is compiled too long for a look at names.
        if folder.join("go.mod").exists() {
            continue;
        }
        let report = home.done(&["check", component(name).to_str().unwrap(), "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        for offered in report["types"].as_array().unwrap() {
            assert!(page.contains(offered["typeid"].as_str().unwrap()), "{name}: {offered}");
            let methods = offered["methods"].as_array().unwrap().iter().map(|method| method["name"].as_str().unwrap());
            for method in methods.filter(|method| !method.starts_with("__")) {
                assert!(page.contains(&format!("`{method}(")), "the page of {name} has no `{method}`");
            }
        }
    }
    assert!(pages >= 7, "{pages}");
}

#[test]
fn demo_survives_the_death_of_a_process_and_counts_right() {
    let home = Home::new();
    let told = home.done(&["demo"]);
    assert!(told.contains("is killed while it holds the lock"), "{told}");
    assert!(told.contains("is told that its holder died"), "{told}");
    assert!(told.lines().last().unwrap().contains("everything came out right"), "{told}");
}

#[test]
fn demo_without_the_plugins_that_were_promised_is_a_mistake() {
    let home = Home::new();
    home.fails(&["demo", "--plugins", home.path().to_str().unwrap()], 2, "cargo xtask plugins");
}

#[test]
fn completions_complete_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.done(&["completions", shell]);
        assert!(script.contains("objects") && !script.contains("compile-component   "), "{shell}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::new();
    let help = home.done(&["--help"]);
    for command in [
        "serve",
        "demo",
        "call",
        "create",
        "types",
        "objects",
        "delete",
        "plugins",
        "register",
        "unregister",
        "new",
        "build",
        "test",
        "check",
        "run",
        "dev",
        "bindings",
        "doctor",
        "bench",
        "context",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let help = home.done(&[command, "--help"]);
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains(&format!("steward {command}")), "{command}: {help}");
    }
    assert!(!help.contains("demo-worker") && !help.contains("compile-component"), "{help}");
}

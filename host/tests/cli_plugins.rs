//! Commands around plugins, and the demo. What a plugin is made of here is just enough to be refused.

mod cli_support;

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
    home.fails(&["serve", "--plugin", file], 3, "steward check");
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

//! A plugin's author at work, in each language: from nothing to objects at a prompt.

mod cli_support;

use std::path::PathBuf;
use std::process::Stdio;

use cli_support::{Home, Ran};

/// A home of its own, but for what takes long to fetch and to compile and is the same for all.
struct Author(Home);

impl Author {
    fn new() -> Self {
        let home = Home::new();
        let tools = target().join("tools");
        std::fs::create_dir_all(&tools).unwrap();
        std::fs::create_dir_all(home.path().join(".cache/steward")).unwrap();
        std::os::unix::fs::symlink(&tools, home.path().join(".cache/steward/tools")).unwrap();
        Self(home)
    }

    fn run(&self, args: &[&str], script: &str) -> Ran {
        let mut command = self.0.command(args);
        command.current_dir(self.0.path()).env("CARGO_TARGET_DIR", target().join("author"));
        // Those of this machine, which a home of its own hides.
        for (variable, below_home) in
            [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("GOCACHE", ".cache/go-build")]
        {
            let home = PathBuf::from(std::env::var_os("HOME").expect("there is a home"));
            command.env(variable, std::env::var_os(variable).map_or_else(|| home.join(below_home), PathBuf::from));
        }
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn done(&self, args: &[&str], script: &str) -> String {
        let ran = self.run(args, script);
        assert_eq!(ran.status, 0, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran.stdout
    }
}

/// The folder that this test was built in.
fn target() -> PathBuf {
    // target/PROFILE/steward
    let program = PathBuf::from(env!("CARGO_BIN_EXE_steward"));
    program.ancestors().nth(2).unwrap().to_owned()
}

/// What every language's new project does at the prompt.
const SCRIPT: &str = "\
t = Turnstile()
t.enter()
t.enter() &
as s2
t.enter()
t.free()
jobs
deadline 2
t.leave()
t.enter(1)
Turnstile(0)
reload
t.leave()
t.leave()
help Turnstile
";

const TRANSCRIPT: &str = "\
> t = Turnstile()
> t.enter()
True
> t.enter() &
[1] parked
> as s2
> t.enter()
[2] parked
> t.free()
0
> jobs
[1] t.enter
[2] t.enter
> deadline 2
[2] done: False
> t.leave()
[1] done: True
> t.enter(1)
TypeError: Turnstile.enter() takes 1 positional argument but 2 were given
> Turnstile(0)
ValueError: places must be at least 1
> reload
Turnstile 0.1.0 → 0.1.0: 1 moved
> t.leave()
> t.leave()
ValueError: nobody is inside
> help Turnstile
Turnstile(places: int = 1)
      Lets so many callers in at a time; the others wait in turn.

  enter()
      Takes a place, waiting in turn until there is one; False at the deadline.
      (may wait)

  leave()
      Gives a place back.

  free()
      Places free at this moment.
      (changes nothing)
";

/// New, build, test, check, run.
fn journey(lang: &str) {
    let author = Author::new();
    assert_eq!(author.done(&["new", "--lang", lang, "turnstile"], ""), "turnstile\n");
    let built = author.done(&["build", "turnstile", "--fetch"], "");
    let fields: Vec<_> = built.trim_end().split('\t').collect();
    assert_eq!((fields[0], fields[2]), ("turnstile/turnstile.wasm", "Turnstile 0.1.0"), "{built}");
    author.done(&["test", "turnstile", "--fetch"], "");
    let report = author.done(&["check", "turnstile/turnstile.wasm", "--json"], "");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["sdk"], format!("{lang} {}", env!("CARGO_PKG_VERSION")), "{report}");
    assert_eq!(report["imports"], serde_json::json!(["steward:plugin/host@0.1.0"]), "{report}");
    assert_eq!(report["warnings"], serde_json::json!([]), "{report}");
    let transcript = author.done(&["run", "turnstile/turnstile.wasm"], SCRIPT);
    assert_eq!(transcript, TRANSCRIPT, "{transcript}");
}

#[test]
fn plugin_in_rust_is_written_built_tested_checked_and_tried() {
    journey("rust");
}

#[test]
fn plugin_in_c_is_written_built_tested_checked_and_tried() {
    journey("c");
}

#[test]
fn plugin_in_go_is_written_built_tested_checked_and_tried() {
    journey("go");
}

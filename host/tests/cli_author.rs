//! A plugin's author at work, in each language: from nothing to objects at a prompt.

mod cli_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cli_support::{Home, Host, Ran};

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

    fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = self.0.command(args);
        command.current_dir(folder).env("CARGO_TARGET_DIR", target().join("author"));
        // Those of this machine, which a home of its own hides.
        for (variable, below_home) in
            [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("GOCACHE", ".cache/go-build")]
        {
            let home = PathBuf::from(std::env::var_os("HOME").expect("there is a home"));
            command.env(variable, std::env::var_os(variable).map_or_else(|| home.join(below_home), PathBuf::from));
        }
        command
    }

    fn run(&self, folder: &Path, args: &[&str], script: &str) -> Ran {
        let mut child = self.command(folder, args).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn done(&self, args: &[&str], script: &str) -> String {
        let ran = self.run(self.0.path(), args, script);
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
t = Wicket()
t.enter()
t.enter() &
as s2
t.enter()
t.free()
jobs
deadline 2
t.leave()
t.enter(1)
Wicket(0)
reload
t.leave()
t.leave()
t.enter()
t.enter() &
save t t.state
t.leave()
load u t.state
u.free()
u.leave()
u.free()
help Wicket
";

const TRANSCRIPT: &str = "\
> t = Wicket()
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
TypeError: Wicket.enter() takes 1 positional argument but 2 were given
> Wicket(0)
ValueError: places must be at least 1
> reload
Wicket 0.1.0 → 0.1.0: 1 moved
> t.leave()
> t.leave()
ValueError: nobody is inside
> t.enter()
True
> t.enter() &
[3] parked
> save t t.state
Wicket 0.1.0 in t.state, without the call that waits
> t.leave()
[3] done: True
> load u t.state
> u.free()
0
> u.leave()
> u.free()
1
> help Wicket
Wicket(places: int = 1)
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
    assert_eq!(author.done(&["new", "--lang", lang, "wicket"], ""), "wicket\n");
    let built = author.done(&["build", "wicket", "--fetch"], "");
    let fields: Vec<_> = built.trim_end().split('\t').collect();
    assert_eq!((fields[0], fields[2]), ("wicket/wicket.wasm", "Wicket 0.1.0"), "{built}");
    author.done(&["test", "wicket", "--fetch"], "");
    let report = author.done(&["check", "wicket/wicket.wasm", "--json"], "");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["sdk"], format!("{lang} {}", env!("CARGO_PKG_VERSION")), "{report}");
    let imports = report["imports"].as_array().unwrap();
    assert!(imports.iter().all(|import| import.as_str().unwrap().starts_with("steward:plugin/")), "{report}");
    assert_eq!(report["warnings"], serde_json::json!([]), "{report}");
    let transcript = author.done(&["run", "wicket/wicket.wasm"], SCRIPT);
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

/// A method of each language that returns a new object: one of the plugin's own type, and one of a type that is the host's.
#[test]
fn method_returns_a_new_object() {
    let author = Author::new();
    let languages = [
        (
            "rust",
            "src/lib.rs",
            "    /// Gives a place back.",
            "    /// As many places once more.
    #[method(returns = \"Alcove\")]
    pub fn again(&mut self) -> u32 {
        self.places
    }

    /// A line of that length.
    #[method(returns = \"Queue\")]
    pub fn line(&self, n: u32) -> u32 {
        n
    }

",
        ),
        (
            "c",
            "alcove.c",
            "ST_METHOD(Alcove, leave",
            "ST_METHOD(Alcove, again, \"again() => Alcove\", 0, \"As many places once more.\") {
    return st_return_u64(call, self->places);
}

ST_METHOD(Alcove, line, \"line(n: int) => Queue\", ST_READ, \"A line of that length.\") {
    (void)self;
    return st_return_i64(call, st_i64(call, \"n\"));
}

",
        ),
        (
            "go",
            "main.go",
            "// Gives a place back.",
            "// As many places once more.
func (t *Alcove) Again() uint32 { return t.Places }

// A line of that length.
func (t *Alcove) Line(n int) int { return n }

",
        ),
    ];
    for (lang, file, before, methods) in languages {
        author.done(&["new", "--lang", lang, "alcove", lang], "");
        let file = author.0.path().join(lang).join(file);
        let source = std::fs::read_to_string(&file).unwrap();
        let source = source.replacen(before, &format!("{methods}{before}"), 1);
        // Where methods are listed, these are listed, too.
        let source = source.replace("enter_timeout, leave", "enter_timeout, again, line, leave").replace(
            "\t\tguest.Read(\"Free\"),\n",
            "\t\tguest.Read(\"Free\"),\n\t\tguest.Method(\"Again\", guest.Returns(\"Alcove\")),\n\
             \t\tguest.Read(\"Line\", guest.Returns(\"Queue\")),\n",
        );
        std::fs::write(&file, source).unwrap();
        author.done(&["build", lang, "--fetch", "-o", "alcove.wasm"], "");
        let shown = author.done(
            &["run", "alcove.wasm"],
            "a = Alcove(3)\na.enter()\nb = a.again()\nb.free()\na.free()\na.line(2)\nhelp a.again\n",
        );
        let expected = "> a = Alcove(3)\n> a.enter()\nTrue\n> b = a.again()\n<Alcove#2>\n> b.free()\n3\n> a.free()\n2\n> a.line(2)\n\
                        refused: UnknownType: there are only the plugin's types here: a host would make a `Queue`\n\
                        > help a.again\nagain() -> Alcove\nAs many places once more.\n";
        assert_eq!(shown, expected, "{lang}");
        let host = author.0.serve(&["--plugin", author.0.path().join("alcove.wasm").to_str().unwrap()]);
        let made = author.done(&["call", "Alcove/a", "line", "2", "--json"], "");
        assert!(made.starts_with("{\"$ref\":\"Queue#"), "{lang}: {made}");
        let made = author.done(&["call", "Alcove/a", "again", "--json"], "");
        assert!(made.starts_with("{\"$ref\":\"Alcove#"), "{lang}: {made}");
        drop(host);
    }
}

/// What the SDK's macros write stands in the author's source, and means the SDK's own all the same.
#[test]
fn types_in_rust_may_be_called_as_what_macros_write() {
    let author = Author::new();
    for name in ["vec", "types", "component"] {
        author.done(&["new", "--lang", "rust", name], "");
        author.done(&["build", name, "--fetch"], "");
        author.done(&["test", name], "");
    }
}

#[test]
fn upgrade_is_safe_or_breaking_or_impossible() {
    let author = Author::new();
    author.done(&["new", "--lang", "c", "hatch"], "");
    let source = author.0.path().join("hatch/hatch.c");
    let original = std::fs::read_to_string(&source).unwrap();
    author.done(&["build", "hatch", "--fetch", "-o", "old.wasm"], "");
    for (from, to, verdict, what) in [
        ("0.1.0", "0.2.0", "safe", ""),
        ("\"leave()\"", "\"go()\"", "breaking", "method `Hatch.leave` is gone"),
        ("places: u32 = 1", "places: u32 = 2", "breaking", "default of `places` of `Hatch` was 1, and is 2 now"),
        ("\"Hatch(places", "\"Hatch as Gap(places", "impossible", "type `Hatch` is gone"),
        (", free, saves)", ", free)", "impossible", "version 0.1.0 cannot be saved and loaded"),
    ] {
        std::fs::write(&source, original.replace(from, to)).unwrap();
        author.done(&["build", "hatch", "--fetch", "-o", "new.wasm"], "");
        let ran = author.run(author.0.path(), &["check", "new.wasm", "--against", "old.wasm", "--json"], "");
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let upgrade = &report["upgrades"][0];
        assert_eq!(
            (upgrade["verdict"].as_str(), ran.status),
            (Some(verdict), i32::from(verdict != "safe")),
            "{report}"
        );
        assert!(what.is_empty() || upgrade["changes"].to_string().contains(what), "{upgrade}");
    }
}

#[test]
fn project_in_no_language_and_mistakes_in_one_are_told() {
    let author = Author::new();
    author.0.fails(&["build", author.0.path().to_str().unwrap()], 2, "no Cargo.toml, no go.mod and no .c file");
    author.0.fails(&["new", "--lang", "rust", "Not A Name"], 2, "is no name for a project");
    author.0.fails(&["new", "--lang", "rust", "Rate_Limiter"], 2, "fix: call it `rate-limiter`");
    author.0.fails(&["new", "--lang", "go", "new"], 2, "a type in go cannot be called `New`");
    author.0.fails(&["new", "--lang", "rust", "queue"], 2, "`Queue` is a built-in type");
    author.0.fails(&["new", "--lang", "cobol", "x"], 2, "known are rust, c, go");
    author.done(&["new", "--lang", "c", "flap"], "");
    assert_eq!(author.run(author.0.path(), &["new", "--lang", "c", "flap"], "").status, 2, "it is there already");
    std::fs::remove_dir_all(author.0.path().join("flap/test")).unwrap();
    let ran = author.run(author.0.path(), &["test", "flap"], "");
    assert_eq!((ran.status, ran.stderr.contains("no tests: no .c file in")), (0, true), "{ran:?}");
    // Nothing listens there.
    let mut offline = author.0.command(&["build", "flap", "--fetch"]);
    offline.current_dir(author.0.path()).env("PATH", "").env("https_proxy", "http://127.0.0.1:9");
    let output = offline.env("XDG_CACHE_HOME", author.0.path().join("empty")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("error: cannot fetch https://") && said.contains("fix: try again, or put zig"), "{said}");
    let long = "Hatch".repeat(13);
    let source = std::fs::read_to_string(author.0.path().join("flap/flap.c")).unwrap();
    std::fs::write(
        author.0.path().join("flap/flap.c"),
        source.replace("\"Flap(places", &format!("\"Flap as {long}(places")),
    )
    .unwrap();
    author.done(&["build", "flap", "--fetch"], "");
    let ran = author.run(author.0.path(), &["check", "flap/flap.wasm"], "");
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains("is 65 bytes, limit is 64: a host registers it only under another"), "{ran:?}");
    let asks = source.replace("self->taken++", "self->taken += (uint32_t)time(NULL)");
    std::fs::write(author.0.path().join("flap/flap.c"), format!("#include <time.h>\n{asks}")).unwrap();
    let ran = author.run(author.0.path(), &["build", "flap", "--fetch"], "");
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.stderr.contains("it asks the system for `clock_time_get`, and plugins have none"), "{ran:?}");
    author.done(&["new", "--lang", "rust", "chute"], "");
    std::fs::write(author.0.path().join("chute/src/lib.rs"), "pub fn leave() {}\n").unwrap();
    let ran = author.run(author.0.path(), &["build", "chute", "--fetch"], "");
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.stderr.contains("it offers no types: `steward_guest::export!(Type);`"), "{ran:?}");
    std::fs::write(author.0.path().join("flap/flap.c"), "int main(void) { return nothing; }").unwrap();
    let ran = author.run(author.0.path(), &["build", "flap", "--fetch"], "");
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("nothing"), "the compiler says what is wrong: {}", ran.stderr);
}

/// Every command of the page does what the page says.
///
/// A line that starts with `$` is a command; those behind it with `>` are typed to it; all others are what it prints, spaces aside, `…` standing
/// for anything.
#[test]
fn page_about_plugins_does_what_it_says() {
    let page = include_str!("../../docs/plugins.md");
    let author = Author::new();
    let mut folder = author.0.path().to_owned();
    let mut hosts: Vec<Host> = Vec::new();
    let mut commands = 0;
    for block in page.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap()) {
        for command in block.split("$ ").skip(1) {
            let (command, shown) = command.split_once('\n').unwrap();
            let args: Vec<_> = command.split_whitespace().collect();
            commands += 1;
            match args[..] {
                ["cd", to] => folder = folder.join(to),
                ["cp", from, to] => drop(std::fs::copy(folder.join(from), folder.join(to)).unwrap()),
                ["steward", ref args @ .., "&"] => {
                    let args = [args, &["--quic", "127.0.0.1:0"]].concat();
                    let host = Host::start(author.command(&folder, &args));
                    host.wait_for("ready in");
                    hosts.push(host);
                }
                ["steward", ref args @ ..] => {
                    let typed: Vec<_> = shown.lines().filter_map(|line| line.strip_prefix("> ")).collect();
                    let ran = author.run(&folder, args, &typed.join("\n"));
                    assert_eq!(ran.status, 0, "{command}\n{}\n{}", ran.stdout, ran.stderr);
                    assert!(is_shown(&ran.stdout, shown), "{command}\n{}\nwhere the page has\n{shown}", ran.stdout);
                }
                _ => panic!("no command that a page should have: {command}"),
            }
        }
    }
    assert!(commands > 20, "{commands}");
}

/// Whether text is as a page shows it.
fn is_shown(text: &str, shown: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (text, shown) = (words(text), words(shown));
    let mut parts = shown.split('…').map(str::trim);
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut ends_open = false;
    for part in parts {
        ends_open = part.is_empty();
        match rest.find(part) {
            // The last of what is shown must also be the last of the text.
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    ends_open || rest.is_empty()
}

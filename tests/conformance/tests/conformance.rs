//! Every type answers alike, however one gets at it.

use std::collections::BTreeSet;
use std::fs;

use steward_conformance::worlds::{Hosted, Stepped};
use steward_conformance::{called, cases, run, run_all};
use steward_objects::BUILTINS;
use steward_test_support::{HostOptions, plugin, spawn_host};
use steward_wire::describe::Isolation;

#[tokio::test]
async fn types_answer_alike_stepped_by_hand() {
    if std::env::var_os("STEWARD_REWRITE").is_some() {
        for case in cases() {
            let corrected = run(&mut Stepped::default(), &case).await.1;
            let text = fs::read_to_string(&case.file).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            for (index, line) in corrected.iter().enumerate() {
                if !line.is_empty() {
                    lines[case.start + index] = line;
                }
            }
            fs::write(&case.file, lines.join("\n") + "\n").unwrap();
        }
    }
    assert_eq!(run_all(&mut Stepped::default()).await, cases().len());
}

#[tokio::test]
async fn types_answer_alike_over_the_unix_socket() {
    let host = spawn_host(HostOptions::default());
    assert_eq!(run_all(&mut Hosted::new(host.connect(host.unix()).await)).await, cases().len());
}

#[tokio::test]
async fn types_answer_alike_over_quic() {
    let host = spawn_host(HostOptions::default());
    assert_eq!(run_all(&mut Hosted::new(host.connect(host.quic()).await)).await, cases().len());
}

/// The plugins that have the same types, one in each language.
const LANGUAGES: [&[&str]; 3] = [&["conformance"], &["c"], &["go"]];

#[tokio::test]
async fn plugins_answer_as_the_types_that_they_are_modelled_on() {
    answers_as_modelled_on(Isolation::Object).await;
}

#[tokio::test]
async fn plugins_whose_objects_share_answer_so_too() {
    answers_as_modelled_on(Isolation::Shared).await;
}

async fn answers_as_modelled_on(isolation: Isolation) {
    for plugins in LANGUAGES {
        let host = spawn_host(HostOptions { plugins, isolation, ..HostOptions::default() });
        let mut guests = Hosted::guests(host.connect(host.quic()).await).await;
        let ran = run_all(&mut guests).await;
        let all = cases();
        for typeid in ["Lock", "Semaphore", "Event", "Queue", "dict"] {
            use steward_conformance::World as _;
            let of_type = all.iter().filter(|case| {
                let called = called(case);
                called.iter().all(|(of, method, _)| of == typeid && guests.has(of, method))
            });
            assert!(of_type.count() > 1, "few cases are for {typeid} of {plugins:?}");
        }
        assert!(ran > 20, "{ran} cases for {plugins:?}");
    }
}

/// SDKs have their own ways for what is small and what is not, and a host hands over three lists to make an object.
#[tokio::test]
async fn arguments_of_any_length_reach_a_plugin() {
    for plugins in LANGUAGES {
        let host = spawn_host(HostOptions { plugins, ..HostOptions::default() });
        let manager = host.connect(host.quic()).await;
        let mut texts: Vec<String> = [0, 1, 23, 24, 255, 256, 70_000].map(|length| "x".repeat(length)).into();
        texts.extend((960..1_040).map(|length| "y".repeat(length)));
        for text in &texts {
            let dict = manager.create("GuestDict", ([("made", text)],)).await.unwrap();
            for (key, value) in [("short", text), (text, text)] {
                dict.call::<()>("__setitem__", (key, value)).await.unwrap();
                assert_eq!(dict.call::<String>("__getitem__", (key,)).await.unwrap(), *value, "{plugins:?}");
            }
            assert_eq!(dict.call::<String>("__getitem__", ("made",)).await.unwrap(), *text, "{plugins:?}");
        }
    }
}

/// What a call brings, answers or raises is gone with the next one, and what an object was to be made of as well.
#[tokio::test]
async fn memory_of_a_plugin_does_not_grow_with_each_call() {
    const BYTES: u64 = 100_000;
    const TIMES: u64 = 20;
    for (isolation, plugins) in [Isolation::Object, Isolation::Shared].iter().flat_map(|i| LANGUAGES.map(|p| (*i, p))) {
        let host = spawn_host(HostOptions { plugins, isolation, ..HostOptions::default() });
        let manager = host.connect(host.quic()).await;
        let dict = manager.create("GuestDict", ()).await.unwrap();
        let text = "x".repeat(BYTES as usize);
        let mut bytes = [0; 2];
        for bytes in &mut bytes {
            for _ in 0..TIMES {
                dict.call::<()>("__setitem__", ("key", &text)).await.unwrap();
                assert_eq!(dict.call::<String>("__getitem__", ("key",)).await.unwrap(), text);
                // An error that has the text in its data, one that has not, and one of a constructor.
                dict.call::<String>("__getitem__", (&text,)).await.unwrap_err();
                dict.call::<String>("get", (&text, &text, &text)).await.unwrap_err();
                manager.create("GuestDict", (&text,)).await.unwrap_err();
            }
            *bytes = host.counters("default").bytes;
        }
        // Far less than any of these texts each time.
        assert!(bytes[1] < bytes[0] + BYTES * TIMES / 2, "{plugins:?} with {isolation:?} had and has {bytes:?} bytes");
    }
}

/// Names, parameters, docs, what is read-only, what may park: who reads a type's help cannot tell what it is written in.
#[test]
fn plugins_of_all_languages_describe_themselves_alike() {
    let [model, others @ ..] = LANGUAGES.map(|plugins| plugin(plugins[0]));
    for other in others {
        for (expected, found) in model.types().iter().zip(other.types()) {
            assert_eq!(expected.info(), found.info());
        }
        assert_eq!(model.types().len(), other.types().len());
    }
}

/// Whoever adds a method adds a case; where it says that it raises, one in which it does.
#[test]
fn every_method_has_a_case() {
    let called: BTreeSet<_> = cases().iter().flat_map(called).collect();
    let mut missing = Vec::new();
    for builtin in BUILTINS {
        for method in builtin.methods {
            let has = |raises| called.contains(&(builtin.typeid.to_owned(), method.name.to_owned(), raises));
            let name = format!("{}.{}", builtin.typeid, method.name);
            if !has(false) && !has(true) {
                missing.push(name);
            } else if (method.doc.contains("Raises") || method.doc.contains("raises")) && !has(true) {
                missing.push(format!("{name} raising"));
            }
        }
    }
    assert!(missing.is_empty(), "no case calls {missing:#?}");
}

//! Proxies as values: in containers, as arguments, as results.

use steward_client::{AnyValue, Dict, List, Manager, Proxy, Queue};
use steward_test_support::{HostOptions, TestHost, spawn_host};

async fn both(host: &TestHost) -> [Manager; 2] {
    [host.connect(host.unix()).await, host.connect(host.quic()).await]
}

/// CPython failed at this for four years (gh-74442).
#[tokio::test]
async fn queue_in_a_dict_is_the_same_queue_for_everybody() {
    let host = spawn_host(HostOptions::default());
    host.keeps(1);
    let [writer, reader] = both(&host).await;
    let jobs: Dict<String, Queue<String>> = writer.named("jobs").await.expect("made");
    let queue = writer.queue::<String>(0).await.expect("made");
    jobs.insert("first", &queue).await.expect("stored");
    queue.put("a").await.expect("put");

    let jobs: Dict<String, Queue<String>> = reader.named("jobs").await.expect("found");
    let found = jobs.get_item("first").await.expect("there");
    assert_eq!(found.proxy().ident(), queue.proxy().ident());
    assert_eq!(found.get().await.expect("an item"), "a");
    found.put("b").await.expect("put");
    assert_eq!(queue.get().await.expect("an item"), "b");
}

#[tokio::test]
async fn list_of_lists() {
    let host = spawn_host(HostOptions::default());
    host.keeps(3);
    let [writer, reader] = both(&host).await;
    let outer: List<List<u32>> = writer.named("outer").await.expect("made");
    for start in 0..3 {
        let inner = writer.list::<u32>().await.expect("made");
        inner.extend(&[start, start + 10]).await.expect("extended");
        outer.append(&inner).await.expect("stored");
    }
    let outer: List<List<u32>> = reader.named("outer").await.expect("found");
    let second = outer.get(1).await.expect("there");
    second.append(&99).await.expect("appended");
    drop(second);
    assert_eq!(outer.get(1).await.expect("there").copy().await.expect("copied"), [1, 11, 99]);
    let all = outer.copy().await.expect("the copy of a list of proxies has proxies");
    assert_eq!(all.len(), 3);
    assert_eq!(all[2].copy().await.expect("copied"), [2, 12]);
}

#[tokio::test]
async fn proxy_as_an_argument_stands_for_its_value_where_cpython_looks_inside() {
    let host = spawn_host(HostOptions::default());
    for manager in both(&host).await {
        let (a, b) = (manager.list::<u32>().await.expect("made"), manager.list::<u32>().await.expect("made"));
        a.extend(&[1, 2]).await.expect("extended");
        b.extend(&a).await.expect("a list as an argument");
        b.extend(&b).await.expect("itself");
        assert_eq!(b.copy().await.expect("copied"), [1, 2, 1, 2]);
        assert_eq!(a.concat(&b).await.expect("joined"), [1, 2, 1, 2, 1, 2]);

        let (c, d) =
            (manager.dict::<String, u32>().await.expect("made"), manager.dict::<String, u32>().await.expect("made"));
        c.insert("one", &1).await.expect("stored");
        d.update(&c).await.expect("a dict as an argument");
        assert_eq!(d.items().await.expect("items"), [("one".to_owned(), 1)]);
    }
}

#[tokio::test]
async fn tokens_deep_inside_values_stay_proxies() {
    let host = spawn_host(HostOptions::default());
    let [writer, reader] = both(&host).await;
    let queue: Queue<(String, Vec<Proxy>)> = writer.named("q").await.expect("made");
    let event = writer.event().await.expect("made");
    queue.put(&("done when set", vec![event.proxy(), queue.proxy()])).await.expect("put");
    let queue: Queue<(String, Vec<Proxy>)> = reader.named("q").await.expect("found");
    let (_, proxies) = queue.get().await.expect("an item");
    proxies[0].call::<()>("set", ()).await.expect("set");
    assert!(event.is_set().await.expect("answered"));
    assert_eq!(&proxies[1], queue.proxy());
}

#[tokio::test]
async fn object_that_nobody_gave_is_no_argument() {
    let host = spawn_host(HostOptions::default());
    let [writer, reader] = both(&host).await;
    let secret = writer.list::<u32>().await.expect("made");
    let mine = reader.list::<AnyValue>().await.expect("made");
    let mut token = secret.proxy().token();
    token.address = None;
    let error = mine.append(&AnyValue::Token(token)).await.expect_err("not this session's");
    assert!(error.is("UnknownIdent"), "{error}");
    assert_eq!(mine.len().await.expect("answered"), 0);
}

//! What a task of a client does: short stories over the shared objects, drawn by lot.
//!
//! Every wait has a deadline and every story gives back what it takes, unless its session is lost on the way: then the host
//! is the one to do so.

use serde_json::{Value as Json, json};

use crate::caller::{Called, Caller, How, Stop};
use crate::objects::{ELEMENTS, PARTIES};

/// Deadlines of calls that may park.
const DEADLINES_MS: [u64; 4] = [0, 20, 200, 1_000];
/// The same of calls for a lock or permit, whose end is unknown when their client is killed: each of them may have been the one
/// that changed what nobody saw change, so the checker follows them all, and must not be given too many at once.
const LOCK_DEADLINES_MS: [u64; 4] = [0, 20, 50, 200];
/// A container that has grown beyond this many items is rather taken from.
const ITEMS_MAX: u64 = 64;

/// Plays one story.
///
/// # Errors
/// As [`Caller::call`].
pub async fn play(task: &mut Caller) -> Result<(), Stop> {
    match task.rng.u8(..17) {
        0 => exclude(task).await,
        1 => reenter(task).await,
        2 => permit(task, "semaphore").await,
        3 => permit(task, "bounded").await,
        4 => event(task).await,
        5 => condition(task).await,
        6 => barrier(task).await,
        7 => queue(task, "queue").await,
        8 => queue(task, "short-queue").await,
        9 => joinable(task).await,
        10 => queue(task, "lifo").await,
        11 => queue(task, "priority").await,
        12 => number(task).await,
        13 => list(task).await,
        14 => dict(task).await,
        15 => set_and_namespace(task).await,
        _ => read_and_write(task).await,
    }
}

fn deadline(task: &mut Caller) -> How {
    let place = task.rng.usize(..DEADLINES_MS.len());
    How::within(DEADLINES_MS[place])
}

fn lock_deadline(task: &mut Caller) -> How {
    let place = task.rng.usize(..LOCK_DEADLINES_MS.len());
    How::within(LOCK_DEADLINES_MS[place])
}

/// A method that does not park.
async fn now(task: &mut Caller, object: &'static str, method: &str, args: &[Json]) -> Result<Called, Stop> {
    task.call(object, method, args, How::default()).await
}

/// Writes under a lock, with its guard: also after it was lost, when the write must have no effect.
async fn exclude(task: &mut Caller) -> Result<(), Stop> {
    let how = lock_deadline(task);
    let held = task.call("lock", "acquire", &[], how).await?;
    let Some(grant) = held.grant.filter(|_| held.is_true()) else {
        return now(task, "lock", "locked", &[]).await.map(drop);
    };
    for _ in 0..task.rng.u8(1..4) {
        let value = task.unique();
        let how = How { deadline_ms: 0, guard: Some(("lock", grant.fence)) };
        task.call("guarded", "set", &[value], how).await?;
    }
    now(task, "guarded", "get", &[]).await?;
    now(task, "lock", "release", &[]).await.map(drop)
}

async fn reenter(task: &mut Caller) -> Result<(), Stop> {
    let how = lock_deadline(task);
    if !task.call("rlock", "acquire", &[], how).await?.is_true() {
        return now(task, "rlock", "locked", &[]).await.map(drop);
    }
    let again = task.call("rlock", "acquire", &[], How::default()).await?.is_true();
    now(task, "value", "add", &[json!(1)]).await?;
    if again {
        now(task, "rlock", "release", &[]).await?;
    }
    now(task, "rlock", "release", &[]).await.map(drop)
}

async fn permit(task: &mut Caller, semaphore: &'static str) -> Result<(), Stop> {
    let how = lock_deadline(task);
    if task.call(semaphore, "acquire", &[], how).await?.is_true() {
        now(task, "array", "incr", &[json!(0), json!(1)]).await?;
        now(task, semaphore, "release", &[]).await?;
    }
    now(task, semaphore, "get_value", &[]).await.map(drop)
}

async fn event(task: &mut Caller) -> Result<(), Stop> {
    match task.rng.u8(..4) {
        0 => now(task, "event", "set", &[]).await,
        1 => now(task, "event", "clear", &[]).await,
        2 => now(task, "event", "is_set", &[]).await,
        _ => {
            let how = deadline(task);
            task.call("event", "wait", &[], how).await
        }
    }
    .map(drop)
}

async fn condition(task: &mut Caller) -> Result<(), Stop> {
    let how = lock_deadline(task);
    if !task.call("condition", "acquire", &[], how).await?.is_true() {
        return Ok(());
    }
    match task.rng.u8(..4) {
        0 => now(task, "condition", "notify_all", &[]).await?,
        1 => now(task, "condition", "notify", &[json!(1)]).await?,
        _ => {
            let how = lock_deadline(task);
            // It has the lock again whatever it answers.
            task.call("condition", "wait", &[], how).await?
        }
    };
    now(task, "condition", "release", &[]).await.map(drop)
}

async fn barrier(task: &mut Caller) -> Result<(), Stop> {
    if task.rng.u8(..32) == 0 {
        return now(task, "barrier", "abort", &[]).await.map(drop);
    }
    // Long enough for the others to come, mostly.
    let waited = task.call("barrier", "wait", &[], How::within(PARTIES * 200)).await?;
    if waited.raised("BrokenBarrierError") {
        now(task, "barrier", "reset", &[]).await?;
    }
    now(task, "barrier", "n_waiting", &[]).await.map(drop)
}

async fn queue(task: &mut Caller, queue: &'static str) -> Result<(), Stop> {
    let how = deadline(task);
    let item = task.unique();
    match task.rng.u8(..8) {
        0..=2 => task.call(queue, "put", &[item], how).await,
        3..=5 => task.call(queue, "get", &[], how).await,
        6 if task.rng.bool() => now(task, queue, "put_nowait", &[item]).await,
        6 => now(task, queue, "get_nowait", &[]).await,
        _ => {
            let size = now(task, queue, "qsize", &[]).await?;
            if size.result().and_then(Json::as_u64).is_some_and(|size| size > ITEMS_MAX) {
                for _ in 0..ITEMS_MAX {
                    task.call(queue, "get", &[], How::default()).await?;
                }
            }
            Ok(size)
        }
    }
    .map(drop)
}

async fn joinable(task: &mut Caller) -> Result<(), Stop> {
    match task.rng.u8(..5) {
        0 | 1 => {
            let item = task.unique();
            now(task, "joinable", "put", &[item]).await
        }
        2 | 3 => {
            let how = deadline(task);
            let got = task.call("joinable", "get", &[], how).await?;
            if got.is_returned() { now(task, "joinable", "task_done", &[]).await } else { Ok(got) }
        }
        _ => {
            let how = deadline(task);
            task.call("joinable", "join", &[], how).await
        }
    }
    .map(drop)
}

async fn number(task: &mut Caller) -> Result<(), Stop> {
    let index = json!(task.rng.i64(..ELEMENTS));
    let value = task.unique();
    match task.rng.u8(..7) {
        0 => now(task, "value", "add", &[json!(1)]).await,
        1 => now(task, "value", "set", &[value]).await,
        2 => {
            let seen = now(task, "value", "get", &[]).await?;
            match seen.result().cloned() {
                Some(seen) => now(task, "value", "compare_and_set", &[seen, value]).await,
                None => Ok(seen),
            }
        }
        3 => now(task, "array", "incr", &[index, json!(2)]).await,
        4 => now(task, "array", "__setitem__", &[index, value]).await,
        5 => now(task, "array", "__getitem__", &[index]).await,
        _ => now(task, "array", "__len__", &[]).await,
    }
    .map(drop)
}

async fn list(task: &mut Caller) -> Result<(), Stop> {
    let value = task.unique();
    let length = now(task, "list", "__len__", &[]).await?.result().and_then(Json::as_u64).unwrap_or_default();
    match task.rng.u8(..8) {
        _ if length > ITEMS_MAX => now(task, "list", "pop", &[]).await,
        0..=2 => now(task, "list", "append", &[value]).await,
        3 => now(task, "list", "insert", &[json!(0), value]).await,
        4 => now(task, "list", "pop", &[]).await,
        5 => now(task, "list", "pop", &[json!(0)]).await,
        6 => now(task, "list", "__getitem__", &[json!(-1)]).await,
        _ => now(task, "list", "__setitem__", &[json!(0), value]).await,
    }
    .map(drop)
}

async fn dict(task: &mut Caller) -> Result<(), Stop> {
    let key = json!(format!("k{}", task.rng.u8(..32)));
    let value = task.unique();
    match task.rng.u8(..8) {
        0 | 1 => now(task, "dict", "__setitem__", &[key, value]).await,
        2 => now(task, "dict", "get", &[key]).await,
        3 => now(task, "dict", "__getitem__", &[key]).await,
        4 => now(task, "dict", "pop", &[key]).await,
        5 => now(task, "dict", "incr", &[key]).await,
        6 => now(task, "dict", "setdefault", &[key, value]).await,
        _ => now(task, "dict", "__contains__", &[key]).await,
    }
    .map(drop)
}

async fn set_and_namespace(task: &mut Caller) -> Result<(), Stop> {
    let element = json!(task.rng.u8(..32));
    let name = json!(format!("n{}", task.rng.u8(..8)));
    let value = task.unique();
    match task.rng.u8(..7) {
        0 => now(task, "set", "add", &[element]).await,
        1 => now(task, "set", "discard", &[element]).await,
        2 => now(task, "set", "remove", &[element]).await,
        3 => now(task, "set", "__contains__", &[element]).await,
        4 => now(task, "namespace", "__setattr__", &[name, value]).await,
        5 => now(task, "namespace", "__getattribute__", &[name]).await,
        _ => now(task, "namespace", "incr", &[name]).await,
    }
    .map(drop)
}

/// Over the plugin's lock, whose rule is looked at here, since no certificate is asked of plugins.
async fn read_and_write(task: &mut Caller) -> Result<(), Stop> {
    if !task.has("rwlock") {
        return number(task).await;
    }
    let how = deadline(task);
    let writes = task.rng.bool();
    let method = if writes { "acquire_write" } else { "acquire_read" };
    if !task.call("rwlock", method, &[], how).await?.is_true() {
        return Ok(());
    }
    let readers = now(task, "rwlock", "readers", &[]).await?.result().and_then(Json::as_u64);
    now(task, "rwlock", "release", &[]).await?;
    // A session that was lost meanwhile holds nothing any more: then the call before would have said so.
    match readers {
        Some(readers) if writes == (readers > 0) => {
            Err(anyhow::anyhow!("{readers} read in an RWLock that was acquired by `{method}`").into())
        }
        _ => Ok(()),
    }
}

/// Takes all that is left, and looks at each object for the last time. The files then tell how the run ended.
///
/// # Errors
/// As [`Caller::call`].
pub async fn last_look(task: &mut Caller) -> Result<(), Stop> {
    for queue in ["queue", "short-queue", "joinable", "lifo", "priority"] {
        while now(task, queue, "get_nowait", &[]).await?.is_returned() {}
    }
    for (object, method) in [
        ("lock", "locked"),
        ("rlock", "locked"),
        ("semaphore", "get_value"),
        ("bounded", "get_value"),
        ("event", "is_set"),
        ("condition", "locked"),
        ("barrier", "n_waiting"),
        ("value", "get"),
        ("guarded", "get"),
        ("list", "__len__"),
        ("dict", "__len__"),
        ("set", "__len__"),
    ] {
        now(task, object, method, &[]).await?;
    }
    for index in 0..ELEMENTS {
        now(task, "array", "__getitem__", &[json!(index)]).await?;
    }
    // Nobody is there who could hold anything: what the dead held is free again.
    for lock in ["lock", "rlock", "condition"] {
        if now(task, lock, "locked", &[]).await?.is_true() {
            return Err(anyhow::anyhow!("`{lock}` is held after everybody has left").into());
        }
    }
    Ok(())
}

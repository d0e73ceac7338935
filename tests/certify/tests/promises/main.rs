//! Right histories that pass, and wrong ones that are found, by promise.

mod story;

use serde_json::{Value, json};
use steward_certify::Promise::{R1, R2, R3, R4, R5};
use steward_certify::certify;
use story::{OBJECT, Story, no, of};

const NULL: Value = Value::Null;

/// Client 1 takes and frees a lock, then client 2 does, who waited.
fn locked(typeid: &str) -> Story {
    of(typeid, no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        .call(3, "locked", no(), (1, 0), json!(true))
        .call(3, "acquire", no(), (1, 0), json!(false))
        .within(0)
        .call(1, "release", no(), (2, 0), NULL)
        .call(2, "acquire", no(), (2, 1), json!(true))
        .fence(2)
        .during(25, 200)
        .call(2, "release", no(), (3, 0), NULL)
        .during(210, 220)
        .call(2, "release", no(), (3, 0), NULL)
        .raised("RuntimeError")
        .during(230, 240)
}

#[test]
fn locks_pass() {
    locked("Lock").passes();
    locked("RLock").passes();
    locked("Condition").passes();
    of("RLock", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        .call(1, "acquire", no(), (2, 0), json!(true))
        .fence(2)
        .call(1, "release", no(), (3, 0), NULL)
        .call(2, "locked", no(), (3, 0), json!(true))
        .call(1, "release", no(), (4, 0), NULL)
        .call(2, "acquire", no(), (5, 0), json!(true))
        .fence(3)
        .passes();
}

#[test]
fn two_holders_break_r1() {
    let story = of("Lock", no()).call(1, "acquire", no(), (1, 0), json!(true)).fence(1);
    story.clone().call(2, "acquire", no(), (2, 0), json!(true)).fence(2).breaks(R1, "two holders");
    // A holder that said goodbye leaves a plain lock taken.
    story.clone().goodbye(1).call(2, "acquire", no(), (2, 0), json!(true)).fence(2).breaks(R1, "two holders");
    story.clone().end(1).call(2, "acquire", no(), (2, 0), json!(true)).fence(2).passes();
    // The session ended only after the second grant.
    story.call(2, "acquire", no(), (2, 0), json!(true)).fence(2).end(1).breaks(R1, "two holders");
    of("RLock", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        .goodbye(1)
        .call(2, "acquire", no(), (2, 0), json!(true))
        .fence(2)
        .passes();
}

#[test]
fn fences_rise() {
    let story = of("Lock", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(5)
        .call(1, "release", no(), (2, 0), NULL)
        .call(2, "acquire", no(), (3, 0), json!(true));
    story.clone().fence(6).passes();
    story.clone().fence(5).breaks(R1, "not above");
    story.breaks(R1, "no fence");
}

#[test]
fn a_stale_guard_has_no_effect() {
    const LOCK: u64 = 9;
    let story = of("Value", json!(["i", 0]))
        .and(LOCK, "Lock", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        .to(LOCK)
        .call(1, "set", json!([1]), (1, 0), NULL)
        .guarded(LOCK, 1)
        .call(1, "release", no(), (2, 0), NULL)
        .to(LOCK);
    story.clone().call(1, "set", json!([2]), (2, 0), NULL).guarded(LOCK, 1).breaks(R1, "had ended");
    let refused = story.clone().call(1, "set", json!([2]), (0, 0), NULL).guarded(LOCK, 1).refused("StaleFence");
    refused.clone().call(2, "get", no(), (1, 0), json!(1)).passes();
    refused.call(2, "get", no(), (2, 0), json!(2)).breaks(R3, "no call of unknown end");
    // Under way while the lock passed on, but after the new holder.
    story
        .call(2, "acquire", no(), (3, 0), json!(true))
        .fence(2)
        .to(LOCK)
        .call(2, "set", json!([3]), (2, 0), NULL)
        .guarded(LOCK, 2)
        .call(1, "set", json!([2]), (3, 0), NULL)
        .guarded(LOCK, 1)
        .during(50, 1000)
        .breaks(R1, "under fence 2");
}

#[test]
fn nothing_is_granted_to_an_ended_session() {
    let story = of("Lock", no()).call(1, "acquire", no(), (1, 0), json!(true)).fence(1).end(2).call(
        1,
        "release",
        no(),
        (2, 0),
        NULL,
    );
    // It waited since before its end.
    story.call(2, "acquire", no(), (2, 1), json!(true)).fence(2).during(25, 500).breaks(R2, "had ended");
    of("Queue", no())
        .end(2)
        .call(1, "put", json!([1]), (1, 0), NULL)
        .call(2, "get", no(), (1, 1), json!(1))
        .during(10, 500)
        .breaks(R2, "had ended");
}

#[test]
fn conditions_pass() {
    let story = of("Condition", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        // It lets go at version 2, of which nobody sees anything.
        .call(1, "wait", no(), (5, 0), json!(true))
        .fence(3)
        .during(50, 500)
        .call(2, "acquire", no(), (3, 0), json!(true))
        .fence(2)
        .during(60, 70)
        .call(2, "notify", no(), (4, 0), NULL)
        .during(80, 90)
        .call(2, "release", no(), (5, 0), NULL)
        .during(100, 110);
    let mut right = story.clone();
    let Some(steward_certify::Record::Call(wait)) = right.records.get_mut(2) else { panic!() };
    wait.at.as_mut().unwrap().index = 1;
    right.clone().passes();
    right.call(1, "release", no(), (6, 0), NULL).during(600, 610).passes();
    // Two calls at one place.
    story.breaks(R5, "");
}

#[test]
fn a_wait_that_times_out_needs_its_lock_too() {
    let story = of("Condition", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        .call(1, "wait", no(), (3, 0), json!(false))
        .fence(2)
        .during(50, 500)
        .within(1);
    story.passes();
    // Nobody had notified it.
    of("Condition", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        .call(1, "wait", no(), (3, 0), json!(true))
        .fence(2)
        .within(1)
        .breaks(R5, "");
}

/// Clients wait at a condition, one after the other, and come to their deadlines in `unseen` versions while another one
/// holds the lock; then they get it in the order of `replies`. Who asked for the lock while it was taken has it in the
/// version in which the one before lets go, which is `apart` 1; otherwise in the next one.
fn timed_out(waits: u32, apart: u64, unseen: u64, replies: impl IntoIterator<Item = u32>) -> Story {
    const HOLDER: u32 = 99;
    let (mut story, n) = (of("Condition", no()), u64::from(waits));
    for client in 1..=waits {
        let version = 1 + apart * u64::from(client - 1);
        story = story.call(client, "acquire", no(), (version, 0), json!(true)).fence(version);
    }
    let mut version = 1 + apart * n;
    story = story.call(HOLDER, "acquire", no(), (version, 0), json!(true)).fence(version);
    let fence = version;
    version += unseen + 1;
    story = story.call(HOLDER, "release", no(), (version, 0), NULL);
    for (client, place) in replies.into_iter().zip(1..) {
        let (invoked_ns, returned_ns) = (20 * u64::from(client) + 15, 10_000 + 20 * place);
        story = story
            .call(client, "wait", no(), (version, 1), json!(false))
            .within(1)
            .fence(fence + place)
            .during(invoked_ns, returned_ns);
        version += 1;
        story = story.call(client, "release", no(), (version, 0), NULL).during(returned_ns + 5, returned_ns + 10);
    }
    story
}

#[test]
fn many_deadlines_that_nobody_sees_are_as_many_as_those_who_wait() {
    timed_out(40, 1, 40, 1..=40).passes();
    timed_out(40, 1, 40, (1..=40).rev()).passes();
    timed_out(40, 1, 40, (1..=20).rev().chain(21..=40)).passes();
    timed_out(40, 1, 39, 1..=40).breaks(R5, "neither notified nor came to its deadline");
    timed_out(40, 1, 41, 1..=40).breaks(R5, "no call of unknown end");
    // Each version in which somebody may have let go may be a deadline in place of that.
    timed_out(40, 2, 40, 1..=40).passes();
    timed_out(40, 2, 41, 1..=40).breaks(R5, "no call of unknown end");
}

#[test]
fn a_notification_passes_by_only_those_who_have_timed_out() {
    // Client 1 times out, client 2 is notified, both having waited.
    let story = |unseen: u64, notified: bool| {
        let version = 3 + unseen;
        of("Condition", no())
            .call(1, "acquire", no(), (1, 0), json!(true))
            .fence(1)
            // Who waited for the lock gets it as the other one lets go.
            .call(2, "acquire", no(), (2, 0), json!(true))
            .fence(2)
            .call(3, "acquire", no(), (3, 0), json!(true))
            .fence(3)
            .call(3, "notify", no(), (version + u64::from(notified), 0), NULL)
            .call(3, "release", no(), (version + 2, 0), NULL)
            .call(2, "wait", no(), (version + 2, 1), json!(true))
            .fence(4)
            .during(55, 200)
            .call(2, "release", no(), (version + 3, 0), NULL)
            .during(205, 210)
            .call(1, "wait", no(), (version + 3, 1), json!(false))
            .fence(5)
            .within(1)
            .during(35, 220)
    };
    story(1, true).passes();
    story(0, true).breaks(R5, "");
    story(2, true).breaks(R5, "");
    // It came to its deadline only after the notification.
    story(1, false).breaks(R5, "");
}

#[test]
fn a_notification_is_passed_on_over_all_the_dead() {
    let story = of("Condition", no())
        .call(1, "acquire", no(), (1, 0), json!(true))
        .fence(1)
        .call(2, "acquire", no(), (3, 0), json!(true))
        .fence(2)
        .call(3, "acquire", no(), (5, 0), json!(true))
        .fence(3)
        .call(4, "acquire", no(), (7, 0), json!(true))
        .fence(4)
        .call(4, "notify", no(), (8, 0), NULL)
        .call(1, "wait", no(), (0, 0), NULL)
        .during(35, 36)
        .unknown()
        .call(2, "wait", no(), (0, 0), NULL)
        .during(55, 56)
        .unknown();
    let released = |story: Story| {
        story
            .call(4, "release", no(), (10, 0), NULL)
            .call(3, "wait", no(), (10, 1), json!(true))
            .fence(5)
            .during(75, 400)
    };
    released(story.clone().end(1).end(2)).passes();
    // The one in between lives.
    released(story.end(1)).breaks(R5, "");
}

#[test]
fn a_dead_waiter_of_a_condition_may_take_its_notification_or_leave_it() {
    let story = |returned_version| {
        of("Condition", no())
            .call(1, "acquire", no(), (1, 0), json!(true))
            .fence(1)
            .call(1, "wait", no(), (0, 0), NULL)
            .unknown()
            .during(50, 60)
            .unknown()
            .call(2, "acquire", no(), (3, 0), json!(true))
            .fence(2)
            .during(70, 80)
            .call(2, "wait", no(), (returned_version, 1), json!(true))
            .fence(4)
            .during(90, 1000)
            .call(3, "acquire", no(), (4, 0), json!(true))
            .fence(3)
            .during(91, 130)
            .end(1)
            .call(3, "notify", no(), (5, 0), NULL)
            .during(300, 310)
            .call(3, "release", no(), (returned_version, 0), NULL)
            .during(320, 330)
    };
    story(6).passes();
}

#[test]
fn semaphores_pass() {
    for typeid in ["Semaphore", "BoundedSemaphore"] {
        of(typeid, json!([2]))
            .call(1, "acquire", no(), (1, 0), json!(true))
            .call(2, "acquire", no(), (2, 0), json!(true))
            .call(3, "acquire", no(), (2, 0), json!(false))
            .within(5)
            .call(3, "locked", no(), (2, 0), json!(true))
            .call(1, "release", no(), (3, 0), NULL)
            .call(3, "acquire", no(), (3, 1), json!(true))
            .during(30, 500)
            .end(3)
            .call(1, "get_value", no(), (4, 0), json!(1))
            .during(600, 610)
            .passes();
    }
    of("BoundedSemaphore", json!([1])).call(1, "release", no(), (0, 0), NULL).raised("ValueError").passes();
    of("Semaphore", json!([0])).call(1, "release", json!([2]), (1, 0), NULL).passes();
}

#[test]
fn an_over_issued_semaphore_breaks_r5() {
    let story = of("Semaphore", json!([1])).call(1, "acquire", no(), (1, 0), json!(true));
    story.clone().call(2, "acquire", no(), (2, 0), json!(true)).breaks(R5, "over-issued");
    story.clone().end(1).call(2, "acquire", no(), (2, 0), json!(true)).passes();
    story.clone().goodbye(1).call(3, "locked", no(), (1, 0), json!(true)).passes();
    // One permit came back, two were given out.
    let story = story.end(1).call(2, "acquire", no(), (2, 0), json!(true));
    story.call(3, "acquire", no(), (3, 0), json!(true)).breaks(R5, "over-issued");
    of("BoundedSemaphore", json!([1])).call(1, "release", no(), (1, 0), NULL).breaks(R5, "ValueError");
}

#[test]
fn events_pass_and_lose_no_wake_up() {
    let story = of("Event", no())
        .call(1, "wait", no(), (0, 0), json!(false))
        .within(1)
        .call(1, "set", no(), (1, 0), NULL)
        .call(2, "wait", no(), (1, 1), json!(true))
        .during(5, 100)
        .call(2, "set", no(), (1, 0), NULL)
        .call(3, "is_set", no(), (1, 0), json!(true));
    story.clone().call(3, "clear", no(), (2, 0), NULL).passes();
    story.clone().call(3, "wait", no(), (1, 0), json!(false)).within(1).breaks(R5, "although the flag is set");
    story.clone().call(3, "set", no(), (2, 0), NULL).breaks(R5, "");
    story.call(3, "is_set", no(), (0, 0), json!(false)).breaks(R5, "came only after");
}

fn generation(version: u64, clients: [u32; 3], from_ns: u64) -> Story {
    clients.iter().zip(0..).fold(of("Barrier", json!([3])), |story, (client, index)| {
        story.call(*client, "wait", no(), (version, index), json!(index)).during(from_ns + index, from_ns + 10 + index)
    })
}

#[test]
fn barriers_pass() {
    let mut story = generation(1, [1, 2, 3], 100);
    story.records.extend(generation(2, [2, 3, 1], 200).records);
    story.passes();
    let broken = story
        .call(1, "wait", no(), (3, 0), NULL)
        .raised("BrokenBarrierError")
        .within(5)
        .during(300, 350)
        .call(2, "wait", no(), (3, 1), NULL)
        .raised("BrokenBarrierError")
        .during(300, 350)
        .call(3, "broken", no(), (3, 0), json!(true))
        .during(360, 370);
    broken.passes();
    broken.clone().call(3, "reset", no(), (4, 0), NULL).during(380, 390).passes();
    of("Barrier", json!([2]))
        .call(1, "reset", no(), (1, 0), NULL)
        .call(2, "wait", no(), (1, 1), NULL)
        .raised("BrokenBarrierError")
        .during(1, 100)
        .call(1, "reset", no(), (1, 0), NULL)
        .during(110, 120)
        .passes();
    // A party died: nobody passes with the dead.
    of("Barrier", json!([2]))
        .call(1, "wait", no(), (0, 0), NULL)
        .unknown()
        .end(1)
        .call(2, "wait", no(), (1, 1), NULL)
        .raised("BrokenBarrierError")
        .during(10, 100)
        .passes();
    // It died after it had passed.
    of("Barrier", json!([2]))
        .call(1, "wait", no(), (0, 0), NULL)
        .unknown()
        .call(2, "wait", no(), (1, 1), json!(1))
        .end(1)
        .passes();
}

#[test]
fn mixed_generations_break_r5() {
    let wait = |story: Story, client, version, index: u64, at| {
        story.call(client, "wait", no(), (version, index), json!(index)).during(at, at + 10)
    };
    let story = |versions: [u64; 3]| {
        let story = wait(of("Barrier", json!([3])), 1, versions[0], 0, 100);
        wait(wait(story, 2, versions[1], 1, 101), 3, versions[2], 2, 102)
    };
    story([1, 1, 1]).passes();
    story([1, 1, 2]).breaks(R5, "missing");
    // The same index twice.
    wait(wait(of("Barrier", json!([2])), 1, 1, 1, 100), 2, 1, 1, 100).breaks(R5, "index 1");
    story([1, 1, 1]).call(4, "wait", no(), (1, 0), json!(0)).during(103, 113).breaks(R5, "another one");
    // One passed before the other came.
    wait(wait(of("Barrier", json!([2])), 1, 1, 0, 100), 2, 1, 1, 200).breaks(R5, "passed before");
    of("Barrier", json!([2])).call(1, "wait", no(), (1, 0), json!(0)).breaks(R5, "missing");
    of("Barrier", json!([2]))
        .call(1, "wait", no(), (1, 0), NULL)
        .raised("BrokenBarrierError")
        .breaks(R5, "nothing broke");
}

/// Three items go through a queue, a getter having waited for the first.
fn queued(typeid: &str) -> Story {
    of(typeid, no())
        .call(1, "put", json!([30]), (1, 0), NULL)
        .call(2, "get", no(), (1, 1), json!(30))
        .during(5, 100)
        .call(1, "put", json!([10]), (2, 0), NULL)
        .during(110, 120)
        .call(1, "put_many", json!([[20, 5]]), (3, 0), NULL)
        .during(130, 140)
        .call(3, "qsize", no(), (3, 0), json!(3))
        .during(150, 160)
}

fn got(story: Story, items: &[i64]) -> Story {
    let story = items.iter().zip(0..).fold(story, |story, (item, place)| {
        story.call(3, "get", no(), (4 + place, 0), json!(item)).during(200 + 20 * place, 210 + 20 * place)
    });
    let version = 3 + items.len() as u64;
    story.call(3, "get_nowait", no(), (version, 0), NULL).raised("Empty").during(500, 510)
}

#[test]
fn queues_pass() {
    for typeid in ["Queue", "JoinableQueue"] {
        got(queued(typeid), &[10, 20, 5]).passes();
    }
    got(queued("LifoQueue"), &[5, 20, 10]).passes();
    got(queued("PriorityQueue"), &[5, 10, 20]).passes();
    queued("Queue").call(3, "get_many", json!([5]), (4, 0), json!([10, 20, 5])).during(200, 210).passes();
    of("JoinableQueue", json!([1]))
        .call(1, "put", json!([1]), (1, 0), NULL)
        .call(1, "put_nowait", json!([2]), (1, 0), NULL)
        .raised("Full")
        .call(1, "join", no(), (1, 0), NULL)
        .raised("TimeoutError")
        .within(1)
        .call(2, "get", no(), (2, 0), json!(1))
        // It waited for room.
        .call(1, "put", json!([2]), (2, 1), NULL)
        .during(75, 200)
        .call(2, "task_done", no(), (3, 0), NULL)
        .during(210, 220)
        .call(2, "shutdown", no(), (4, 0), NULL)
        .during(230, 240)
        .call(2, "put", json!([3]), (4, 0), NULL)
        .raised("ShutDown")
        .during(250, 260)
        .passes();
}

#[test]
fn a_lost_item_breaks_r4() {
    got(queued("Queue"), &[10, 20]).breaks(R4, "should have returned 5");
    got(queued("Queue"), &[10, 5]).breaks(R4, "should have returned 20");
}

#[test]
fn a_reordered_item_breaks_r4() {
    got(queued("Queue"), &[20, 10, 5]).breaks(R4, "should have returned 10");
    got(queued("LifoQueue"), &[10, 20, 5]).breaks(R4, "should have returned 5");
    got(queued("PriorityQueue"), &[10, 5, 20]).breaks(R4, "should have returned 5");
}

#[test]
fn an_item_never_comes_twice_while_its_getter_lives() {
    let story = got(queued("Queue"), &[10, 20, 5]);
    // Client 2 got 30 long ago, and lives.
    let again = |story: Story, version| story.call(3, "get", no(), (version, 0), json!(30)).during(700, 710);
    again(story.clone(), 7).breaks(R4, "empty");
    again(story.clone(), 8).breaks(R4, "no call of unknown end");
    // It died before it could acknowledge.
    again(story.clone().end(2), 8).passes();
    // It died later: its next call had acknowledged the item.
    let acknowledged = story.call(2, "qsize", no(), (6, 0), json!(0)).during(520, 530);
    again(acknowledged.end(2), 8).breaks(R4, "no call of unknown end");
}

#[test]
fn an_item_of_unknown_end_is_got_or_comes_back() {
    let story = queued("Queue").call(4, "get", no(), (0, 0), NULL).unknown();
    let lost = |items: &[i64], version| {
        items.iter().zip(0..).fold(story.clone(), |story, (item, place)| {
            story.call(3, "get", no(), (version + place, 0), json!(item)).during(300 + 20 * place, 310 + 20 * place)
        })
    };
    // Gone with the dead: version 4 was its get.
    lost(&[20, 5], 5).passes();
    // It came back: versions 4 and 5.
    let back = lost(&[10, 20], 6);
    back.breaks(R4, "no call of unknown end");
    let mut ended = back;
    ended.records.extend(story.clone().end(4).records.last().cloned());
    ended.passes();
    // It never happened.
    lost(&[10, 20, 5], 4).passes();
    // Only one get can explain one missing item.
    lost(&[5], 6).breaks(R4, "no call of unknown end");
}

#[test]
fn values_pass() {
    of("Value", json!(["i", 1]))
        .call(1, "add", json!([2]), (1, 0), json!(3))
        .call(1, "get", no(), (1, 0), json!(3))
        .call(1, "compare_and_set", json!([3, 9]), (2, 0), json!(true))
        .call(1, "compare_and_set", json!([3, 9]), (2, 0), json!(false))
        .call(2, "set", json!(["x"]), (3, 0), NULL)
        .call(2, "get", no(), (3, 0), json!("x"))
        .passes();
    of("Array", json!(["i", [1, 2, 3]]))
        .call(1, "incr", json!([0, 5]), (1, 0), json!(6))
        .call(1, "__setitem__", json!([-1, 7]), (2, 0), NULL)
        .call(1, "__getitem__", json!([2]), (2, 0), json!(7))
        .call(1, "__len__", no(), (2, 0), json!(3))
        .call(1, "__getitem__", json!([3]), (2, 0), NULL)
        .raised("IndexError")
        .passes();
    of("list", json!([[1]]))
        .call(1, "append", json!([2]), (1, 0), NULL)
        .call(1, "extend", json!([[3, 4]]), (2, 0), NULL)
        .call(1, "insert", json!([0, 0]), (3, 0), NULL)
        .call(1, "pop", no(), (4, 0), json!(4))
        .call(1, "pop", json!([0]), (5, 0), json!(0))
        .call(1, "reverse", no(), (6, 0), NULL)
        .call(1, "copy", no(), (6, 0), json!([3, 2, 1]))
        .call(1, "sort", no(), (7, 0), NULL)
        .call(1, "index", json!([3]), (7, 0), json!(2))
        .call(1, "remove", json!([9]), (7, 0), NULL)
        .raised("ValueError")
        .call(1, "clear", no(), (8, 0), NULL)
        .call(1, "__len__", no(), (8, 0), json!(0))
        .passes();
    of("dict", no())
        .call(1, "__setitem__", json!(["a", 1]), (1, 0), NULL)
        .call(1, "setdefault", json!(["a", 5]), (1, 0), json!(1))
        .call(1, "setdefault", json!(["b", [1]]), (2, 0), json!([1]))
        .call(1, "update_in", json!([["b"], "append", 2]), (3, 0), NULL)
        .call(1, "update_in", json!([["b", 0], "incr", 4]), (4, 0), json!(5))
        .call(1, "__getitem__", json!(["b"]), (4, 0), json!([5, 2]))
        .call(1, "incr", json!(["n", 2]), (5, 0), json!(2))
        .call(1, "items", no(), (5, 0), json!([["a", 1], ["b", [5, 2]], ["n", 2]]))
        .call(1, "pop", json!(["b"]), (6, 0), json!([5, 2]))
        .call(1, "pop", json!(["b", 0]), (6, 0), json!(0))
        .call(1, "update", json!([{"a": 3, "c": 4}]), (7, 0), NULL)
        .call(1, "copy", no(), (7, 0), json!({"a": 3, "c": 4, "n": 2}))
        .call(1, "popitem", no(), (8, 0), json!(["c", 4]))
        .call(1, "__delitem__", json!(["c"]), (8, 0), NULL)
        .raised("KeyError")
        .passes();
    of("set", no())
        .call(1, "add", json!([1]), (1, 0), NULL)
        .call(2, "add", json!([1]), (1, 0), NULL)
        .call(1, "update", json!([[2, 3]]), (2, 0), NULL)
        .call(1, "discard", json!([2]), (3, 0), NULL)
        .call(1, "__contains__", json!([2]), (3, 0), json!(false))
        .call(1, "copy", no(), (3, 0), json!([1, 3]))
        .call(1, "pop", no(), (4, 0), json!(3))
        .passes();
    of("Namespace", no())
        .call(1, "__setattr__", json!(["x", 1]), (1, 0), NULL)
        .call(1, "__getattribute__", json!(["x"]), (1, 0), json!(1))
        .call(1, "incr", json!(["x"]), (2, 0), json!(2))
        .call(1, "__delattr__", json!(["x"]), (3, 0), NULL)
        .call(1, "__getattribute__", json!(["x"]), (3, 0), NULL)
        .raised("AttributeError")
        .passes();
}

#[test]
fn an_increment_applied_twice_breaks_r3() {
    let story = of("Value", json!(["i", 0])).call(1, "add", no(), (1, 0), json!(1));
    story.clone().call(2, "get", no(), (2, 0), json!(2)).breaks(R3, "no call of unknown end");
    story.clone().call(2, "get", no(), (1, 0), json!(2)).breaks(R3, "should have returned 1");
    // Both say that they made the same version: an update is lost.
    story.clone().call(2, "add", no(), (1, 0), json!(1)).breaks(R3, "");
    story.call(2, "add", no(), (2, 0), json!(1)).breaks(R3, "should have returned 2");
}

#[test]
fn a_repeated_append_breaks_r3() {
    let story = of("list", no()).call(1, "append", json!(["a"]), (1, 0), NULL);
    story.clone().call(1, "copy", no(), (2, 0), json!(["a", "a"])).breaks(R3, "no call of unknown end");
    story.call(1, "copy", no(), (1, 0), json!(["a", "a"])).breaks(R3, "should have returned [\"a\"]");
}

#[test]
fn a_stale_read_breaks_r3() {
    let story = of("Value", json!(["i", 0])).call(1, "set", json!([1]), (1, 0), NULL);
    story.clone().call(2, "get", no(), (0, 0), json!(0)).breaks(R3, "came only after");
    story.call(2, "get", no(), (0, 0), json!(0)).during(25, 100).passes();
    // It saw what had not been asked for yet.
    of("Value", json!(["i", 0]))
        .call(2, "get", no(), (1, 0), json!(1))
        .call(1, "set", json!([1]), (1, 0), NULL)
        .breaks(R3, "came only after");
}

#[test]
fn places_follow_real_time() {
    let story = |first: u64, second: u64| {
        of("dict", no()).call(1, "__setitem__", json!(["a", 1]), (first, 0), NULL).call(
            2,
            "__setitem__",
            json!(["b", 1]),
            (second, 0),
            NULL,
        )
    };
    story(1, 2).passes();
    story(2, 1).breaks(R3, "came only after");
}

#[test]
fn an_unknown_call_explains_one_change() {
    let story = |read: (u64, i64)| {
        of("Value", json!(["i", 0])).call(1, "add", no(), (0, 0), NULL).unknown().call(
            2,
            "get",
            no(),
            (read.0, 0),
            json!(read.1),
        )
    };
    story((0, 0)).passes();
    assert_eq!(story((1, 1)).passes().explained, 1);
    story((2, 2)).breaks(R3, "no call of unknown end");
    story((1, 2)).breaks(R3, "should have returned 1");
    // What was seen stays.
    story((1, 1)).call(2, "get", no(), (2, 0), json!(2)).breaks(R3, "no call of unknown end");
}

#[test]
fn an_unknown_call_happens_only_while_it_may() {
    let get = |story: Story| story.call(2, "get", no(), (1, 0), json!(1));
    let add = |story: Story| story.call(1, "add", no(), (0, 0), NULL).unknown();
    let value = || of("Value", json!(["i", 0]));
    get(add(value())).passes();
    // It was made after its effect was seen.
    add(get(value())).breaks(R3, "no call of unknown end");
    // Its session had ended before a call that did not see it.
    let ended = add(value()).end(1).call(2, "get", no(), (0, 0), json!(0));
    get(ended).breaks(R3, "no call of unknown end");
    get(add(value()).end(1)).passes();
}

#[test]
fn ambiguous_ends_are_followed_until_they_are_told_apart() {
    let story = of("list", no())
        .call(1, "append", json!(["a"]), (0, 0), NULL)
        .unknown()
        .call(2, "append", json!(["b"]), (0, 0), NULL)
        .unknown()
        .call(3, "append", json!(["c"]), (0, 0), NULL)
        .unknown()
        .call(4, "append", json!(["d"]), (2, 0), NULL)
        .call(4, "append", json!(["e"]), (4, 0), NULL);
    let copy = |version, items| story.clone().call(4, "copy", no(), (version, 0), items);
    copy(4, json!(["c", "d", "a", "e"])).passes();
    copy(4, json!(["a", "d", "b", "e"])).passes();
    copy(4, json!(["a", "d", "a", "e"])).breaks(R3, "");
    copy(5, json!(["a", "d", "b", "e", "c"])).passes();
}

#[test]
fn too_many_explanations_are_undecided() {
    let mut story = of("list", no());
    for client in 0..12 {
        story = story.call(client, "append", json!([client]), (0, 0), NULL).unknown();
    }
    let report = certify(story.call(20, "__len__", no(), (6, 0), json!(6)).records);
    assert!(report.violations.is_empty() && report.undecided.len() == 1 && !report.is_proof(), "{report}");
}

#[test]
fn what_no_model_knows_is_an_error() {
    for story in [
        of("list", no()).call(1, "__iter__", no(), (0, 0), NULL),
        of("Leaderboard", no()),
        of("Barrier", json!([2, "client"])),
        of("list", json!([[1, 2]])).call(1, "__getitem__", json!([[0, 1, 1]]), (0, 0), json!([1])),
    ] {
        let report = certify(story.records);
        assert!(report.violations.is_empty() && !report.is_proof(), "{report}");
        assert!(report.errors[0].text.contains("not modelled"), "{report}");
    }
    let nobodys = Story::default().call(1, "get", no(), (0, 0), NULL);
    assert_eq!(certify(nobodys.records).errors[0].object, OBJECT);
}

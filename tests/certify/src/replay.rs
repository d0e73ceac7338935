//! Replays the calls of one object by place, and explains what no client saw.
//!
//! A version is one step of the object: one start (a call that came, or something [`Hidden`]) and any number of calls that
//! waited and now could go. Their replies are numbered from 0. So of each version that has replies it is known what
//! happened, but for replies that nobody saw, and of one without replies that something must have happened.
//!
//! What may have happened unseen branches: every explanation has its own state ([`Branch`]), and those that contradict a later
//! reply go. Explanations which nothing later can tell apart are one, and what need not be decided yet stays open
//! ([`Search::Fast`]): otherwise they would multiply with everything that waits.

mod leavers;

use std::collections::{HashMap, HashSet};

use crate::call::{Call, CallId, Seen};
use crate::certify::{History, Object};
use crate::history::SessionEnd;
use crate::model::{Changes, Complaint, Hidden, Kind, Lock, Model, WaitEnd};
use crate::values::{Val, Values};

/// Explanations followed at once; an object with more is undecided.
const BRANCHES_MAX: usize = 512;

/// Explanations tried for one version; an object with more is undecided.
const TRIES_MAX: usize = 20_000;

/// The most items that a `get_many` of unknown end is taken to have got.
const BATCH_MAX: i64 = 64;

/// Why an object was not followed to its end.
pub(crate) enum Stop {
    Complaint(Complaint, Vec<CallId>),
    Undecided(String),
}

/// How explanations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Whose deadline it was and who has left a line stays open until it matters, and an explanation goes if another one
    /// has all that may become of it.
    Fast,
    /// Every one for itself.
    Plain,
}

/// One explanation of all that nobody saw so far.
#[derive(Clone, Debug, PartialEq)]
struct Branch {
    /// Calls of unknown end that have taken effect in it, by number.
    used: Vec<CallId>,
    model: Model,
}

/// A call that nobody saw the end of, and the versions in which it may have taken effect.
struct Candidate {
    call: CallId,
    parks: bool,
    /// It came after this version.
    after: u64,
    /// It took effect no later.
    until: u64,
}

pub(crate) struct Replay<'a> {
    calls: &'a [Call],
    values: &'a mut Values,
    ends: &'a HashMap<u64, SessionEnd>,
    kinds: &'a HashMap<crate::values::Name, Kind>,
    known: &'a [CallId],
    /// Those to come, latest first.
    coming: Vec<Candidate>,
    /// Those that may take effect now.
    active: Vec<Candidate>,
    search: Search,
    /// After which version each session ended, and by which it surely had.
    ended: HashMap<u64, (u64, u64)>,
    /// Calls of `Condition.wait` by owner, in the order of their invocation, with the version after which they came.
    waits: HashMap<(u64, u64), Vec<(CallId, u64)>>,
    /// Sessions that ended with calls of this object that they had not acknowledged.
    unacknowledged: HashSet<u64>,
    /// How many versions nobody saw the making of.
    explained: u64,
    tries: usize,
    /// Why the best explanation of this version failed.
    complaint: Option<(Complaint, Vec<CallId>)>,
}

/// A call that waited when its client gave it up, or of which its client knows no end.
pub(crate) fn may_have_happened(call: &Call, values: &Values) -> bool {
    match call.seen {
        Seen::Unknown => true,
        // It came to nothing, but for a `Condition.wait`, which has let go of its lock.
        Seen::Refused(kind) => &*values.text(kind) == "Cancelled" && &*values.text(call.method) == "wait",
        Seen::Returned(_) | Seen::Raised(_) => false,
    }
}

/// Notes which calls' results may come back: their session ended, and it sent no frame after their reply that was answered,
/// for any such frame would have acknowledged it.
pub(crate) fn mark_unacknowledged(history: &mut History) {
    let mut last_invoked = HashMap::<u64, u64>::new();
    // An answer that came out of no step may be the client's own, which sent nothing.
    for call in history.calls.iter().filter(|call| call.at.is_some() && history.ends.contains_key(&call.session)) {
        let last = last_invoked.entry(call.session).or_default();
        *last = call.invoked_ns.max(*last);
    }
    for call in &mut history.calls {
        call.may_come_back = history.ends.contains_key(&call.session)
            && last_invoked.get(&call.session).is_none_or(|last| call.returned() >= *last);
    }
}

impl<'a> Replay<'a> {
    /// Follows an object from its making. Returns how many unseen changes were explained, and why it stopped.
    pub(crate) fn run(
        history: &'a mut History,
        object: &'a mut Object,
        mut model: Model,
        search: Search,
    ) -> (u64, Option<Stop>) {
        let History { calls, ends, values } = history;
        let Object { known, unknown, kinds, changed, .. } = object;
        if kinds.keys().any(|method| &*values.text(*method) == "put_many") {
            model.expect_batches();
        }
        let times = Times::new(calls, known);
        let mut coming: Vec<_> = unknown
            .iter()
            .map(|call| &calls[*call as usize])
            .filter(|call| call.is_unknown())
            .map(|call| Candidate {
                call: call.id,
                parks: kinds[&call.method] == Kind::Parks,
                after: times.version_before(call.invoked_ns),
                until: [ends.get(&call.session).and_then(|end| end.until_ns), call.returned_ns]
                    .into_iter()
                    .flatten()
                    .min()
                    .map_or(u64::MAX, |until| times.version_after(until)),
            })
            .filter(|candidate| kinds[&calls[candidate.call as usize].method] != Kind::Reads)
            .collect();
        coming.sort_by_key(|candidate| std::cmp::Reverse(candidate.after));
        let mut waits = HashMap::<_, Vec<_>>::new();
        if matches!(model, Model::Lock(_)) {
            let all = known.iter().chain(unknown.iter()).map(|call| &calls[*call as usize]);
            for call in all.filter(|call| &*values.text(call.method) == "wait" && !matches!(call.seen, Seen::Raised(_)))
            {
                waits
                    .entry((call.session, call.owner))
                    .or_default()
                    .push((call.id, times.version_before(call.invoked_ns)));
            }
            waits.values_mut().for_each(|line| line.sort_by_key(|(call, _)| calls[*call as usize].invoked_ns));
        }
        let ended = ends.values().map(|end| {
            let by = end.until_ns.map_or(u64::MAX, |until| times.version_after(until));
            (end.session, (times.version_before(end.from_ns), by))
        });
        let ended = ended.collect();
        let all = known.iter().chain(unknown.iter()).map(|call| &calls[*call as usize]);
        let unacknowledged = all.filter(|call| call.may_come_back).map(|call| call.session).collect();
        let replay = Replay {
            calls,
            values,
            ends,
            kinds,
            known,
            coming,
            active: Vec::new(),
            search,
            ended,
            waits,
            unacknowledged,
            explained: 0,
            tries: 0,
            complaint: None,
        };
        replay.follow(model, changed)
    }

    fn follow(mut self, model: Model, changed: &mut [bool]) -> (u64, Option<Stop>) {
        let mut branches = vec![Branch { used: Vec::new(), model }];
        let mut version = 0;
        let mut start = 0;
        let known = self.known;
        while start < known.len() {
            let next = self.call(known[start]).version();
            let length = known[start..].iter().take_while(|call| self.calls[**call as usize].version() == next).count();
            let members = &known[start..start + length];
            for gap in version + 1..next {
                match self.step(branches, gap, &[], &mut []) {
                    Ok(after) => branches = after,
                    Err(stop) => return (self.explained, Some(self.at_gap(stop, start, gap))),
                }
            }
            match self.step(branches, next, members, &mut changed[start..start + length]) {
                Ok(after) => branches = after,
                Err(stop) => return (self.explained, Some(stop)),
            }
            version = next;
            start += length;
        }
        (self.explained, None)
    }

    /// What stopped the replay in a version of which nobody saw anything.
    fn at_gap(&self, stop: Stop, start: usize, gap: u64) -> Stop {
        let Stop::Complaint(..) = stop else { return stop };
        let before = start.checked_sub(1).map(|place| self.known[place]);
        Stop::Complaint(unexplained(gap), before.into_iter().chain([self.known[start]]).collect())
    }

    fn call(&self, call: CallId) -> &'a Call {
        &self.calls[call as usize]
    }

    /// All that the object may be after a version; `members` are the replies that carry it.
    fn step(
        &mut self,
        mut branches: Vec<Branch>,
        version: u64,
        members: &[CallId],
        changed: &mut [bool],
    ) -> Result<Vec<Branch>, Stop> {
        self.advance(version);
        self.tries = 0;
        self.complaint = None;
        // Members stand by index: first those that started a step, among them the one that made this version.
        let firsts = members.iter().take_while(|call| self.call(**call).index() == 0).count();
        let (firsts, tail) = members.split_at(firsts);
        let mut starts: Vec<_> =
            firsts.iter().copied().filter(|call| self.kinds[&self.call(*call).method] != Kind::Reads).collect();
        // Where several may have been the one, the first to begin contradicts nobody's time: all that saw it ended later.
        starts.sort_by_key(|call| self.call(*call).invoked_ns);
        for pair in tail.windows(2) {
            if self.call(pair[0]).index() == self.call(pair[1]).index() {
                let text = format!("two replies at version {version}, index {}", self.call(pair[0]).index());
                return Err(Stop::Complaint(Complaint::new(text), pair.to_vec()));
            }
        }
        let mut changer = None;
        let mut changers = HashSet::new();
        if version == 0 {
            branches.retain(|branch| self.agrees(&branch.model, firsts, None));
        } else if let ([start], [], [branch], false) = (&starts[..], tail, &mut branches[..], self.may_have_tail())
            && !members.iter().any(|member| self.ended_before(*member, *start))
            && self.starts_alone(branch, *start)
        {
            changer = Some(*start);
            branches.retain(|branch| self.agrees(&branch.model, firsts, changer));
        } else {
            let mut after = Vec::new();
            for branch in self.with_leavers(branches, version, members)? {
                for (branch, start) in self.explain(&branch, version, members, &starts, tail)? {
                    // Who leaves without a trace may do so before the others look.
                    let others = firsts.iter().copied().filter(|call| Some(*call) != start);
                    for branch in self.with_leavers_after(branch, version, others)? {
                        if self.agrees(&branch.model, firsts, start) {
                            changers.insert(start);
                            after.push(branch);
                        }
                    }
                }
                if after.len() > BRANCHES_MAX {
                    after = self.distinct(after, version);
                }
                if after.len() > BRANCHES_MAX {
                    let text = format!("at version {version} more than {BRANCHES_MAX} explanations of what nobody saw");
                    return Err(Stop::Undecided(text));
                }
            }
            branches = self.distinct(after, version);
            // Where explanations differ, none is held against real time.
            changer = changers.iter().next().copied().flatten().filter(|_| changers.len() == 1);
        }
        if branches.is_empty() {
            let (complaint, calls) = self.complaint.take().unwrap_or_else(|| (unexplained(version), members.to_vec()));
            let calls = self.with_related(calls);
            return Err(Stop::Complaint(complaint, calls));
        }
        self.explained += u64::from(version > 0 && changer.is_none() && tail.is_empty() && changers.len() <= 1);
        for (mark, member) in changed.iter_mut().zip(members) {
            *mark = self.call(*member).index() > 0 || changer == Some(*member);
        }
        // What one explanation is left with has happened.
        if let [branch] = &mut branches[..]
            && !branch.used.is_empty()
        {
            let used: HashSet<_> = std::mem::take(&mut branch.used).into_iter().collect();
            self.active.retain(|candidate| !used.contains(&candidate.call));
            for line in self.waits.values_mut() {
                line.retain(|(call, _)| !used.contains(call));
            }
        }
        Ok(branches)
    }

    /// Brings the candidates up to a version.
    fn advance(&mut self, version: u64) {
        while let Some(candidate) = self.coming.pop_if(|candidate| candidate.after < version) {
            self.active.push(candidate);
        }
        self.active.retain(|candidate| candidate.until >= version);
    }

    /// Whether a call of unknown end may be waiting, so that a step may have more to it than its replies show.
    fn may_have_tail(&self) -> bool {
        self.active.iter().any(|candidate| candidate.parks)
    }

    /// The way of nearly all calls: it came, it changed the object, that was all.
    fn starts_alone(&mut self, branch: &mut Branch, start: CallId) -> bool {
        let call = self.call(start);
        if self.is_pass(&branch.model, call) || branch.model.has_waits() {
            return false;
        }
        matches!(branch.model.apply(call, self.values), Ok(Changes::Yes | Changes::Either))
    }

    /// Whether the replies that changed nothing are right in this state.
    fn agrees(&mut self, model: &Model, firsts: &[CallId], changer: Option<CallId>) -> bool {
        for member in firsts.iter().filter(|member| Some(**member) != changer) {
            let call = self.call(*member);
            let reads = self.kinds[&call.method] == Kind::Reads;
            // A reading call leaves its model alone.
            let applied = if self.is_pass(model, call) {
                Err(Complaint::new(format!("{} passed without its generation", call.show(self.values))))
            } else {
                model.clone().apply(call, self.values)
            };
            match applied {
                Ok(Changes::No | Changes::Either) => {}
                Ok(Changes::Yes) if reads => unreachable!("a method that reads changes nothing"),
                Ok(Changes::Yes) => {
                    let text = match changer {
                        Some(other) => format!(
                            "{} and {} both changed the object, in one version",
                            self.call(other).show(self.values),
                            call.show(self.values)
                        ),
                        None => format!("{} changed the object, but its version did not rise", call.show(self.values)),
                    };
                    self.complaint = Some((Complaint::new(text), changer.into_iter().chain([*member]).collect()));
                    return false;
                }
                Err(complaint) => {
                    self.complaint = Some((complaint, vec![*member]));
                    return false;
                }
            }
        }
        true
    }

    fn ended_before(&self, call: CallId, other: CallId) -> bool {
        self.call(call).returned() < self.call(other).invoked_ns
    }

    fn complain(&mut self, complaint: Complaint, calls: Vec<CallId>) {
        // What is not modelled must not pass for a broken promise, nor a later guess for the first.
        if self.complaint.is_none() || complaint.not_modelled {
            self.complaint = Some((complaint, calls));
        }
    }

    /// All that one version may have been: each with the call that started it, if that is known.
    fn explain(
        &mut self,
        branch: &Branch,
        version: u64,
        members: &[CallId],
        starts: &[CallId],
        tail: &[CallId],
    ) -> Result<Vec<(Branch, Option<CallId>)>, Stop> {
        let mut found = Vec::new();
        if let Some(outcome) = self.pass(branch, starts, tail)? {
            return Ok(outcome);
        }
        // A call that changes the object here made the version, whatever else may have: nothing hidden is needed.
        let mut is_certain = false;
        for start in starts {
            if let Some(earlier) = members.iter().find(|member| self.ended_before(**member, *start)) {
                // It came when others had seen this version already.
                let (text, earlier) = (self.call(*earlier).show(self.values), *earlier);
                let text = format!("{text} saw what came only after it: {}", self.call(*start).show(self.values));
                self.complain(Complaint::new(text), vec![earlier, *start]);
                continue;
            }
            let mut after = branch.clone();
            match after.model.apply(self.call(*start), self.values) {
                Ok(Changes::Yes | Changes::Either) => {
                    let ends = self.complete(after, branch, tail, 1)?;
                    found.extend(ends.into_iter().map(|end| (end, Some(*start))));
                    is_certain = !branch.model.has_waits();
                }
                // One that came to its deadline may have stood in the way of others.
                Ok(Changes::No) if !tail.is_empty() => {
                    let ends = self.complete(after, branch, tail, 1)?;
                    let ends = ends.into_iter().filter(|end| end.model != branch.model);
                    found.extend(ends.map(|end| (end, Some(*start))));
                }
                Ok(Changes::No) => {}
                Err(complaint) => self.complain(complaint, vec![*start]),
            }
        }
        if is_certain && !found.is_empty() {
            return Ok(found);
        }
        for hidden in self.hidden(branch, version) {
            let mut after = branch.clone();
            if after.model.hide(hidden).is_err() {
                continue;
            }
            if let Hidden::PassedOn { call } = hidden {
                after.uses(call);
            }
            let ends = self.complete(after.clone(), branch, tail, 0)?;
            found.extend(ends.into_iter().map(|end| (end, None)));
            for start in starts {
                if self.kinds[&self.call(*start).method] != Kind::Parks {
                    continue;
                }
                let mut after = after.clone();
                if let Ok(Changes::Yes) = after.model.apply(self.call(*start), self.values) {
                    let ends = self.complete(after, branch, tail, 1)?;
                    found.extend(ends.into_iter().map(|end| (end, Some(*start))));
                }
            }
        }
        if tail.first().is_none_or(|first| self.call(*first).index() > 0) {
            for call in self.unused(branch, false) {
                for after in self.changed_by(branch, call) {
                    let ends = self.complete(after, branch, tail, 1)?;
                    found.extend(ends.into_iter().map(|end| (end, None)));
                }
            }
            // Or it came to its deadline, and had stood in the way.
            if branch.model.may_be_in_the_way() && self.may_have_tail() {
                let ends = self.complete(branch.clone(), branch, tail, 1)?;
                let ends = ends.into_iter().filter(|end| end.model != branch.model);
                found.extend(ends.map(|end| (end, None)));
            }
        }
        Ok(found)
    }

    /// The calls that waited for a step: `tail` is what is known of them, `next` the index of the next reply.
    fn complete(&mut self, branch: Branch, before: &Branch, tail: &[CallId], next: u64) -> Result<Vec<Branch>, Stop> {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            return Err(Stop::Undecided(format!(
                "more than {TRIES_MAX} ways in which one version may have come about"
            )));
        }
        let mut found = Vec::new();
        // Who waits at a barrier is let go by others and changes nothing by that.
        let is_barrier = matches!(branch.model, Model::Barrier(_));
        let Some((first, rest)) = tail.split_first() else {
            for call in self.unused(&branch, true) {
                let had_to_wait = before.model.may_be_in_the_way()
                    || before.model.has_in_line(call)
                    || self.changed_by(before, call).is_empty();
                if is_barrier || !had_to_wait {
                    continue;
                }
                for after in self.changed_by(&branch, call) {
                    found.extend(self.complete(after, before, tail, next + 1)?);
                }
            }
            found.push(branch);
            return Ok(found);
        };
        let call = self.call(*first);
        if call.index() == next {
            let mut after = branch;
            match self.goes_on(&mut after, before, call, next) {
                Ok(()) => found = self.complete(after, before, rest, next + 1)?,
                Err(complaint) => self.complain(complaint, vec![*first]),
            }
            return Ok(found);
        }
        // Somebody got the reply in between who cannot tell.
        let mut unchanged = false;
        for call in self.unused(&branch, true) {
            let changed = if is_barrier { Vec::new() } else { self.changed_by(&branch, call) };
            for after in changed {
                found.extend(self.complete(after, before, tail, next + 1)?);
            }
            let mut after = branch.clone();
            let changes_nothing =
                is_barrier || matches!(after.model.apply(self.call(call), self.values), Ok(Changes::No));
            if !unchanged && changes_nothing {
                // Which of those that changed nothing it was is all the same.
                unchanged = true;
                found.extend(self.complete(after, before, tail, next + 1)?);
            }
        }
        if found.is_empty() {
            let text = format!("nobody explains the reply with index {next} before {}", call.show(self.values));
            self.complain(Complaint::new(text), vec![*first]);
        }
        Ok(found)
    }

    /// A call that waited goes on in somebody else's step.
    fn goes_on(&mut self, after: &mut Branch, before: &Branch, call: &Call, index: u64) -> Result<(), Complaint> {
        // What came back from a dead client goes to those who wait in the next call's step, ahead of that call.
        let may_come_after_others = matches!(before.model, Model::Queue(_)) && !self.ends.is_empty();
        if self.kinds[&call.method] != Kind::Parks && !may_come_after_others {
            let text = format!("{} never waits, but stands in another call's step", call.show(self.values));
            return Err(Complaint::new(text));
        }
        let changes = after.model.apply(call, self.values)?;
        let could_go_before = index > 0
            && changes == Changes::Yes
            && !may_come_after_others
            && matches!(before.model.clone().apply(call, self.values), Ok(Changes::Yes));
        if could_go_before && !before.model.may_be_in_the_way() {
            let text = format!("{} did not have to wait, but stands in another call's step", call.show(self.values));
            return Err(Complaint::new(text));
        }
        Ok(())
    }

    /// A generation of a barrier. `None`: this version is something else.
    #[expect(clippy::type_complexity, reason = "as `explain`, whose case it is")]
    fn pass(
        &mut self,
        branch: &Branch,
        starts: &[CallId],
        tail: &[CallId],
    ) -> Result<Option<Vec<(Branch, Option<CallId>)>>, Stop> {
        let Model::Barrier(barrier) = &branch.model else { return Ok(None) };
        let members: Vec<_> = starts.iter().chain(tail).copied().collect();
        let passed: Vec<_> =
            members.iter().copied().filter(|call| self.is_pass(&branch.model, self.call(*call))).collect();
        if passed.is_empty() && (!tail.is_empty() || !starts.is_empty()) {
            return Ok(None);
        }
        let mut after = barrier.clone();
        let calls: Vec<_> = passed.iter().map(|call| self.call(*call)).collect();
        let missing = match after.pass(&calls, self.values) {
            Ok(missing) => missing,
            Err(_) if passed.is_empty() => return Ok(None),
            Err(complaint) => {
                self.complain(complaint, passed);
                return Ok(Some(Vec::new()));
            }
        };
        // Nobody passes before all have come.
        let last = calls.iter().max_by_key(|call| call.invoked_ns);
        let first = calls.iter().min_by_key(|call| call.returned());
        if let (Some(last), Some(first)) = (last, first)
            && first.returned() < last.invoked_ns
        {
            let (first, last) = (first.id, last.id);
            let text = format!(
                "{} passed before {} came",
                self.call(first).show(self.values),
                self.call(last).show(self.values)
            );
            self.complain(Complaint::new(text), vec![first, last]);
            return Ok(Some(Vec::new()));
        }
        let waiting: Vec<_> = self.unused(branch, true);
        let mut used = Vec::new();
        choose(&waiting, missing as usize, &mut Vec::new(), &mut used);
        if used.len() >= TRIES_MAX {
            return Err(Stop::Undecided("too many ways in which a generation may have been made up".to_owned()));
        }
        if used.is_empty() && !passed.is_empty() {
            let text = format!(
                "a generation of {} passed, of {}: {missing} are missing that nobody's unknown end explains",
                passed.len(),
                after.parties
            );
            self.complain(Complaint::new(text), passed.clone());
        }
        let start = passed.iter().copied().find(|call| self.call(*call).index() == 0);
        let passes = used.into_iter().map(|calls| {
            let mut branch = Branch { used: branch.used.clone(), model: Model::Barrier(after.clone()) };
            calls.into_iter().for_each(|call| branch.uses(call));
            (branch, start)
        });
        let mut passes: Vec<_> = passes.collect();
        if passed.is_empty() {
            // Or nobody passed, and the barrier changed in another way.
            for call in self.unused(branch, false) {
                passes.extend(self.changed_by(branch, call).into_iter().map(|after| (after, None)));
            }
        }
        Ok(Some(passes))
    }

    /// What a call of unknown end may have made of a branch, if anything.
    fn changed_by(&mut self, branch: &Branch, call: CallId) -> Vec<Branch> {
        let call = self.call(call);
        let mut found = Vec::new();
        let mut try_out = |call: &Call, values: &mut Values| {
            let mut after = branch.clone();
            if let Ok(Changes::Yes | Changes::Either) = after.model.apply(call, values) {
                after.uses(call.id);
                found.push(after);
            }
        };
        match call.args.first() {
            // It may have got fewer than it wanted.
            Some(Val::Int(most)) if &*self.values.text(call.method) == "get_many" => {
                for count in 1..=branch.model.len().min(*most).min(BATCH_MAX) {
                    try_out(&Call { args: Box::new([Val::Int(count)]), ..call.clone() }, self.values);
                }
            }
            _ => try_out(call, self.values),
        }
        found
    }

    /// Whether a reply says that a generation of a barrier passed.
    fn is_pass(&self, model: &Model, call: &Call) -> bool {
        matches!(model, Model::Barrier(_))
            && self.kinds[&call.method] == Kind::Parks
            && matches!(call.seen, Seen::Returned(_))
    }

    /// Candidates that a branch has not used yet.
    fn unused(&self, branch: &Branch, only_parked: bool) -> Vec<CallId> {
        let all = self.active.iter().filter(|candidate| candidate.parks || !only_parked);
        all.map(|candidate| candidate.call).filter(|call| !branch.used.contains(call)).collect()
    }

    /// What may have happened by itself.
    fn hidden(&self, branch: &Branch, version: u64) -> Vec<Hidden> {
        let mut all = Vec::new();
        for session in branch.model.holders().into_iter().filter(|session| self.may_have_ended(*session, version)) {
            let orderly = self.ends[&session].orderly;
            match &branch.model {
                Model::Lock(lock) if !lock.is_freed_by(orderly) => {}
                Model::Semaphore(_) => {
                    if self.unacknowledged.contains(&session) {
                        all.push(Hidden::PermitBack { session });
                    }
                    if !orderly {
                        all.push(Hidden::Lost { session });
                    }
                }
                _ => all.push(Hidden::Lost { session }),
            }
        }
        for call in branch.model.returnable() {
            if self.may_have_ended(self.call(call).session, version) {
                all.push(Hidden::ItemsBack { call });
            }
        }
        let Model::Lock(lock) = &branch.model else { return all };
        let is_in_line = |call: CallId| lock.line.has(call) || lock.woken.iter().any(|(wait, _)| wait.call == call);
        if let Some(holder) = &lock.holder {
            let line = self.waits.get(&(holder.session, holder.owner)).into_iter().flatten();
            let next = line.filter(|(call, _)| {
                let call = self.call(*call);
                let ended = call.is_answered() && call.version() <= version;
                !ended && !self.is_over(call, version) && !branch.used.contains(&call.id) && !is_in_line(call.id)
            });
            let next = next.filter(|(_, after)| *after < version).map(|(call, _)| *call).take(1);
            all.extend(next.map(|call| Hidden::WaitBegan { call, end: wait_end(self.call(call)) }));
        }
        match self.search {
            Search::Fast => all.push(Hidden::WaitTimedOut { call: None }),
            Search::Plain => {
                all.extend(lock.line.waits().map(|wait| Hidden::WaitTimedOut { call: Some(wait.call) }));
            }
        }
        for (wait, _) in &lock.woken {
            if self.may_leave(wait.call, version) {
                all.push(Hidden::PassedOn { call: wait.call });
            }
        }
        all
    }

    fn may_have_ended(&self, session: u64, version: u64) -> bool {
        self.ended.get(&session).is_some_and(|(after, _)| *after < version)
    }

    /// Whether a call of which nobody knows the end is no more, since its session is not.
    fn is_over(&self, call: &Call, version: u64) -> bool {
        !call.is_answered() && self.ended.get(&call.session).is_some_and(|(_, by)| *by < version)
    }

    /// Whether a `Condition.wait` may be gone: given up, or its session's end came.
    fn may_leave(&self, call: CallId, version: u64) -> bool {
        let call = self.call(call);
        match call.seen {
            Seen::Unknown => self.may_have_ended(call.session, version),
            Seen::Refused(_) => true,
            Seen::Returned(_) | Seen::Raised(_) => false,
        }
    }

    /// The branches without those that have nothing to them which another one has not.
    fn distinct(&self, branches: Vec<Branch>, version: u64) -> Vec<Branch> {
        let mut distinct: Vec<Branch> = Vec::with_capacity(branches.len());
        for mut branch in branches {
            if self.search == Search::Plain {
                if !distinct.contains(&branch) {
                    distinct.push(branch);
                }
                continue;
            }
            branch.used.retain(|call| self.may_matter(*call, version));
            if let Model::Lock(lock) = &mut branch.model {
                // They take the lock as it comes.
                lock.woken.sort_by_key(|(wait, _)| wait.call);
            }
            if !distinct.iter().any(|other| other.has_all_of(&branch)) {
                distinct.retain(|other| !branch.has_all_of(other));
                distinct.push(branch);
            }
        }
        distinct
    }

    /// Whether a call of unknown end could happen after a version, had it not happened yet.
    fn may_matter(&self, call: CallId, version: u64) -> bool {
        self.active.iter().any(|candidate| candidate.call == call && candidate.until > version)
            || self.is_wait(call) && !self.is_over(self.call(call), version + 1)
    }

    fn is_wait(&self, call: CallId) -> bool {
        let call = self.call(call);
        let line = self.waits.get(&(call.session, call.owner)).into_iter().flatten();
        line.clone().any(|(wait, _)| *wait == call.id)
    }

    /// The calls of a violation, and others that saw or stored the same value.
    fn with_related(&self, mut calls: Vec<CallId>) -> Vec<CallId> {
        const RELATED_MAX: usize = 6;
        let values: Vec<_> = calls.iter().filter_map(|call| interesting(self.call(*call).seen)).collect();
        let has_value = |call: &&CallId| {
            let call = self.call(**call);
            interesting(call.seen).is_some_and(|value| values.contains(&value))
                || call.args.iter().any(|arg| values.contains(arg))
        };
        let related = self.known.iter().filter(has_value).filter(|call| !calls.contains(call));
        let related: Vec<_> = related.copied().take(RELATED_MAX).collect();
        calls.extend(related);
        calls
    }
}

fn unexplained(version: u64) -> Complaint {
    Complaint::new(format!(
        "something made version {version} that no reply shows, and no call of unknown end and no end of a session explains it"
    ))
}

fn wait_end(call: &Call) -> WaitEnd {
    match call.seen {
        Seen::Returned(Val::Bool(false)) => WaitEnd::TimedOut,
        Seen::Unknown | Seen::Refused(_) if call.deadline_ms.is_some() => WaitEnd::Either,
        _ => WaitEnd::Notified,
    }
}

fn interesting(seen: Seen) -> Option<Val> {
    match seen {
        Seen::Returned(value @ (Val::Int(_) | Val::Other(_))) => Some(value),
        _ => None,
    }
}

/// All ways to choose `count` of some calls, [`TRIES_MAX`] of them at most.
fn choose(from: &[CallId], count: usize, chosen: &mut Vec<CallId>, all: &mut Vec<Vec<CallId>>) {
    if all.len() >= TRIES_MAX {
        return;
    }
    if count == 0 {
        all.push(chosen.clone());
        return;
    }
    for (place, call) in from.iter().enumerate().take((from.len() + 1).saturating_sub(count)) {
        chosen.push(*call);
        choose(&from[place + 1..], count - 1, chosen, all);
        chosen.pop();
    }
}

impl Branch {
    /// Whether all that may become of `other` may become of this one, too.
    fn has_all_of(&self, other: &Self) -> bool {
        self.model.has_all_of(&other.model) && self.used.iter().all(|call| other.used.binary_search(call).is_ok())
    }

    fn lock(&mut self) -> &mut Lock {
        match &mut self.model {
            Model::Lock(lock) => lock,
            _ => unreachable!("only a Condition has a line"),
        }
    }

    fn uses(&mut self, call: CallId) {
        if let Err(place) = self.used.binary_search(&call) {
            self.used.insert(place, call);
        }
    }
}

/// Versions by real time.
struct Times {
    /// By time of return: the highest version until then.
    returned: Vec<(u64, u64)>,
    /// By time of invocation: the lowest version from then on.
    invoked: Vec<(u64, u64)>,
}

impl Times {
    fn new(calls: &[Call], known: &[CallId]) -> Self {
        let known = || known.iter().map(|call| &calls[*call as usize]);
        let mut returned: Vec<_> = known().map(|call| (call.returned(), call.version())).collect();
        returned.sort_unstable();
        let mut highest = 0;
        for (_, version) in &mut returned {
            highest = highest.max(*version);
            *version = highest;
        }
        let mut invoked: Vec<_> = known().map(|call| (call.invoked_ns, call.version())).collect();
        invoked.sort_unstable();
        let mut lowest = u64::MAX;
        for (_, version) in invoked.iter_mut().rev() {
            lowest = lowest.min(*version);
            *version = lowest;
        }
        Self { returned, invoked }
    }

    /// The highest version that was seen before a time.
    fn version_before(&self, time_ns: u64) -> u64 {
        let count = self.returned.partition_point(|(returned_ns, _)| *returned_ns < time_ns);
        count.checked_sub(1).map_or(0, |last| self.returned[last].1)
    }

    /// The lowest version that a call saw which came after a time.
    fn version_after(&self, time_ns: u64) -> u64 {
        let first = self.invoked.partition_point(|(invoked_ns, _)| *invoked_ns <= time_ns);
        self.invoked.get(first).map_or(u64::MAX, |(_, version)| *version)
    }
}

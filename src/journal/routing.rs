//! Which events concern whom, by their names: worked out once for each name, and noted once for all
//! endpoints that want the same names. An event costs those it does not concern nothing.
//!
//! Endpoints with equal filters are a group. Of each group it is known where in the stream the
//! events lie that it may want, as runs of numbers, from some number on; who is further behind reads
//! the stream event by event. Who has nothing left to take can rest: then the writer moves its
//! cursor on, now and then and together with all others that rest.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::event::EventFilter;

use super::model::{EndpointId, Seq};
use super::stored::StoredBatch;

/// Names whose groups are kept; a stream of ever new ones starts over.
const NAMES: usize = 4096;
/// Runs kept of all groups together, for those who are behind,
const RUNS: usize = if cfg!(test) { 1 << 13 } else { 1 << 20 };
/// and at least that many of each.
const RUNS_OF_GROUP: usize = 1024;
/// Below this many nobody looks whether some are needed no more.
const RUNS_KEPT: usize = 64;
/// Runs handed out at a time.
const RUNS_AT_ONCE: usize = 64;

/// Events one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The number of the first.
    pub first: Seq,
    /// That of the last, not below the first.
    pub last: Seq,
}

/// What comes next in the stream for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Some of the events that it may want, up to the last of them, were added to the runs.
    Runs,
    /// There is none up to this number, and [`Follower::changed`] tells when there is.
    Nothing(Seq),
    /// What lies up to this number is not known any more: the stream has to be read.
    Unknown(Seq),
}

/// Endpoints whose cursors may be moved on.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) to: Seq,
    pub(super) endpoints: Vec<EndpointId>,
    /// Whether no other endpoint may rest soon.
    pub(super) all: bool,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Routing {
    routes: Mutex<Routes>,
    /// All events up to there are routed.
    routed: AtomicI64,
}

#[derive(Debug, Default)]
struct Routes {
    /// By their patterns.
    groups: HashMap<String, Arc<Group>>,
    names: HashMap<Arc<str>, Vec<Arc<Group>>>,
    /// To be woken with the next word that there is something new.
    woken: Vec<Waker>,
    /// How many followers there ever were.
    followers: u64,
}

#[derive(Debug)]
struct Group {
    patterns: String,
    filter: EventFilter,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The runs are complete beyond this number.
    since: Seq,
    /// Ascending, with gaps between them.
    runs: VecDeque<Run>,
    /// How many there may be before it is looked whether all are needed.
    trim_at: usize,
    /// By the number of the follower.
    members: HashMap<u64, Member>,
    /// How many of them wait.
    waiting: usize,
}

#[derive(Debug)]
struct Member {
    endpoint: EndpointId,
    taken: Seq,
    /// Nothing is left for it, and it wants to know of the next.
    waiting: bool,
    waker: Option<Waker>,
    /// Its cursor may be moved on while it waits.
    resting: bool,
    /// How far that is being done, and was done.
    passing: Seq,
    saved: Seq,
}

/// An endpoint's place among the groups, until it is dropped.
#[derive(Debug)]
pub struct Follower {
    routing: Arc<Routing>,
    group: Arc<Group>,
    number: u64,
    resting: bool,
    saved: Seq,
}

impl Routing {
    pub(super) fn new(last_seq: Seq) -> Routing {
        Routing { routes: Mutex::default(), routed: AtomicI64::new(last_seq.0) }
    }

    /// Notes for whom the events of a batch may be, which follows the last one.
    pub(super) fn route(&self, batch: &StoredBatch) {
        let mut routes = self.routes();
        let cap = (RUNS / routes.groups.len().max(1)).max(RUNS_OF_GROUP);
        let events = batch.events().events();
        let mut start = 0;
        while let Some(event) = events.get(start) {
            let name = &event.name;
            let same = |other: &Arc<str>| Arc::ptr_eq(other, name) || other == name;
            let count = events.iter().skip(start).take_while(|event| same(&event.name)).count();
            let first = batch.first_seq().0 + start as i64;
            let run = Run { first: Seq(first), last: Seq(first + count as i64 - 1) };
            start += count;
            let Routes { groups, names, woken, .. } = &mut *routes;
            if !names.contains_key(name) {
                if names.len() >= NAMES {
                    names.clear();
                }
                let wanting = groups.values().filter(|group| group.filter.matches(name));
                names.insert(Arc::clone(name), wanting.cloned().collect());
            }
            for group in names.get(name).into_iter().flatten() {
                group.state().push(run, cap, woken);
            }
        }
        self.routed.store(batch.last_seq().0, Ordering::Release);
    }

    /// Wakes those for whom there is something.
    pub(super) fn wake(&self) {
        let woken = std::mem::take(&mut self.routes().woken);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Which cursors may be moved on.
    pub(super) fn pass(&self) -> Pass {
        let routes = self.routes();
        let routed = self.routed();
        let mut pass = Pass { to: routed, endpoints: Vec::new(), all: true };
        for group in routes.groups.values() {
            for member in group.state().members.values_mut() {
                let rests = member.resting && member.waiting;
                pass.all &= rests;
                if rests && member.saved < routed {
                    member.passing = routed;
                    pass.endpoints.push(member.endpoint);
                }
            }
        }
        pass
    }

    /// That was done.
    pub(super) fn passed(&self, to: Seq) {
        for group in self.routes().groups.values() {
            for member in group.state().members.values_mut() {
                if member.passing == to {
                    member.saved = to;
                }
            }
        }
    }

    pub(super) fn routed(&self) -> Seq {
        Seq(self.routed.load(Ordering::Acquire))
    }

    /// An endpoint has taken events up to `taken` and wants those of this filter that follow.
    pub(super) fn follow(
        self: &Arc<Routing>,
        endpoint: EndpointId,
        filter: &EventFilter,
        taken: Seq,
    ) -> Follower {
        // No pattern has control characters.
        let patterns = filter.patterns().collect::<Vec<_>>().join("\n");
        let mut routes = self.routes();
        let Routes { groups, names, followers, .. } = &mut *routes;
        *followers += 1;
        let number = *followers;
        let group = groups.entry(patterns).or_insert_with_key(|patterns| {
            let group = Group::new(patterns, filter, self.routed());
            for (_, groups) in names.iter_mut().filter(|(name, _)| filter.matches(name)) {
                groups.push(Arc::clone(&group));
            }
            group
        });
        let group = Arc::clone(group);
        let member = Member {
            endpoint,
            taken,
            waiting: false,
            waker: None,
            resting: false,
            passing: Seq(0),
            saved: taken,
        };
        group.state().members.insert(number, member);
        drop(routes);
        Follower { routing: Arc::clone(self), group, number, resting: false, saved: taken }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // Nothing in here can panic halfway, so what a poisoned lock guards is as good as any.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn new(patterns: &str, filter: &EventFilter, since: Seq) -> Arc<Group> {
        let state = State {
            since,
            runs: VecDeque::new(),
            trim_at: RUNS_KEPT,
            members: HashMap::new(),
            waiting: 0,
        };
        let (patterns, filter) = (patterns.to_owned(), filter.clone());
        Arc::new(Group { patterns, filter, state: state.into() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, run: Run, cap: usize, woken: &mut Vec<Waker>) {
        match self.runs.back_mut() {
            Some(last) if last.last.0 + 1 == run.first.0 => last.last = run.last,
            _ => {
                if self.runs.len() >= self.trim_at.min(cap) {
                    self.trim(cap);
                }
                self.runs.push_back(run);
            }
        }
        if self.waiting > 0 {
            for member in self.members.values_mut().filter(|member| member.waiting) {
                member.waiting = false;
                woken.extend(member.waker.take());
            }
            self.waiting = 0;
        }
    }

    /// Forgets what all have taken; and, where that is not enough, what only those need that are
    /// far behind.
    fn trim(&mut self, cap: usize) {
        let taken = self.members.values().map(|member| member.taken).min();
        let needed = self.runs.partition_point(|run| taken.is_none_or(|taken| run.last <= taken));
        let too_many = if self.runs.len() - needed >= cap { cap.div_ceil(4) } else { 0 };
        let forgotten = self.runs.drain(..needed + too_many).next_back();
        if let Some(run) = forgotten {
            self.since = self.since.max(run.last);
        }
        self.trim_at = (2 * self.runs.len()).max(RUNS_KEPT);
        self.runs.shrink_to(self.trim_at);
    }
}

impl Follower {
    /// What comes after `taken`, added to `runs`, which must be empty. Any rest is over.
    pub fn next(&mut self, taken: Seq, runs: &mut VecDeque<Run>) -> Course {
        // Read first: what is routed up to there is noted by the time the group is looked at.
        let routed = self.routing.routed();
        let mut state = self.group.state();
        self.resting = false;
        let State { since, runs: noted, members, waiting, .. } = &mut *state;
        if let Some(member) = members.get_mut(&self.number) {
            member.taken = taken;
            member.resting = false;
            *waiting -= usize::from(std::mem::take(&mut member.waiting));
            self.saved = member.saved;
            if taken < *since {
                return Course::Unknown(*since);
            }
            let at = noted.partition_point(|run| run.last <= taken);
            if at == noted.len() {
                member.waiting = true;
                *waiting += 1;
                return Course::Nothing(routed.max(taken));
            }
            runs.extend(noted.range(at..).take(RUNS_AT_ONCE));
        }
        Course::Runs
    }

    /// Waits until there is something after the last [`Course::Nothing`].
    ///
    /// Cancel-safe.
    pub async fn changed(&self) {
        std::future::poll_fn(|context| match self.group.state().members.get_mut(&self.number) {
            Some(member) if member.waiting => {
                match &mut member.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => member.waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
    }

    /// All that it took is done with, and its cursor stands at `saved` or beyond: the writer may
    /// move it on for as long as there is nothing for it.
    pub fn rest(&mut self, saved: Seq) {
        if self.resting {
            return;
        }
        if let Some(member) = self.group.state().members.get_mut(&self.number) {
            member.saved = member.saved.max(saved);
            member.resting = member.waiting;
            self.resting = member.waiting;
        }
    }

    /// Whether it was resting when last looked.
    pub fn is_resting(&self) -> bool {
        self.resting
    }

    /// Up to where its cursor is known to be saved.
    pub fn saved(&self) -> Seq {
        self.saved
    }

    /// Ends a rest. Up to where there is nothing for it, if it waits.
    pub fn stir(&mut self) -> Option<Seq> {
        let routed = self.routing.routed();
        self.resting = false;
        let mut state = self.group.state();
        let member = state.members.get_mut(&self.number)?;
        member.resting = false;
        self.saved = member.saved;
        member.waiting.then_some(routed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut routes = self.routing.routes();
        let mut state = self.group.state();
        if let Some(member) = state.members.remove(&self.number) {
            state.waiting -= usize::from(member.waiting);
        }
        if state.members.is_empty() {
            routes.groups.remove(&self.group.patterns);
            for groups in routes.names.values_mut() {
                groups.retain(|group| !Arc::ptr_eq(group, &self.group));
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Exhaustive search of a model's states, breadth first, so that a counterexample is a shortest one.
//!
//! A [`Model`] says which states there are at the beginning, what can happen in one, and what comes of it; a step that
//! breaks an invariant says so by the invariant's name. Of a visited state only 128 bits of its key are kept, and how it was
//! reached, so that a counterexample can be told step by step. With 2³⁰ states the chance that any two keys meet is below 2⁻⁶⁸.
//!
//! Liveness: from every state that was found (or from every so-manieth, which the report says) a fair continuation is
//! followed, the model's own deterministic scheduler without further faults; it must reach the goal. Continuations that
//! meet an earlier good one end there, so that following all of them costs little more than the search. One that comes
//! back to a state of its own is a proof that it never reaches the goal.
//!
//! Reduction is the model's: by what [`Model::key`] leaves out (symmetry, canonical time), by which actions it offers.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name, one of [`Model::invariants`].
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// Of that name.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

/// A system with finitely many states within its bounds.
pub trait Model {
    /// One state.
    type State: Clone;
    /// Something that can happen.
    type Action: Copy + Debug;

    /// Its name.
    fn name(&self) -> String;
    /// What is bounded, and by what.
    fn bounds(&self) -> String;
    /// The names of what is checked.
    fn invariants(&self) -> &'static [&'static str];
    /// Where it begins.
    ///
    /// # Errors
    /// If an invariant does not hold there.
    fn initial(&mut self) -> Result<Vec<Self::State>, Violation>;
    /// What tells states apart, 128 bits.
    fn key(&self, state: &Self::State) -> u128;
    /// What can happen.
    fn actions(&mut self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// What comes of it; `None` if it cannot happen after all.
    ///
    /// # Errors
    /// The invariant that it breaks.
    fn step(&mut self, state: &Self::State, action: Self::Action) -> Result<Option<Self::State>, Violation>;
    /// Whether a state is inside the bounds; one that is not is checked, but nothing is tried from it.
    fn is_within(&self, state: &Self::State) -> bool;
    /// One step in words.
    fn tell(&mut self, before: &Self::State, action: Self::Action, after: Option<&Self::State>) -> String;

    /// The fair continuation: the next state, `turn` counts from 0. `None`: nobody is left to go on, which is no fault.
    ///
    /// # Errors
    /// The invariant that it breaks.
    fn fair(&mut self, state: &Self::State, turn: u32) -> Result<Option<Self::State>, Violation> {
        let _ = (state, turn);
        Ok(None)
    }
    /// How many turns the scheduler has before it begins again; 0 if liveness is not checked.
    fn turns(&self) -> u32 {
        0
    }
    /// Whether a fair continuation has come where it must.
    fn is_goal(&self, state: &Self::State) -> bool {
        let _ = state;
        true
    }
    /// What a fair continuation must reach: the name of the invariant.
    fn liveness(&self) -> &'static str {
        ""
    }
}

/// How far to search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The search gives up, and says so, after so many states.
    pub states: usize,
    /// A fair continuation is followed from every so-manieth state.
    pub fair_every: usize,
    /// Steps of a fair continuation at most.
    pub fair_steps: usize,
    /// Depth first: for large states, of which the queue would hold too many. A counterexample is then not a shortest one.
    pub depth_first: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { states: 100_000_000, fair_every: 1, fair_steps: 2000, depth_first: false }
    }
}

/// How a search ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All states within the bounds were visited, and everything held.
    Held,
    /// The search was ended by its limit: what was visited held.
    Unfinished,
    /// An invariant does not hold.
    Broken(Counterexample),
}

/// How an invariant is broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// Which, and what was seen.
    pub violation: Violation,
    /// The steps from the beginning, in words. No shorter run breaks anything.
    pub steps: Vec<String>,
    /// Of these, how many belong to a fair continuation that never reaches its goal.
    pub fair: usize,
}

/// What a search found and what it cost.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The model.
    pub model: String,
    /// Its bounds.
    pub bounds: String,
    /// What was checked.
    pub invariants: Vec<&'static str>,
    /// Different states.
    pub states: usize,
    /// Steps that were tried.
    pub transitions: u64,
    /// Steps from the beginning to the farthest state.
    pub depth: u32,
    /// States at the bounds, from which nothing was tried.
    pub at_bounds: usize,
    /// States from which a fair continuation was followed.
    pub fair_from: usize,
    /// The longest fair continuation that had to be followed anew.
    pub fair_longest: usize,
    /// Wall time.
    pub seconds: f64,
    /// How it ended.
    pub verdict: Verdict,
}

impl Report {
    /// The counterexample, if there is one.
    pub fn counterexample(&self) -> Option<&Counterexample> {
        match &self.verdict {
            Verdict::Broken(counterexample) => Some(counterexample),
            Verdict::Held | Verdict::Unfinished => None,
        }
    }

    /// Everything held, and nothing within the bounds was left out.
    pub fn held(&self) -> bool {
        self.verdict == Verdict::Held
    }
}

/// A hasher for keys, which are hashes themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

type Keys = HashSet<u128, BuildHasherDefault<KeyHasher>>;

/// A hasher that gives 128 bits: two lanes of multiply and fold with different constants.
#[derive(Clone, Copy, Debug)]
pub struct Hash128(u64, u64);

impl Default for Hash128 {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344)
    }
}

impl Hash128 {
    /// The 128 bits of a value.
    pub fn of(value: &impl std::hash::Hash) -> u128 {
        let mut hasher = Self::default();
        value.hash(&mut hasher);
        hasher.key()
    }

    /// The 128 bits of what was written.
    pub fn key(self) -> u128 {
        let a = fold(self.0 ^ self.1.rotate_left(32), 0x9e37_79b9_7f4a_7c15);
        let b = fold(self.1 ^ self.0.rotate_left(17), 0xd6e8_feb8_6659_fd93);
        u128::from(a) << 64 | u128::from(b)
    }
}

fn fold(value: u64, by: u64) -> u64 {
    let wide = u128::from(value ^ 0xa409_3822_299f_31d0) * u128::from(by);
    (wide as u64) ^ (wide >> 64) as u64
}

impl Hasher for Hash128 {
    fn finish(&self) -> u64 {
        self.0 ^ self.1
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = fold(self.0.rotate_left(5) ^ n, 0x9e37_79b9_7f4a_7c15);
        self.1 = (self.1.rotate_left(23) ^ n).wrapping_mul(0xc2b2_ae3d_27d4_eb4f) ^ self.1 >> 29;
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}

struct Search<'m, M: Model> {
    model: &'m mut M,
    limits: Limits,
    /// How each state was reached: from which, by what.
    reached: Vec<(u32, Option<M::Action>)>,
    seen: Keys,
    /// (State, turn) from which the fair continuation reaches its goal.
    good: Keys,
    report: Report,
}

/// Visits every state of a model within its bounds.
pub fn explore<M: Model>(model: &mut M, limits: Limits) -> Report {
    let begun = Instant::now();
    let report = Report {
        model: model.name(),
        bounds: model.bounds(),
        invariants: model.invariants().to_vec(),
        states: 0,
        transitions: 0,
        depth: 0,
        at_bounds: 0,
        fair_from: 0,
        fair_longest: 0,
        seconds: 0.0,
        verdict: Verdict::Held,
    };
    let mut search =
        Search { model, limits, reached: Vec::new(), seen: Keys::default(), good: Keys::default(), report };
    let verdict = search.run();
    let mut report = search.report;
    report.states = search.reached.len();
    report.verdict = verdict;
    report.seconds = begun.elapsed().as_secs_f64();
    report
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self) -> Verdict {
        let initial = match self.model.initial() {
            Ok(initial) => initial,
            Err(violation) => return Verdict::Broken(Counterexample { violation, steps: Vec::new(), fair: 0 }),
        };
        let mut queue = VecDeque::new();
        for state in initial {
            if self.seen.insert(self.model.key(&state)) {
                let index = self.reached.len() as u32;
                self.reached.push((u32::MAX, None));
                queue.push_back((index, 0u32, state));
            }
        }
        let mut actions = Vec::new();
        let depth_first = self.limits.depth_first;
        while let Some((index, depth, state)) = if depth_first { queue.pop_back() } else { queue.pop_front() } {
            self.report.depth = self.report.depth.max(depth);
            if !self.model.is_within(&state) {
                self.report.at_bounds += 1;
                continue;
            }
            if let Some(broken) = self.follow(index, &state) {
                return broken;
            }
            actions.clear();
            self.model.actions(&state, &mut actions);
            for action in &actions {
                self.report.transitions += 1;
                let next = match self.model.step(&state, *action) {
                    Ok(None) => continue,
                    Ok(Some(next)) => next,
                    Err(violation) => {
                        let mut steps = self.path(index);
                        steps.push(self.model.tell(&state, *action, None));
                        return Verdict::Broken(Counterexample { violation, steps, fair: 0 });
                    }
                };
                if !self.seen.insert(self.model.key(&next)) {
                    continue;
                }
                if self.reached.len() >= self.limits.states.min(u32::MAX as usize - 1) {
                    return Verdict::Unfinished;
                }
                let at = self.reached.len() as u32;
                self.reached.push((index, Some(*action)));
                queue.push_back((at, depth + 1, next));
            }
        }
        Verdict::Held
    }

    // The fair continuation from here.
    fn follow(&mut self, index: u32, from: &M::State) -> Option<Verdict> {
        let turns = self.model.turns();
        if turns == 0 || !(index as usize).is_multiple_of(self.limits.fair_every) {
            return None;
        }
        self.report.fair_from += 1;
        let mut path = Vec::new();
        let mut on_path = Keys::default();
        let mut state = from.clone();
        let mut turn = 0;
        let fault = loop {
            let key =
                self.model.key(&state) ^ (u128::from(turn) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            if self.model.is_goal(&state) || self.good.contains(&key) {
                break None;
            }
            if !on_path.insert(key) {
                break Some(Violation::new(
                    self.model.liveness(),
                    "a fair run without further faults comes back to the same state",
                ));
            }
            path.push(key);
            if path.len() > self.limits.fair_steps {
                let what = format!("a fair run without further faults does not get there in {} steps", path.len());
                break Some(Violation::new(self.model.liveness(), what));
            }
            match self.model.fair(&state, turn) {
                Ok(Some(next)) => state = next,
                Ok(None) => break None,
                Err(violation) => break Some(violation),
            }
            turn = (turn + 1) % turns;
        };
        self.report.fair_longest = self.report.fair_longest.max(path.len());
        let fair = path.len();
        self.good.extend(path);
        let violation = fault?;
        let mut steps = self.path(index);
        steps.push(format!("(from here a fair run of {fair} steps without further faults)"));
        Some(Verdict::Broken(Counterexample { violation, steps, fair }))
    }

    // Plays the way to a state again and tells it.
    fn path(&mut self, mut index: u32) -> Vec<String> {
        let mut actions = Vec::new();
        let mut first = index;
        while let Some((from, Some(action))) = self.reached.get(index as usize) {
            actions.push(*action);
            index = *from;
            first = index;
        }
        let Ok(initial) = self.model.initial() else { return Vec::new() };
        let Some(mut state) = initial.into_iter().nth(first as usize) else { return Vec::new() };
        let mut steps = Vec::new();
        for action in actions.into_iter().rev() {
            let Ok(Some(next)) = self.model.step(&state, action) else { break };
            steps.push(self.model.tell(&state, action, Some(&next)));
            state = next;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that is to stay below a limit; it may stall.
    struct Counter {
        limit: u8,
        stalls: bool,
    }

    impl Model for Counter {
        type State = u8;
        type Action = u8;
        fn name(&self) -> String {
            "counter".into()
        }
        fn bounds(&self) -> String {
            "below 10".into()
        }
        fn invariants(&self) -> &'static [&'static str] {
            &["small", "ends"]
        }
        fn initial(&mut self) -> Result<Vec<u8>, Violation> {
            Ok(vec![0])
        }
        fn key(&self, state: &u8) -> u128 {
            Hash128::of(state)
        }
        fn actions(&mut self, _: &u8, actions: &mut Vec<u8>) {
            actions.extend([1, 3]);
        }
        fn step(&mut self, state: &u8, action: u8) -> Result<Option<u8>, Violation> {
            let next = state + action;
            if next >= self.limit { Err(Violation::new("small", next.to_string())) } else { Ok(Some(next)) }
        }
        fn is_within(&self, state: &u8) -> bool {
            *state < 10
        }
        fn tell(&mut self, _: &u8, action: u8, _: Option<&u8>) -> String {
            action.to_string()
        }
        fn fair(&mut self, state: &u8, _: u32) -> Result<Option<u8>, Violation> {
            Ok(Some(if self.stalls && *state == 7 { 6 } else { state + 1 }))
        }
        fn turns(&self) -> u32 {
            1
        }
        fn is_goal(&self, state: &u8) -> bool {
            *state >= 9
        }
        fn liveness(&self) -> &'static str {
            "ends"
        }
    }

    #[test]
    fn all_states_are_visited_and_the_shortest_counterexample_is_told() {
        let report = explore(&mut Counter { limit: 100, stalls: false }, Limits::default());
        assert!(report.held());
        assert_eq!((report.states, report.at_bounds), (13, 3));
        let report = explore(&mut Counter { limit: 6, stalls: false }, Limits::default());
        assert_eq!(report.counterexample().map(|c| c.steps.clone()), Some(vec!["3".to_owned(), "3".to_owned()]));
    }

    #[test]
    fn a_limit_is_no_proof() {
        let report = explore(&mut Counter { limit: 100, stalls: false }, Limits { states: 5, ..Limits::default() });
        assert_eq!(report.verdict, Verdict::Unfinished);
        assert!(!report.held());
    }

    #[test]
    fn a_fair_run_that_turns_in_a_circle_is_found() {
        let report = explore(&mut Counter { limit: 100, stalls: true }, Limits::default());
        let found = report.counterexample().map(|c| c.violation.invariant);
        assert_eq!(found, Some("ends"));
    }
}

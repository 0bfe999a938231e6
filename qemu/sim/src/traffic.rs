//! Group traffic: jobs that come and go, what they send, their protocols, merges and faults, and what becomes of domains; as
//! lines typed at nodes' consoles, in their times. From a generator of its own, so that what else a seed draws does not
//! depend on it.

use crate::plan::{Act, Step};
use crate::random::Random;

const GROUPS: [&str; 3] = ["sales", "stock", "audit"];
const DOMAINS: [&str; 3] = ["payroll", "orders", "backup"];
const JOBS: [&str; 2] = ["a", "b"];

/// Whether a seed has group traffic by itself: every eighth, by chance.
pub(crate) fn is_drawn(seed: u64) -> bool {
    Random::new(seed.rotate_left(21) ^ 0x62_0b5).below(8) == 0
}

/// A job that was made, as far as the plan knows.
#[derive(Clone, Copy)]
struct Made {
    node: u8,
    group: &'static str,
    job: &'static str,
}

struct Traffic {
    random: Random,
    nodes: u8,
    made: Vec<Made>,
    lines: Vec<(u8, String)>,
}

/// The acts of a seed, ascending by time.
pub(crate) fn draw(seed: u64, nodes: u8, damage_us: u64) -> Vec<Step> {
    let random = Random::new(seed.rotate_left(23) ^ 0x7_4aff1c);
    let mut traffic = Traffic { random, nodes, made: Vec::new(), lines: Vec::new() };
    let mut steps = Vec::new();
    let mut at_us = 0;
    loop {
        at_us += match traffic.random.below(6) {
            0 => 0,
            1 => traffic.random.below(2_000),
            2 => traffic.random.below(20_000),
            3 | 4 => traffic.random.below(80_000),
            _ => traffic.random.below(300_000),
        };
        if at_us >= damage_us {
            return steps;
        }
        traffic.act();
        let typed = |(node, line)| Step { at_us, act: Act::Console { node, line } };
        steps.extend(traffic.lines.drain(..).map(typed));
    }
}

impl Traffic {
    fn node(&mut self) -> u8 {
        self.random.below(u64::from(self.nodes)) as u8
    }

    fn type_at(&mut self, node: u8, line: String) {
        self.lines.push((node, line));
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..14 => drop(self.register()),
            14..50 => self.load(),
            50..54 => self.say(|_| "send".to_owned(), "one"),
            54..66 => self.start(),
            66..72 => self.say(|_| "merge".to_owned(), ""),
            72..75 => self.say(|_| "fault".to_owned(), "7"),
            75..79 => self.say(|_| "unregister".to_owned(), ""),
            79..82 => self.hang(),
            _ => self.domain(),
        }
    }

    /// One that was made before; now and then made anew first, because its node may have died meanwhile.
    fn job(&mut self) -> Made {
        let known = self.random.below(self.made.len() as u64) as usize;
        match self.made.get(known).copied() {
            Some(made) if self.random.below(3) > 0 => made,
            Some(made) => self.make(made),
            None => self.register(),
        }
    }

    fn register(&mut self) -> Made {
        let of_domain = self.random.below(3) == 0;
        let group = self.random.pick(if of_domain { &DOMAINS } else { &GROUPS }).unwrap_or(GROUPS[0]);
        let job = self.random.pick(&JOBS).unwrap_or(JOBS[0]);
        let node = self.node();
        self.make(Made { node, group, job })
    }

    fn make(&mut self, made: Made) -> Made {
        let Made { node, group, job } = made;
        let verb = if DOMAINS.contains(&group) { "join" } else { "register" };
        // Each with a deadline: a thread that hangs is put out some time.
        let (subgroup, deadline_ms) = (self.random.below(3), self.random.between(200, 3_000));
        self.type_at(node, format!("job {verb} {group} {job} {subgroup} {deadline_ms}"));
        let (rounds, work_ms) = (self.random.between(1, 4), self.random.below(30));
        self.type_at(node, format!("job work {group} {job} {rounds} {work_ms}"));
        let same = |m: &Made| (m.node, m.group, m.job) == (node, group, job);
        if !self.made.iter().any(same) {
            self.made.push(made);
        }
        made
    }

    fn say(&mut self, verb: impl FnOnce(&mut Random) -> String, rest: &str) {
        let Made { node, group, job } = self.job();
        let verb = verb(&mut self.random);
        let line = format!("job {verb} {group} {job} {rest}");
        self.type_at(node, line.trim_end().to_owned());
    }

    /// Mostly a few messages, now and then a flood; of any size, one by one or many on their way.
    fn load(&mut self) {
        let Made { node, group, job } = self.job();
        let count = match self.random.below(8) {
            0 => self.random.between(100, 600),
            1 | 2 => self.random.between(20, 100),
            _ => self.random.between(1, 20),
        };
        let bytes = match self.random.below(8) {
            0 | 1 => 0,
            2 | 3 => self.random.below(100),
            4 | 5 => self.random.below(PART_MAX),
            6 => PART_MAX,
            _ => self.random.below(BYTES_MAX + 1),
        };
        // Long ones are as many frames.
        let count = if bytes > PART_MAX { count.min(30) } else { count };
        let outstanding = if self.random.below(3) == 0 { 1 } else { self.random.between(1, 64) };
        self.type_at(node, format!("job load {group} {job} {count} {bytes} {outstanding}"));
    }

    fn start(&mut self) {
        let thread = self.random.below(4);
        self.say(|_| "start".to_owned(), &thread.to_string());
    }

    fn hang(&mut self) {
        let Made { node, group, job } = self.job();
        self.type_at(node, format!("job work {group} {job} hang"));
    }

    fn domain(&mut self) {
        let (node, other) = (self.node(), self.node());
        let name = self.random.pick(&DOMAINS).unwrap_or(DOMAINS[0]);
        let line = match self.random.below(10) {
            0..4 => {
                let mut listed: Vec<String> =
                    (0..self.nodes).filter(|_| self.random.below(3) > 0).map(|n| n.to_string()).collect();
                if listed.is_empty() {
                    listed.push(node.to_string());
                }
                format!("domain create {name} {}", listed.join(" "))
            }
            4..6 => format!("domain add {name} {other}"),
            6..8 => format!("domain remove {name} {other}"),
            8 => format!("domain leave {name}"),
            _ => format!("domain delete {name}"),
        };
        self.type_at(node, line);
    }
}

/// The longest message that is sent.
const BYTES_MAX: u64 = quorate_groups::capacity::MESSAGE_MAX as u64;

/// The longest that goes in one frame.
const PART_MAX: u64 = quorate_groups::capacity::PART_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_eighth_seed_has_traffic_with_everything_in_it() {
        let drawn = (0..8000).filter(|seed| is_drawn(*seed)).count();
        assert!((900..1100).contains(&drawn), "{drawn}");
        let lines: Vec<String> = (0..20)
            .flat_map(|seed| draw(seed, 3, 15_000_000))
            .filter_map(|step| if let Act::Console { line, .. } = step.act { Some(line) } else { None })
            .collect();
        for words in
            ["job register", "job join", "job load", "job send", "job start", "job work", "job merge", "job fault"]
        {
            assert!(lines.iter().any(|line| line.starts_with(words)), "{words}");
        }
        for words in ["job unregister", "domain create", "domain add", "domain remove", "domain leave", "domain delete"]
        {
            assert!(lines.iter().any(|line| line.starts_with(words)), "{words}");
        }
        assert!(lines.iter().any(|line| line.ends_with("hang")));
        assert!(lines.iter().all(|line| line.len() <= quorate_node::console::LINE_BYTES_MAX));
    }
}

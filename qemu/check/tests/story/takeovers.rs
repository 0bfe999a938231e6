//! Stories of masters that die in the middle (MISSION B3; DESIGN 5, "Takeover").

use super::Story;
use serde_json::json;

/// Node 0 begins to lead node 2 out and dies. `told`: who was notified by then. Node 1 takes over; what nobody who lives
/// knows never existed, so it begins anew.
pub fn round_that_nobody_knows(told: &[usize]) -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1]), (70, "probe", [1, 1, 1])]);
    s.start(&[0, 1, 2]);
    s.acquire(0, 64);
    s.join(&[0, 1, 2], &[0, 1, 2]);
    s.commit(&[(2, "leaving")], &[0, 1, 2]);
    let lost = s.round(70, "leaving", &[2], &[0, 1, 2]);
    for node in told {
        s.at_step("notify", *node, &lost, 2, 0);
    }
    s.step("kill", &[0]);
    s.acquire(1, 129);
    s.announce(&[1, 2]);
    s.commit(&[(0, "forced-leaving")], &[1, 2]);
    s.fence(0);
    s.through(20, "forced-leaving", &[0], &[1, 2]);
    s.through(70, "forced-leaving", &[0], &[1, 2]);
    s.through(70, "leaving", &[2], &[1, 2]);
    s.through(20, "leaving", &[2], &[1, 2]);
    s.commit(&[(0, "inactive")], &[1, 2]);
    s.commit(&[(2, "inactive")], &[1, 2]);
    s.tell(2, json!({"ev": "halt", "reason": "left"}));
    s.end()
}

/// Node 2 is joined at level 20 when the master (if `dies`) and it die. Its forced leave climbs to level 70, which may have
/// heard, if there is a new master.
pub fn one_level_further(dies: bool) -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1]), (70, "probe", [1, 1, 1]), (80, "top", [1, 1, 1])]);
    s.start(&[0, 1, 2]);
    s.acquire(0, 64);
    s.join(&[0, 1], &[0, 1]);
    s.commit(&[(2, "joining")], &[0, 1, 2]);
    s.through(20, "joining", &[2], &[0, 1, 2]);
    let live: &[usize] = if dies { &[1] } else { &[0, 1] };
    if dies {
        s.step("kill", &[0, 2]);
        s.acquire(1, 129);
        s.announce(&[1]);
        s.commit(&[(0, "forced-leaving"), (2, "forced-leaving")], live);
        s.fence(0);
    } else {
        s.step("kill", &[2]);
        s.commit(&[(2, "forced-leaving")], live);
    }
    s.fence(2);
    for level in [20, 70, 80] {
        if dies {
            s.through(level, "forced-leaving", &[0], live);
        }
        if level == 70 {
            // Nobody had delivered the Joining: it comes, overtaken at once.
            let name = s.round(70, "joining", &[2], live);
            for node in live {
                s.at_step("notify", *node, &name, 2, 0);
            }
        }
        if level <= 70 {
            s.through(level, "forced-leaving", &[2], live);
        }
    }
    let dead: &[(usize, &'static str)] = if dies { &[(0, "inactive"), (2, "inactive")] } else { &[(2, "inactive")] };
    s.commit(dead, live);
    s.end()
}

/// A master is deposed and does not know it yet: what it tells itself is nobody's business.
pub fn deposed_master() -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1]), (70, "probe", [1, 1, 1])]);
    s.start(&[0, 1, 2]);
    s.acquire(0, 64);
    s.join(&[0, 1], &[0, 1]);
    s.commit(&[(2, "joining")], &[0, 1, 2]);
    s.through(20, "joining", &[2], &[0, 1, 2]);
    let old = s.round(70, "joining", &[2], &[0, 1, 2]);
    s.acquire(1, 129);
    s.announce(&[1, 2]);
    s.commit(&[(0, "forced-leaving")], &[1, 2]);
    s.fence(0);
    s.through(20, "forced-leaving", &[0], &[1, 2]);
    s.through(70, "forced-leaving", &[0], &[1]);
    let new = s.round(70, "joining", &[2], &[1, 2]);
    s.at_step("notify", 1, &new, 2, 0);
    s.master = 0;
    s.at_step("notify", 0, &old, 2, 0);
    s.tell(0, json!({"ev": "lock", "phase": "lost", "ballot": 129}));
    s.tell(0, json!({"ev": "panic", "reason": "put out"}));
    s.end()
}

/// A master that is cut off waits for an acknowledgement in a round that its successor has taken further.
pub fn deposed_master_waits() -> Story {
    let mut s = Story::new(&[(20, "dlm", [2, 1, 1])]);
    s.start(&[0, 1, 2]);
    s.acquire(0, 64);
    s.join(&[0, 1], &[0, 1]);
    s.commit(&[(2, "joining")], &[0, 1, 2]);
    let round = s.round(20, "joining", &[2], &[0, 1, 2]);
    for ev in ["notify", "ack"] {
        for node in 0..3 {
            s.at_step(ev, node, &round, 2, 0);
        }
    }
    s.acquire(1, 129);
    s.announce(&[1, 2]);
    s.commit(&[(0, "forced-leaving")], &[1, 2]);
    s.fence(0);
    s.tell(1, s.rounds[&round].clone());
    s.at_step("notify", 1, &round, 2, 1);
    s.master = 0;
    s.stall("waiting", &round, (2, 0), &[1], 1000);
    s.tell(0, json!({"ev": "lock", "phase": "lost", "ballot": 129}));
    s.tell(0, json!({"ev": "panic", "reason": "put out"}));
    s.end()
}

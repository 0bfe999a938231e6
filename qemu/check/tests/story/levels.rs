//! Stories of levels that come and go at run time (MISSION A3), and of levels that do not acknowledge.

use super::Story;
use serde_json::{Value, json};

/// The run-time level of these stories.
pub const APP: u16 = 120;

impl Story {
    fn registers(&mut self, node: usize) {
        let b = self.levels.iter().find(|l| l.0 == APP).unwrap().2;
        let barriers = json!({"joining": b[0], "leaving": b[1], "forced_leaving": b[2]});
        self.tell(node, json!({"ev": "register", "level": APP, "name": "app", "barriers": barriers}));
        self.send(node, self.master);
    }

    fn deregisters(&mut self, node: usize) {
        let b = self.levels.iter().find(|l| l.0 == APP).unwrap().2;
        let barriers = json!({"joining": b[0], "leaving": b[1], "forced_leaving": b[2]});
        self.tell(node, json!({"ev": "deregister", "level": APP, "name": "app", "barriers": barriers}));
        self.send(node, self.master);
    }

    /// The line of a stall: the step, who owes it, for how long.
    pub fn stall(&mut self, ev: &str, round: &str, (subject, barrier): (usize, u32), awaiting: &[usize], ms: u64) {
        let master = self.master;
        self.at_step(ev, master, round, subject, barrier);
        let line = self.lines.last_mut().unwrap();
        (line["awaiting"], line["waited_ms"]) = (json!(awaiting), json!(ms));
    }
}

/// Two nodes; a level of user space comes on one, then on the other, leaves gracefully, comes again, dies, comes again; then
/// its node leaves and takes it along.
pub fn run_time_level() -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1])]);
    s.start(&[0, 1]);
    s.levels.push((APP, "app", [2, 1, 1]));
    s.acquire(0, 64);
    s.join_at(&[20], &[0, 1], &[0, 1]);
    s.registers(0);
    s.through(APP, "joining", &[0], &[0]);
    s.registers(1);
    s.through(APP, "joining", &[1], &[0, 1]);
    // Gracefully.
    s.through(APP, "leaving", &[1], &[0, 1]);
    s.deregisters(1);
    s.registers(1);
    s.through(APP, "joining", &[1], &[0, 1]);
    // The process dies; the node lives, and there is no fence.
    s.deregisters(1);
    s.through(APP, "forced-leaving", &[1], &[0]);
    s.registers(1);
    s.through(APP, "joining", &[1], &[0, 1]);
    // The node leaves.
    s.commit(&[(1, "leaving")], &[0, 1]);
    s.through(APP, "leaving", &[1], &[0, 1]);
    s.through(20, "leaving", &[1], &[0, 1]);
    s.commit(&[(1, "inactive")], &[0, 1]);
    s.whole(1, "inactive", &[0]);
    s.deregisters(1);
    s.tell(1, json!({"ev": "halt", "reason": "left"}));
    s.end()
}

/// A level of node 2 joins at run time, node 1 has it already; the master is killed when both were told, and its line of the
/// round is lost with it if `lost`. The next master issues the round again.
pub fn run_time_level_across_a_takeover(lost: bool) -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1])]);
    s.start(&[0, 1, 2]);
    s.levels.push((APP, "app", [2, 1, 1]));
    s.acquire(0, 64);
    s.join_at(&[20], &[0, 1, 2], &[0, 1, 2]);
    s.registers(1);
    s.through(APP, "joining", &[1], &[1]);
    s.registers(2);
    let join = s.round(APP, "joining", &[2], &[1, 2]);
    let round = s.lines.iter().rposition(|l| l["ev"] == "round").unwrap();
    for node in [1, 2] {
        s.at_step("notify", node, &join, 2, 0);
    }
    s.step("kill", &[0]);
    s.acquire(1, 129);
    s.announce(&[1, 2]);
    s.commit(&[(0, "forced-leaving")], &[1, 2]);
    s.fence(0);
    s.tell(1, s.rounds[&join].clone());
    s.through(20, "forced-leaving", &[0], &[1, 2]);
    for (ev, barrier) in [("ack", 0), ("notify", 1), ("ack", 1)] {
        for node in [1, 2] {
            s.at_step(ev, node, &join, 2, barrier);
        }
    }
    s.states_at(APP, "joining", &[2], &[1, 2]);
    s.commit(&[(0, "inactive")], &[1, 2]);
    if lost {
        s.lines.remove(round);
    }
    s.end()
}

/// Node 1 does not acknowledge its join: it is waited for, then it is overdue, and is put out.
pub fn overdue() -> Story {
    let mut s = Story::new(&[(20, "dlm", [2, 1, 1])]);
    s.start(&[0, 1]);
    s.acquire(0, 64);
    s.join(&[0], &[0]);
    s.commit(&[(1, "joining")], &[0, 1]);
    let hung = s.round(20, "joining", &[1], &[0, 1]);
    for node in [0, 1] {
        s.at_step("notify", node, &hung, 1, 0);
    }
    s.at_step("ack", 0, &hung, 1, 0);
    for ms in [1000, 2000, 4000] {
        s.stall("waiting", &hung, (1, 0), &[1], ms);
    }
    s.stall("overdue", &hung, (1, 0), &[1], 5000);
    s.commit(&[(1, "forced-leaving")], &[0]);
    s.tell(1, json!({"ev": "panic", "reason": "put out"}));
    s.fence(1);
    s.through(20, "forced-leaving", &[1], &[0]);
    s.commit(&[(1, "inactive")], &[0]);
    s.whole(1, "inactive", &[0]);
    s.end()
}

/// A node with a service at level 120 is put out, with exact times: the service of the other one hears of it when the
/// lease has run out.
pub fn service_of_a_dead_node() -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1]), (APP, "app", [1, 1, 1])]);
    s.start(&[0, 1]);
    s.acquire(0, 64);
    s.join(&[0, 1], &[0, 1]);
    s.lease(1, 500);
    s.write(1, "ballot.1");
    s.step("kill", &[1]);
    s.wait_us(1000);
    s.commit(&[(1, "forced-leaving")], &[0]);
    s.fence(1);
    for level in [20, APP] {
        s.through(level, "forced-leaving", &[1], &[0]);
    }
    s.commit(&[(1, "inactive")], &[0]);
    s.whole(1, "inactive", &[0]);
    s.end()
}

impl Story {
    /// This much time goes by.
    pub fn wait_us(&mut self, us: u64) {
        self.t_us += us;
    }

    /// A lease that runs for so long from now on.
    pub fn lease(&mut self, node: usize, us: u64) {
        let now = self.t_us + 100 - self.booted_us[node];
        self.write(node, &format!("heartbeat.{node}"));
        self.tell(node, json!({"ev": "lease", "issued_nt_us": now, "until_nt_us": now + us}));
    }

    /// A write that is issued and done now.
    pub fn write(&mut self, node: usize, region: &str) {
        let now = self.t_us + 100 - self.booted_us[node];
        let write: Value = json!({"ev": "shared_write", "region": region, "lba": 1, "blocks": 1, "issued_nt_us": now});
        self.tell(node, write);
    }
}

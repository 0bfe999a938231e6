//! Three nodes on virtual time, with one carrier, on the simulator's switch.

use std::collections::BTreeMap;

use quorate_base::{Instant, NodeId};
use quorate_interconnect::envelope::{Opened, PAYLOAD_MAX};
use quorate_scenario::Trouble;
use quorate_sim::wire::Nic;
use quorate_sim::{Arrival, NetFaults, Network, Random};

use super::carrier::{Carrier, Datagrams, Streams};
use super::party::{Load, Party};
use super::{Kind, NODES};

/// All that is asked for is through in less, virtual µs.
const LIMIT_US: u64 = 3_600_000_000;
/// A frame with a message is longer, one that only acknowledges is not.
const DATA_BYTES: usize = 150;

struct End {
    nic: Nic,
    carrier: Box<dyn Carrier>,
    party: Party,
    due: Instant,
}

/// What went over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Traffic {
    /// Ethernet frames that nodes sent, and their bytes without the checksum.
    pub sent: u64,
    pub bytes: u64,
    /// Frames that came to nodes: one that goes to all comes to each.
    pub came: u64,
}

/// The nodes and what is between them.
pub(super) struct Cluster {
    ends: Vec<End>,
    network: Network,
    /// Frames of one link do not overtake each other, as on an Ethernet.
    in_order: bool,
    last: [[u64; NODES]; NODES],
    random: Random,
    queue: BTreeMap<(u64, u64), Arrival>,
    queued: u64,
    pub now: Instant,
    pub traffic: Traffic,
    /// From whom to whom a frame with messages is lost, after how many that are not.
    pub lose: Option<(usize, usize, u32)>,
}

impl Cluster {
    /// Three nodes that reach each other. A frame takes `delay_us`, at least and at most.
    ///
    /// # Errors
    /// If they do not come to reach each other.
    pub fn new(kind: Kind, delay_us: (u64, u64), in_order: bool, seed: u64) -> Result<Self, Trouble> {
        let sequencer = NodeId::new(0).ok_or_else(|| Trouble::Failed("bench streams: no node 0".to_owned()))?;
        let mut ends = Vec::new();
        for me in NodeId::first(NODES as u8) {
            let mut nic = Nic::default();
            let carrier: Box<dyn Carrier> = match kind {
                Kind::Datagrams => {
                    let made = Datagrams::new(me, &mut nic);
                    Box::new(made.map_err(|error| Trouble::Failed(format!("bench streams: {error}")))?)
                }
                Kind::Streams { speed } => Box::new(Streams::new(me, speed, &mut nic)),
            };
            let party = Party::new(me.index(), sequencer, carrier.loses());
            ends.push(End { nic, carrier, party, due: Instant::ZERO });
        }
        let mut network = Network::new(NODES as u8);
        network.faults = NetFaults { delay_us, ..NetFaults::default() };
        let mut cluster = Self {
            ends,
            network,
            in_order,
            last: [[0; NODES]; NODES],
            random: Random::new(seed),
            queue: BTreeMap::new(),
            queued: 0,
            now: Instant::ZERO,
            traffic: Traffic::default(),
            lose: None,
        };
        cluster.run(|cluster| cluster.ends.iter().all(|end| end.carrier.is_open()))?;
        // Each has sent, so that every address is known.
        let load = Load { bytes: 64, outstanding: 1, batched: true };
        (0..NODES).try_for_each(|node| cluster.load(&[node], load, 4))?;
        cluster.traffic = Traffic::default();
        Ok(cluster)
    }

    /// So many frames in a million are lost from now on.
    pub fn set_loss(&mut self, per_million: u32) {
        self.network.faults.loss_per_million = per_million;
    }

    /// Each of those nodes sends so many messages, until all are through.
    ///
    /// # Errors
    /// If they do not come through.
    pub fn load(&mut self, from: &[usize], load: Load, count: u32) -> Result<(), Trouble> {
        for end in &mut self.ends {
            end.party.forget();
        }
        for node in from {
            if let Some(end) = self.ends.get_mut(*node) {
                end.party.begin(load, count);
                end.due = self.now;
            }
        }
        let wanted = count as usize * from.len();
        self.run(|cluster| cluster.ends.iter().all(|end| end.party.delivered.len() == wanted && end.party.is_through()))
    }

    /// What a node measured.
    pub fn party(&self, node: usize) -> Option<&Party> {
        self.ends.get(node).map(|end| &end.party)
    }

    fn run(&mut self, until: impl Fn(&Self) -> bool) -> Result<(), Trouble> {
        let end = self.now.plus_us(LIMIT_US);
        while !until(self) {
            if self.now >= end || !self.step() {
                return Err(Trouble::Failed(format!("bench streams: not through at {} us", self.now.0)));
            }
        }
        Ok(())
    }

    /// The next moment at which something happens. False: there is none.
    fn step(&mut self) -> bool {
        let timer = self.ends.iter().map(|end| end.due).min().unwrap_or(Instant::FAR);
        let frame = self.queue.first_key_value().map_or(Instant::FAR, |((at, _), _)| Instant(*at));
        if timer.min(frame) == Instant::FAR {
            return false;
        }
        self.now = self.now.max(timer.min(frame));
        let mut woken = [false; NODES];
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= self.now.0) {
            let arrival = first.remove();
            if let (Some(end), Some(woken)) = (self.ends.get_mut(arrival.to), woken.get_mut(arrival.to)) {
                // A full ring is a lost frame.
                self.traffic.came += u64::from(end.nic.deliver(arrival.frame));
                *woken = true;
            }
        }
        for (node, woken) in woken.into_iter().enumerate() {
            if woken || self.ends.get(node).is_some_and(|end| end.due <= self.now) {
                self.turn(node);
            }
        }
        true
    }

    /// A node takes what came, answers it, and sends.
    fn turn(&mut self, node: usize) {
        let now = self.now;
        let Some(End { nic, carrier, party, due }) = self.ends.get_mut(node) else { return };
        let mut opened = Opened::new();
        loop {
            carrier.take(now, nic);
            while let Some(from) = carrier.receive(&mut opened) {
                party.receive(from.index(), &opened, &mut |to, message| {
                    let mut payload = [0; PAYLOAD_MAX];
                    if let Some(payload) = message.encode(&mut payload) {
                        carrier.post(now, nic, to, payload);
                    }
                });
            }
            if nic.is_drained() {
                break;
            }
        }
        party.turn(now, &mut |to, message| {
            let mut payload = [0; PAYLOAD_MAX];
            if let Some(payload) = message.encode(&mut payload) {
                carrier.post(now, nic, to, payload);
            }
        });
        carrier.give(now, nic);
        // Never again in this moment, so that time goes on.
        *due = carrier.poll_timeout(now).min(party.poll_timeout()).max(now.plus_us(1));
        let sent = nic.take_sent();
        for frame in &sent {
            self.transmit(node, frame);
        }
        if let Some(end) = self.ends.get_mut(node) {
            end.nic.reuse(sent);
        }
    }

    fn transmit(&mut self, from: usize, frame: &quorate_sim::wire::Frame) {
        self.traffic.sent += 1;
        self.traffic.bytes += frame.len() as u64;
        let mut arrivals = Vec::new();
        self.network.send(self.now.0, from, frame, &mut self.random, &mut arrivals);
        if let Some((_, to, after)) = self.lose.filter(|(sender, ..)| *sender == from && frame.len() > DATA_BYTES)
            && let Some(at) = arrivals.iter().position(|arrival| arrival.to == to)
        {
            self.lose = after.checked_sub(1).map(|after| (from, to, after));
            if after == 0 {
                arrivals.remove(at);
            }
        }
        for mut arrival in arrivals {
            if let Some(last) =
                self.last.get_mut(from).and_then(|last| last.get_mut(arrival.to)).filter(|_| self.in_order)
            {
                arrival.at = arrival.at.max(*last);
                *last = arrival.at;
            }
            self.queued += 1;
            self.queue.insert((arrival.at, self.queued), arrival);
        }
    }
}

//! Asks each running node for its status and each QEMU for its disk's counters, over and over, on a thread per node: one that does
//! not answer holds up nobody else.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use quorate_base::{NodeId, NodeSet};
use quorate_launch::Probe;
use quorate_trace::TraceStore;

/// A node answers in milliseconds, or not while it is of interest.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What a machine answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who.
    pub node: NodeId,
    /// To `status`.
    pub status: Option<String>,
    /// Reads and writes of its disk.
    pub disk: Option<(u64, u64)>,
}

/// The threads. They end when this is dropped, at the latest when their question has timed out.
#[derive(Debug)]
pub struct Watch {
    asked: Vec<(NodeId, SyncSender<Probe>)>,
    answers: Receiver<Answer>,
}

impl Watch {
    /// Starts them. Each answer wakes those who wait at `store`.
    pub fn start(nodes: NodeSet, store: &TraceStore) -> Self {
        let (send, answers) = channel();
        let asked = nodes.iter().filter_map(|node| Some((node, watcher(node, send.clone(), store.clone())?)));
        Self { asked: asked.collect(), answers }
    }

    /// Asks a node, unless it has not answered the last question yet.
    pub fn ask(&self, node: NodeId, probe: Option<Probe>) {
        let watcher = self.asked.iter().find(|(n, _)| *n == node);
        if let (Some((_, send)), Some(probe)) = (watcher, probe) {
            let _ = send.try_send(probe);
        }
    }

    /// Answers since the last call.
    pub fn take(&self) -> Vec<Answer> {
        self.answers.try_iter().collect()
    }
}

/// A node's thread; `None` if there can be none: then nothing is known of it.
fn watcher(node: NodeId, send: Sender<Answer>, store: TraceStore) -> Option<SyncSender<Probe>> {
    // No room: what is asked while it is busy is not asked.
    let (ask, asked) = sync_channel::<Probe>(0);
    let watch = move || {
        for probe in asked {
            let disk = probe.disk_operations(ANSWER_MAX);
            let status = probe.command("status", ANSWER_MAX);
            if send.send(Answer { node, status, disk }).is_err() {
                return;
            }
            store.wake();
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(watch).ok().map(|_| ask)
}

//! Questions to a machine that another thread asks: its console and its monitor, apart from the cluster that owns it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::console::Console;
use crate::qmp::Qmp;

/// One life of a machine, to be asked. It may end at any time; then nothing is answered.
#[derive(Clone, Debug)]
pub struct Probe {
    pub(crate) console: Arc<Console>,
    pub(crate) qmp: Arc<Qmp>,
}

impl Probe {
    /// What the node answers at its console, if it answers in time.
    pub fn command(&self, text: &str, timeout: Duration) -> Option<String> {
        self.console.command(text, timeout).ok()
    }

    /// Reads and writes of the machine's disks since its QEMU was started, as QEMU counts them; `None` if it does not
    /// answer in time.
    pub fn disk_operations(&self, timeout: Duration) -> Option<(u64, u64)> {
        operations(&self.qmp.execute("query-blockstats", json!({}), timeout).ok()?)
    }
}

fn operations(stats: &Value) -> Option<(u64, u64)> {
    let count = |name: &str| stats.as_array()?.iter().map(|disk| disk["stats"][name].as_u64()).sum::<Option<u64>>();
    count("rd_operations").zip(count("wr_operations"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_disks_are_counted_or_none() {
        let disk = |reads, writes| json!({"device": "", "stats": {"rd_operations": reads, "wr_operations": writes}});
        assert_eq!(operations(&json!([disk(3, 4), disk(10, 20)])), Some((13, 24)));
        assert_eq!(operations(&json!([disk(3, 4), {"device": "x"}])), None);
        assert_eq!(operations(&json!({})), None);
    }
}

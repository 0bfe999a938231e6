//! The kernel's command line as the bootstrap makes it: who the machine is, where the kernel is from, then the words that were
//! installed with it, then the machine's own.

use core::fmt::Write;

use heapless::String;
use quorate_base::ClusterId;
use quorate_bootinfo::CMDLINE_BYTES_MAX;

use crate::node::ThisNode;
use crate::refusal::Refusal;
use crate::slot::Chosen;

/// A kernel's command line.
pub type Line = String<CMDLINE_BYTES_MAX>;

/// What an OEM string of the machine (SMBIOS type 11) begins with that has words for the command line.
pub const OEM_PREFIX: &str = "quorate.cmdline=";

/// Makes the line. `extra` are the machine's own words.
///
/// # Errors
/// If it is longer than a kernel takes. A word cut off would be another word.
pub fn line(cluster: ClusterId, node: &ThisNode, chosen: &Chosen<'_>, extra: &[&str]) -> Result<Line, Refusal> {
    let mut line = Line::new();
    let mut add = |text: core::fmt::Arguments<'_>| line.write_fmt(text).map_err(|_| Refusal::CommandLine(node.id));
    add(format_args!("node={} cluster={} slot={}", node.id, cluster, chosen.slot))?;
    if let Some((slot, why)) = chosen.passed_over {
        add(format_args!(" passed_over={slot}:{}", why.word()))?;
    }
    for words in core::iter::once(chosen.installed.words.as_str()).chain(extra.iter().copied()) {
        if !words.is_empty() {
            add(format_args!(" {words}"))?;
        }
    }
    Ok(line)
}

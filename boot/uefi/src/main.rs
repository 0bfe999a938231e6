//! The UEFI bootstrap: `\EFI\BOOT\BOOTX64.EFI` on the shared disk (EP "cluster-cognizant bootstrap"; MISSION B4).
//!
//! Reads the membership database over BlockIO, finds this machine's node, shows how the cluster stands, loads the node's kernel and
//! hands over. What it decides is in `quorate-bootstrap`; here it meets the firmware.
//!
//! It never writes to a disk: nodes that run write there, and other machines boot at the same moment.

#![no_std]
#![no_main]

mod firmware;
mod leave;
mod panic;
mod ports;
mod screen;

use quorate_arch_x86_64::smbios;
use quorate_base::ClusterId;
use quorate_base::capacity::NODES_MAX;
use quorate_bootstrap::command_line::{self, OEM_PREFIX};
use quorate_bootstrap::node::superblock;
use quorate_bootstrap::{
    Bad, Blocks, Chosen, Database, KernelFile, Machine, Refusal, Standing, ThisNode, choose, standing, this_node,
};
use quorate_database::gpt::GptError;
use quorate_database::kernel_slot::SLOT_BYTES;
use quorate_database::{MachineId, Superblock};
use uefi::prelude::*;

use crate::firmware::{Disk, Pages};
use crate::screen::say;

#[entry]
fn main() -> Status {
    screen::open();
    firmware::stop_watchdog();
    let machine = firmware::machine();
    match boot(&machine) {
        Ok(ready) => leave::leave(ready),
        Err(refusal) => refuse(&refusal, &machine),
    }
}

/// Everything that the kernel is started from.
pub struct Ready {
    /// Where it is entered.
    entry: u64,
    /// Its command line.
    command_line: command_line::Line,
}

/// Finds out what to boot, and puts it into memory.
fn boot(machine: &Machine) -> Result<Ready, Refusal> {
    say!("Quorate bootstrap {}", env!("CARGO_PKG_VERSION"));
    let (mut disk, database, superblock) = shared_disk()?;
    let (disk, cluster) = (&mut disk as &mut dyn Blocks, superblock.cluster);
    say!("cluster {} ({cluster}), {} nodes", superblock.name, superblock.nodes);
    let node = this_node(disk, &database, &superblock, machine)?;
    say!(
        "this machine is node {} ({}), known by its {}",
        node.id,
        node.config.name,
        known_by(machine, &node.config.machine)
    );
    show_standing(&standing(disk, &database, &superblock), &superblock, &node);
    let no_memory = Refusal::NoKernel(node.id, [Bad::Memory; 2]);
    let file = Pages::anywhere(SLOT_BYTES).ok_or(no_memory)?;
    let mut place: Option<Pages> = None;
    let fits = |kernel: &KernelFile<'_>| {
        // What was taken for a kernel before this one must not stand in its way.
        place = None;
        place = Pages::at(kernel.span());
        place.is_some()
    };
    let chosen = choose(disk, &database, cluster, &node, file.into_slice(), fits)?;
    let place = place.ok_or(no_memory)?;
    show_kernel(&chosen, &node);
    let command_line = with_oem_words(cluster, &node, &chosen)?;
    if !chosen.kernel.load_into(place.into_slice()) {
        return Err(no_memory);
    }
    say!("starting it");
    Ok(Ready { entry: chosen.kernel.entry, command_line })
}

/// The one disk with a membership database. The same cluster's may be seen twice, over two paths.
fn shared_disk() -> Result<(Disk, Database, Superblock), Refusal> {
    let mut found: Option<(Disk, Database, Superblock)> = None;
    let mut why = Refusal::NoDatabase(GptError::Signature);
    for mut disk in firmware::disks() {
        match Database::find(&mut disk) {
            Ok(database) => match (superblock(&mut disk, &database), &found) {
                (Ok(new), None) => found = Some((disk, database, new)),
                (Ok(new), Some((_, _, before))) if new.cluster != before.cluster => return Err(Refusal::TwoClusters),
                (Ok(_), Some(_)) => {}
                (Err(error), _) => why = error,
            },
            // A disk without any table is none that anybody meant.
            Err(GptError::Signature) => {}
            Err(error) if why == Refusal::NoDatabase(GptError::Signature) => why = Refusal::NoDatabase(error),
            Err(_) => {}
        }
    }
    found.ok_or(why)
}

fn known_by(machine: &Machine, record: &MachineId) -> &'static str {
    if machine.uuid.is_some() && machine.uuid == record.uuid { "SMBIOS UUID" } else { "NIC address" }
}

/// Words that whoever runs the machine gave it in its OEM strings.
fn with_oem_words(cluster: ClusterId, node: &ThisNode, chosen: &Chosen<'_>) -> Result<command_line::Line, Refusal> {
    let table = firmware::smbios_table();
    let words = table.iter().flat_map(|(table, _)| smbios::oem_strings(table));
    // One for each node of the largest cluster is more than anybody gives one machine.
    let words: heapless::Vec<&str, NODES_MAX> = words.filter_map(|text| text.strip_prefix(OEM_PREFIX)).collect();
    command_line::line(cluster, node, chosen, &words)
}

fn show_standing(standing: &Standing, superblock: &Superblock, this: &ThisNode) {
    match (&standing.view, standing.master()) {
        (Some((ballot, view)), Some(master)) => {
            say!("view {} of ballot {ballot}, master node {master}", view.number);
            for node in quorate_base::NodeId::first(superblock.nodes) {
                let mark = if node == this.id { "  (this machine)" } else { "" };
                say!("  node {node:<2} {:<14} incarnation {}{mark}", view.state(node).name(), view.incarnation(node));
            }
        }
        _ => say!("no view is committed yet"),
    }
    if standing.unknown > 0 {
        say!("heartbeats that cannot be used: {}", standing.unknown);
    }
}

fn show_kernel(chosen: &Chosen<'_>, node: &ThisNode) {
    if let Some((slot, why)) = &chosen.passed_over {
        say!("PASSED OVER: the kernel in slot {slot} of node {}: {why}", node.id);
        say!("  what to do: cargo cluster image install-kernel --node {} --slot {slot} IMAGE", node.id);
    }
    let (slot, bytes) = (chosen.slot, chosen.installed.bytes);
    say!(
        "kernel: slot {slot}, version {}, {bytes} bytes, checksum {:08x} good",
        chosen.kernel.version,
        chosen.installed.checksum
    );
}

/// Says why this machine does not boot, on every way out that there is, and stands still until somebody presses a key.
fn refuse(refusal: &Refusal, machine: &Machine) -> ! {
    say!("");
    say!("NOT BOOTED: {refusal}");
    say!("  what to do: {}", refusal.advice());
    match &machine.uuid {
        Some(uuid) => say!("  this machine: SMBIOS UUID {}", ClusterId(*uuid)),
        None => say!("  this machine: no SMBIOS UUID"),
    }
    for mac in &machine.macs {
        let [a, b, c, d, e, f] = mac;
        say!("  this machine: NIC {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    }
    say!("Press a key to start the machine anew.");
    ports::tell_refusal(refusal);
    firmware::wait_for_key();
    firmware::start_anew()
}

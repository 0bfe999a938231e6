//! The node image: the kernel proper, composed from the machine (`arch`), the drivers and the cluster (`kernel`).
//!
//! Started by PVH or by the UEFI bootstrap with a `BootInfo`. Three serial ports lead out: console, log and trace (see `ports`).

#![no_std]
#![no_main]

mod cluster;
mod commands;
mod console;
mod devices;
mod end;
mod epitaph;
mod event;
mod executor;
mod link;
mod log;
mod nic;
mod ports;
mod shared_disk;
mod test_commands;
mod timers;
mod trace;
mod watchdog;

use embassy_executor::Spawner;
use quorate_arch_x86_64::bootinfo::{BootInfo, CommandLine};
use quorate_arch_x86_64::{Machine, fault, kernel_main};
use quorate_interconnect::stack::StackStorage;
use spin::Once;
use static_cell::StaticCell;

kernel_main!(main);

/// What tasks need to know about this boot.
pub struct Boot {
    /// From the boot path.
    pub info: BootInfo,
    /// The checked command line.
    pub command_line: CommandLine,
    /// The machine.
    pub machine: Machine,
}

static BOOT: Once<Boot> = Once::new();

/// Keys the command line may have. Anything else is a mistake of whoever starts the node. The last two are the UEFI bootstrap's: which slot
/// this kernel was in, and why the one that was chosen was passed over. They stand in the trace with the whole line.
const KEYS: [&str; 8] = ["node", "cluster", "level", "groups", "trace_writes", "test_commands", "slot", "passed_over"];

/// Called by the entry code with interrupts off. Whatever is wrong here is said on the console before the halt.
fn main(info: BootInfo) -> ! {
    ports::open();
    fault::set_reporter(end::by_exception);
    console::print(format_args!("quorate: kernel started\n"));
    // So that the first sign of life is not delayed by the clock's calibration.
    ports::flush();
    let boot = BOOT.call_once(|| examine(info));
    executor::run(|spawner| start(spawner, boot))
}

/// Checks what the boot path handed over, and finds the machine's parts.
fn examine(info: BootInfo) -> Boot {
    let command_line = match &info.command_line {
        Ok(line) => line.clone(),
        Err(error) => end::refuse(format_args!("{error}")),
    };
    if let Err(error) = command_line.only(&KEYS) {
        end::refuse(format_args!("{error}"));
    }
    if let Err(error) = &info.memory {
        end::refuse(format_args!("{error}"));
    }
    let machine = match quorate_arch_x86_64::init(&info) {
        Ok(machine) => machine,
        Err(error) => end::refuse(format_args!("{error}")),
    };
    defmt::info!("machine ready: tsc {=u64} Hz, apic timer {=u64} Hz", machine.rates.tsc_hz, machine.rates.apic_hz);
    Boot { info, command_line, machine }
}

/// Starts the tasks. Kept apart: the tasks' first state passes over the stack once.
#[inline(never)]
fn start(spawner: Spawner, boot: &'static Boot) {
    if let Err(error) = console::open_input(&boot.machine.platform) {
        defmt::warn!("no console input: {}", error);
    }
    link::give_storage(storage());
    match cluster::run(boot) {
        Ok(task) => spawner.spawn(task),
        Err(_) => end::refuse(format_args!("no room for the node's task")),
    }
    match commands::commands() {
        Ok(task) => spawner.spawn(task),
        Err(_) => end::refuse(format_args!("no room for the console task")),
    }
}

/// The memory of the interconnect's stack.
fn storage() -> &'static mut StackStorage<'static> {
    static STORAGE: StaticCell<StackStorage<'static>> = StaticCell::new();
    STORAGE.init_with(StackStorage::new)
}

//! Console commands that end the kernel in the ways in which a kernel ends by mistake. They exist only with `test_commands=1`
//! on the kernel command line, for the scenarios of watchdog and epitaph.

use core::hint::{black_box, spin_loop};

use quorate_arch_x86_64::interrupts;

use crate::{console, ports};

/// Runs `line` if it is such a command; it does not return then.
pub fn run(line: &str) {
    let end: fn() = match line {
        "hang" => hang,
        "panic" => panic,
        "fault" => fault,
        _ => return,
    };
    // Answered before: nobody is left to do it afterwards.
    console::print(format_args!("{line}\nok\n"));
    ports::flush();
    end();
}

/// A kernel that hangs with interrupts off.
fn hang() {
    interrupts::disable();
    loop {
        spin_loop();
    }
}

fn panic() {
    panic!("asked for at the console");
}

/// A processor exception: the stack ends in a page that is not there.
fn fault() {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { deeper(depth + 1).wrapping_add(frame[0]) }
    }
    black_box(deeper(black_box(0)));
}

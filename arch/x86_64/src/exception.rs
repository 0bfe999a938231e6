//! Processor exceptions in words (AMD64 manual vol. 2 § 8.2 and 8.4).
//!
//! [`Report`] holds what is known at an exception; its `Display` writes the whole report, several lines without a last line end, for the console and the log.

use crate::frame::{BackTrace, Frame, StackRange};
use core::fmt;

/// The page fault's vector.
pub const PAGE_FAULT: u8 = 14;
/// The double fault's vector.
pub const DOUBLE_FAULT: u8 = 8;

/// An exception that ended the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The registers at the fault.
    pub frame: Frame,
    /// The address a page fault was about.
    pub cr2: u64,
    /// The stack whose guard page was hit, if one was.
    pub overflown: Option<StackRange>,
    /// Return addresses, innermost first.
    pub back_trace: BackTrace,
}

/// Short and long name of an exception.
pub fn name(vector: u8) -> (&'static str, &'static str) {
    match vector {
        0 => ("#DE", "divide error"),
        1 => ("#DB", "debug"),
        2 => ("NMI", "non-maskable interrupt"),
        3 => ("#BP", "breakpoint"),
        4 => ("#OF", "overflow"),
        5 => ("#BR", "bound range"),
        6 => ("#UD", "invalid opcode"),
        7 => ("#NM", "device not available"),
        8 => ("#DF", "double fault"),
        10 => ("#TS", "invalid TSS"),
        11 => ("#NP", "segment not present"),
        12 => ("#SS", "stack segment"),
        13 => ("#GP", "general protection"),
        14 => ("#PF", "page fault"),
        16 => ("#MF", "x87 floating point"),
        17 => ("#AC", "alignment check"),
        18 => ("#MC", "machine check"),
        19 => ("#XF", "SIMD floating point"),
        20 => ("#VE", "virtualization"),
        21 => ("#CP", "control protection"),
        28 => ("#HV", "hypervisor injection"),
        29 => ("#VC", "VMM communication"),
        30 => ("#SX", "security"),
        _ => ("#??", "reserved vector"),
    }
}

/// Bits of a page fault's error code.
mod page_fault {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const RESERVED_BIT: u64 = 1 << 3;
    pub const FETCH: u64 = 1 << 4;
}

impl Report {
    /// Finds out whether `cr2` of a page fault, or the stack pointer of a double fault, is at a guard page of `stacks`.
    pub fn new(frame: Frame, cr2: u64, stacks: &[StackRange], back_trace: BackTrace) -> Self {
        let at_guard =
            |address: u64| stacks.iter().copied().find(|stack| (stack.guard..stack.bottom).contains(&address));
        let overflown = match frame.vector() {
            PAGE_FAULT => at_guard(cr2),
            // The push that failed went below the stack pointer.
            DOUBLE_FAULT => at_guard(frame.rsp.wrapping_sub(8)),
            _ => None,
        };
        Self { frame, cr2, overflown, back_trace }
    }

    /// One line that says what happened.
    pub fn cause(&self) -> Cause<'_> {
        Cause(self)
    }
}

/// Displays the cause of a [`Report`] in words.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a>(&'a Report);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { frame, cr2, overflown, .. } = self.0;
        if let Some(stack) = overflown {
            return write!(
                f,
                "stack overflow: the guard page of the {} stack at {:#018x} was hit",
                stack.name, stack.guard
            );
        }
        let code = frame.error_code;
        match frame.vector() {
            PAGE_FAULT => {
                let doing = match (code & page_fault::FETCH != 0, code & page_fault::WRITE != 0) {
                    (true, _) => "instruction fetch from",
                    (false, true) => "write to",
                    (false, false) => "read of",
                };
                let ring = if code & page_fault::USER != 0 { "user" } else { "kernel" };
                let why = match (code & page_fault::RESERVED_BIT != 0, code & page_fault::PRESENT != 0) {
                    (true, _) => "a reserved bit is set in its page tables",
                    (false, true) => "the mapping forbids it",
                    (false, false) if *cr2 < crate::layout::PAGE_BYTES => "null pointer, not mapped",
                    (false, false) => "not mapped",
                };
                write!(f, "{ring} {doing} {cr2:#018x}: {why}")
            }
            13 if code == 0 => f.write_str("an operation or address the processor forbids, no segment named"),
            10..=13 => {
                let table = ["GDT", "IDT", "LDT", "IDT"][(code >> 1 & 3) as usize];
                let from = if code & 1 != 0 { ", during an external event" } else { "" };
                write!(f, "selector {:#x} of the {table}{from}", code & 0xfff8)
            }
            _ => f.write_str(name(frame.vector()).1),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, .. } = self.frame;
        let Frame { r8, r9, r10, r11, r12, r13, r14, r15, .. } = self.frame;
        let Frame { rip, rflags, cs, ss, error_code, .. } = self.frame;
        let vector = self.frame.vector();
        let (short, long) = name(vector);
        writeln!(f, "exception {vector} {short} {long}, error code {error_code:#x}")?;
        writeln!(f, "cause: {}", self.cause())?;
        writeln!(f, "rip {rip:016x} cs  {cs:04x} rflags {rflags:08x} ss {ss:04x} cr2 {:016x}", self.cr2)?;
        writeln!(f, "rax {rax:016x} rbx {rbx:016x} rcx {rcx:016x} rdx {rdx:016x}")?;
        writeln!(f, "rsi {rsi:016x} rdi {rdi:016x} rbp {rbp:016x} rsp {rsp:016x}")?;
        writeln!(f, "r8  {r8:016x} r9  {r9:016x} r10 {r10:016x} r11 {r11:016x}")?;
        writeln!(f, "r12 {r12:016x} r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}")?;
        write!(f, "{}", self.back_trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    const STACKS: [StackRange; 1] = [StackRange { name: "kernel", guard: 0x7000, bottom: 0x8000, top: 0x9000 }];

    fn report(vector: u64, error_code: u64, cr2: u64, rsp: u64) -> Report {
        let frame = Frame { vector, error_code, rip: 0x1234, rsp, ..Frame::default() };
        Report::new(frame, cr2, &STACKS, BackTrace::default())
    }

    #[test]
    fn page_faults_say_what_was_tried_and_why_it_failed() {
        let cause = |code, cr2| report(14, code, cr2, 0).cause().to_string();
        assert_eq!(cause(0, 0x10), "kernel read of 0x0000000000000010: null pointer, not mapped");
        assert_eq!(cause(2, 0xdead_0000), "kernel write to 0x00000000dead0000: not mapped");
        assert_eq!(cause(3, 0xdead_0000), "kernel write to 0x00000000dead0000: the mapping forbids it");
        assert_eq!(cause(0x15, 0xdead_0000), "user instruction fetch from 0x00000000dead0000: the mapping forbids it");
        assert_eq!(
            cause(9, 0xdead_0000),
            "kernel read of 0x00000000dead0000: a reserved bit is set in its page tables"
        );
    }

    #[test]
    fn guard_page_hits_are_stack_overflows() {
        let of_page_fault = report(14, 2, 0x7ff8, 0x8000).cause().to_string();
        assert!(of_page_fault.contains("stack overflow") && of_page_fault.contains("kernel stack"), "{of_page_fault}");
        assert!(report(8, 0, 0, 0x8000).cause().to_string().contains("stack overflow"));
        assert!(!report(8, 0, 0, 0x8008).cause().to_string().contains("stack overflow"));
        assert!(!report(14, 2, 0x8000, 0x8000).cause().to_string().contains("stack overflow"));
    }

    #[test]
    fn segment_errors_are_decoded() {
        assert_eq!(report(13, 0x2b, 0, 0).cause().to_string(), "selector 0x28 of the IDT, during an external event");
        assert!(report(13, 0, 0, 0).cause().to_string().contains("forbids"));
        assert_eq!(report(6, 0, 0, 0).cause().to_string(), "invalid opcode");
    }

    #[test]
    fn a_report_has_everything() {
        let text = report(u64::MAX << 8 | 6, 0, 0, 0x8888).to_string();
        for part in
            ["exception 6 #UD invalid opcode", "rip 0000000000001234", "rsp 0000000000008888", "back trace: none"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn every_vector_has_a_name() {
        for vector in 0..32 {
            assert!(!name(vector).1.is_empty());
        }
    }
}

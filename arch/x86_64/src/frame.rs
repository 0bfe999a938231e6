//! The registers an interrupt stub saves, in the order of `stubs.s`, and the back trace from them.

use core::fmt;

/// What is on the stack when `dispatch` runs. The last five words are the processor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the registers of the same names")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// The vector, sign-extended from 8 bits.
    pub vector: u64,
    /// The processor's error code, or zero.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// The interrupt vector.
    pub fn vector(&self) -> u8 {
        (self.vector & 0xff) as u8
    }
}

/// One stack: usable bytes from `bottom` up to `top`, and an unmapped guard page below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackRange {
    /// What the stack is for.
    pub name: &'static str,
    /// First address of the guard page.
    pub guard: u64,
    /// First usable address.
    pub bottom: u64,
    /// First address after the stack.
    pub top: u64,
}

/// Most return addresses a back trace has.
pub const BACK_TRACE_MAX: usize = 32;

/// Return addresses, innermost first. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackTrace {
    addresses: heapless::Vec<u64, BACK_TRACE_MAX>,
}

impl BackTrace {
    /// The return addresses, innermost first.
    pub fn addresses(&self) -> &[u64] {
        &self.addresses
    }
}

impl fmt::Display for BackTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("back trace:")?;
        for address in &self.addresses {
            write!(f, " {address:016x}")?;
        }
        if self.addresses.is_empty() { f.write_str(" none") } else { Ok(()) }
    }
}

/// Follows saved frame pointers from `rbp`. A frame counts only if it lies, aligned, in one of `stacks`, and above the one before; `read` is asked
/// for such addresses only. Ends at the first frame that does not, so a damaged stack gives a short trace and no second fault.
pub fn back_trace(rbp: u64, stacks: &[StackRange], mut read: impl FnMut(u64) -> u64) -> BackTrace {
    let mut trace = BackTrace::default();
    let Some(stack) = stacks.iter().find(|stack| (stack.bottom..stack.top).contains(&rbp)) else {
        return trace;
    };
    let (mut frame, mut floor) = (rbp, stack.bottom);
    while frame >= floor && frame.is_multiple_of(8) && frame.checked_add(16).is_some_and(|end| end <= stack.top) {
        let return_address = read(frame + 8);
        if return_address == 0 || trace.addresses.push(return_address).is_err() {
            break;
        }
        floor = frame + 16;
        frame = read(frame);
    }
    trace
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    const STACK: StackRange = StackRange { name: "test", guard: 0x0, bottom: 0x1000, top: 0x2000 };

    fn trace(rbp: u64, words: &[(u64, u64)]) -> BackTrace {
        back_trace(rbp, &[STACK], |at| {
            assert!((0x1000..0x2000).contains(&at), "read outside the stack at {at:#x}");
            words.iter().find(|word| word.0 == at).map_or(0, |word| word.1)
        })
    }

    #[test]
    fn frames_are_followed_to_the_end() {
        let words = [(0x1100, 0x1200), (0x1108, 0xaa), (0x1200, 0), (0x1208, 0xbb)];
        let trace = trace(0x1100, &words);
        assert_eq!(trace.addresses(), [0xaa, 0xbb]);
        assert!(trace.to_string().starts_with("back trace: 00000000000000aa 0000"));
    }

    #[test]
    fn damaged_frames_end_the_trace() {
        // Backwards, outside, unaligned, across the top.
        for next in [0x1000, 0x1100, 0x3000, 0xfff8, 0x1201, 0x1ff8, u64::MAX] {
            let trace = trace(0x1100, &[(0x1100, next), (0x1108, 0xaa)]);
            assert_eq!(trace.addresses(), [0xaa], "{next:#x}");
        }
        assert_eq!(trace(0x800, &[]).to_string(), "back trace: none");
    }

    #[test]
    fn a_long_chain_is_cut() {
        let endless = back_trace(0x1000, &[STACK], |at| if at % 16 == 8 { 1 } else { at + 16 });
        assert_eq!(endless.addresses().len(), BACK_TRACE_MAX);
    }
}

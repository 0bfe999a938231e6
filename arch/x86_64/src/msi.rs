//! Message signalled interrupts (AMD64 manual vol. 2 § 16.11).

use crate::apic;

const ADDRESS: u64 = 0xfee0_0000;

/// Address and data a device writes to raise `vector` on this processor: physical destination, edge-triggered, fixed delivery.
pub fn message(vector: u8) -> (u64, u32) {
    // The address has 8 bits for the destination. With one processor its APIC id is small.
    (ADDRESS | u64::from(apic::id() & 0xff) << 12, u32::from(vector))
}

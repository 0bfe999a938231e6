//! MSI-X, programmed by hand: the transport crate has no interface for it. (PCI Local Bus 3.0 § 6.8.2;
//! VirtIO 1.2 § 4.1.4.3 for the two vector registers.)

use core::ptr::NonNull;

/// PCI capability id of MSI-X.
pub const CAPABILITY: u8 = 0x11;
/// Message control, in the upper half of the capability's first word: enable.
pub(crate) const ENABLE: u32 = 1 << 31;
/// Message control: mask all entries.
pub(crate) const MASK_ALL: u32 = 1 << 30;

/// Bytes of one table entry.
pub(crate) const ENTRY_BYTES: usize = 16;
/// The local APIC's window; bits 12 to 19 take the destination.
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;

/// Offsets in virtio's common configuration.
const CONFIG_VECTOR: usize = 0x10;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_VECTOR: usize = 0x1a;
/// Bytes of the common configuration that are needed here.
pub(crate) const COMMON_BYTES: usize = 0x1c;
/// Reads back from a vector register when the device has no room for the vector.
const NO_VECTOR: u16 = 0xffff;

/// The mapped MSI-X table of one virtio device and its common configuration.
#[derive(Debug)]
pub struct MsiX {
    table: NonNull<u32>,
    entries: u16,
    common: NonNull<u8>,
}

// SAFETY: device memory is reachable from every processor; there is one owner.
unsafe impl Send for MsiX {}

impl MsiX {
    /// # Safety
    /// `table` must map `entries` table entries and `common` the device's common configuration, both
    /// for ever.
    pub(crate) unsafe fn new(table: NonNull<u32>, entries: u16, common: NonNull<u8>) -> Self {
        Self { table, entries, common }
    }

    /// Points `entry` at a vector of the processor with the local APIC id `destination`, unmasked.
    /// `false` if the table has no such entry.
    pub(crate) fn program(&mut self, entry: u16, vector: u8, destination: u8) -> bool {
        if entry >= self.entries {
            return false;
        }
        let words = [MESSAGE_ADDRESS | u32::from(destination) << 12, 0, u32::from(vector), 0];
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: `entry < entries`, so all four words lie in the mapped table.
            unsafe {
                self.table.add(usize::from(entry) * ENTRY_BYTES / 4 + i).write_volatile(word);
            }
        }
        true
    }

    /// Sends a queue's completions to `entry`; `false` if the device refuses.
    pub(crate) fn route(&mut self, queue: u16, entry: u16) -> bool {
        self.write(QUEUE_SELECT, queue);
        self.write(QUEUE_VECTOR, entry);
        self.read(QUEUE_VECTOR) != NO_VECTOR
    }

    /// Sends configuration changes to `entry`.
    pub(crate) fn route_config(&mut self, entry: u16) {
        self.write(CONFIG_VECTOR, entry);
    }

    fn write(&mut self, offset: usize, value: u16) {
        // SAFETY: all offsets lie in the mapped common configuration and are even.
        unsafe { self.common.add(offset).cast::<u16>().write_volatile(value) }
    }

    fn read(&self, offset: usize) -> u16 {
        // SAFETY: as in `write`.
        unsafe { self.common.add(offset).cast::<u16>().read_volatile() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_vector_registers_golden() {
        let mut table = [0xffff_ffffu32; 8];
        let mut common = [0u16; COMMON_BYTES / 2];
        // SAFETY: both arrays outlive `msix` and are large enough.
        let mut msix = unsafe { MsiX::new(NonNull::from(&mut table).cast(), 2, NonNull::from(&mut common).cast()) };
        assert!(msix.program(1, 0x41, 3));
        assert!(!msix.program(2, 0x42, 0));
        assert!(msix.route(2, 1));
        assert!(!msix.route(1, NO_VECTOR));
        msix.route_config(0);
        assert_eq!(&table[4..], &[0xfee0_3000, 0, 0x41, 0]);
        assert_eq!(&table[..4], &[0xffff_ffff; 4]);
        assert_eq!(common[QUEUE_SELECT / 2], 1);
    }
}

//! Registers and bits of the 82540EM that are used (SDM § 13.4), and those of its legacy descriptors' second word
//! (SDM § 3.2.3, § 3.3.3).

/// PCI vendor id.
pub const VENDOR: u16 = 0x8086;
/// PCI device id of the 82540EM.
pub const DEVICE: u16 = 0x100e;
/// The BAR with the registers.
pub const BAR: u8 = 0;
/// How many bytes they have.
pub const REGISTERS_BYTES: usize = 0x2_0000;

/// Device control.
pub(crate) const CTRL: usize = 0x0000;
/// Full duplex; the speed by auto-negotiation; the link up.
pub(crate) const CTRL_SET: u32 = 1 | 1 << 5 | 1 << 6;
/// Reset; clears itself.
pub(crate) const CTRL_RESET: u32 = 1 << 26;
/// Device status.
pub(crate) const STATUS: usize = 0x0008;
/// The link is up.
pub(crate) const LINKED: u32 = 1 << 1;
/// EEPROM read: start in bit 0, done in bit 4, word number from bit 8, data from bit 16.
pub(crate) const EERD: usize = 0x0014;
pub(crate) const EEPROM_READ: u32 = 1;
pub(crate) const EEPROM_DONE: u32 = 1 << 4;
/// Interrupt causes; reading clears them.
pub(crate) const ICR: usize = 0x00c0;
/// Least time between interrupts; 0 is none.
pub(crate) const ITR: usize = 0x00c4;
/// Interrupt causes to set.
pub(crate) const ICS: usize = 0x00c8;
/// Interrupts to let through.
pub(crate) const IMS: usize = 0x00d0;
/// Interrupts to hold back.
pub(crate) const IMC: usize = 0x00d8;
/// The link's state changed.
pub(crate) const CARRIER: u32 = 1 << 2;
/// A frame came, few descriptors are left, none is left; or the link's state changed.
pub(crate) const INTERRUPTS: u32 = 1 << 7 | 1 << 4 | 1 << 6 | CARRIER;

/// Receive control. Left at 0: long frames, other sizes of buffers, all unicasts.
pub(crate) const RCTL: usize = 0x0100;
pub(crate) const RECEIVE_ON: u32 = 1 << 1;
/// All frames to groups.
pub(crate) const MULTICASTS: u32 = 1 << 4;
/// Frames to all.
pub(crate) const BROADCASTS: u32 = 1 << 15;
/// The frame's checksum is not stored.
pub(crate) const CRC_REMOVED: u32 = 1 << 26;
pub(crate) const RDBAL: usize = 0x2800;
pub(crate) const RDBAH: usize = 0x2804;
pub(crate) const RDLEN: usize = 0x2808;
pub(crate) const RDH: usize = 0x2810;
pub(crate) const RDT: usize = 0x2818;
/// Receive delay timer; 0 is an interrupt at once.
pub(crate) const RDTR: usize = 0x2820;
/// Receive address 0, four bytes and two.
pub(crate) const RAL: usize = 0x5400;
pub(crate) const RAH: usize = 0x5404;
pub(crate) const RAH_VALID: u32 = 1 << 31;
/// Multicast table.
pub(crate) const MTA: usize = 0x5200;
pub(crate) const MTA_WORDS: usize = 128;

/// Transmit control.
pub(crate) const TCTL: usize = 0x0400;
/// On; short frames are padded; collisions as SDM § 14.5 has it for full duplex (threshold 15, distance 64).
pub(crate) const TCTL_SET: u32 = 1 << 1 | 1 << 3 | 0x0f << 4 | 0x40 << 12;
/// Gaps between frames.
pub(crate) const TIPG: usize = 0x0410;
/// For copper: 10, 8 and 6 (SDM § 13.4.34).
pub(crate) const TIPG_COPPER: u32 = 10 | 8 << 10 | 6 << 20;
pub(crate) const TDBAL: usize = 0x3800;
pub(crate) const TDBAH: usize = 0x3804;
pub(crate) const TDLEN: usize = 0x3808;
pub(crate) const TDH: usize = 0x3810;
pub(crate) const TDT: usize = 0x3818;
/// Transmit delay timer.
pub(crate) const TIDV: usize = 0x3820;

/// Both kinds: the device is done with the descriptor (status, bit 0).
pub(crate) const DONE: u64 = 1 << 32;
/// Received: the frame ends here (status, bit 1). Its length is in the lowest 16 bits.
pub(crate) const END_OF_PACKET: u64 = 1 << 33;
/// Received: bad checksum, symbol or sequence, carrier extension, data error. The two errors of IP and TCP checksums are
/// offloads, which are off.
pub(crate) const RECEIVED_BAD: u64 = 0b1001_0111 << 40;
/// To be sent: the frame ends here (command, bit 0).
pub(crate) const END_OF_FRAME: u64 = 1 << 24;
/// To be sent: the device adds the checksum (command, bit 1).
pub(crate) const CRC_BY_DEVICE: u64 = 1 << 25;
/// To be sent: tell when done (command, bit 3).
pub(crate) const REPORT_STATUS: u64 = 1 << 27;

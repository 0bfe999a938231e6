//! What the UEFI bootstrap leaves for the kernel: one block of bytes, plain data, in memory below 4 GiB.
//!
//! ```text
//!  0  8  magic "QRHANDOV"
//!  8  4  version, 1
//! 12  4  bytes of the whole
//! 16  8  physical address of the ACPI root pointer; 0: none
//! 24  8  physical address of the SMBIOS entry point; 0: none
//! 32  4  bytes of the command line
//! 36  4  regions of memory
//! 40     regions, 24 bytes each: start (8), bytes (8), kind (4): 1 usable, 2 reserved, 3 ACPI tables, 4 ACPI NVS; zeros (4)
//!        command line
//! ```
//! All little endian. The kernel is entered with its address; see `arch`, `uefi`.

use core::fmt;

use crate::{CommandLine, CommandLineError, MemoryKind, MemoryMap, MemoryMapError};

/// First bytes.
pub const MAGIC: [u8; 8] = *b"QRHANDOV";
/// The version that is written and read. Both sides are told apart by it: a kernel in a slot may be older than the bootstrap.
pub const VERSION: u32 = 1;
/// Bytes of the part that does not grow.
pub const HEAD_BYTES: usize = 40;
/// Bytes of a region.
const REGION_BYTES: usize = 24;
/// Bytes of the whole at most: all regions that a map keeps, and the longest command line.
pub const BYTES_MAX: usize = HEAD_BYTES + crate::REGIONS_MAX * REGION_BYTES + crate::CMDLINE_BYTES_MAX;

/// What is handed over, before it is bytes.
#[derive(Debug, Clone, Copy)]
pub struct Handover<'a> {
    /// Physical address of the ACPI root pointer.
    pub rsdp: Option<u64>,
    /// Physical address of the SMBIOS entry point.
    pub smbios: Option<u64>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Memory.
    pub memory: &'a MemoryMap,
}

/// A handover as the kernel finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Physical address of the ACPI root pointer.
    pub rsdp: Option<u64>,
    /// Physical address of the SMBIOS entry point.
    pub smbios: Option<u64>,
    /// The kernel's command line, or why it cannot be used.
    pub command_line: Result<CommandLine, CommandLineError>,
    /// Memory, or why the map cannot be used.
    pub memory: Result<MemoryMap, MemoryMapError>,
}

/// Why bytes are no handover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoverError {
    /// No magic.
    Magic,
    /// Another version.
    Version(u32),
    /// It is longer than its bytes, or than any can be.
    Length,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("no handover of the bootstrap"),
            Self::Version(found) => write!(f, "handover of version {found}, this kernel takes version {VERSION}"),
            Self::Length => f.write_str("the handover's length is wrong"),
        }
    }
}

impl core::error::Error for HandoverError {}

impl Handover<'_> {
    /// Writes it to the start of `out`; gives its length, `None` if there is no room.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let regions = self.memory.regions();
        let bytes = HEAD_BYTES + regions.len() * REGION_BYTES + self.command_line.len();
        let out = out.get_mut(..bytes)?;
        out.fill(0);
        let (head, rest) = out.split_at_mut(HEAD_BYTES);
        let (places, text) = rest.split_at_mut(regions.len() * REGION_BYTES);
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &u32::try_from(bytes).ok()?.to_le_bytes());
        put(16, &self.rsdp.unwrap_or(0).to_le_bytes());
        put(24, &self.smbios.unwrap_or(0).to_le_bytes());
        put(32, &u32::try_from(text.len()).ok()?.to_le_bytes());
        put(36, &u32::try_from(regions.len()).ok()?.to_le_bytes());
        for (place, region) in places.chunks_exact_mut(REGION_BYTES).zip(regions) {
            place[..8].copy_from_slice(&region.start.to_le_bytes());
            place[8..16].copy_from_slice(&(region.end - region.start).to_le_bytes());
            place[16..20].copy_from_slice(&number(region.kind).to_le_bytes());
        }
        text.copy_from_slice(self.command_line.as_bytes());
        Some(bytes)
    }
}

/// Bytes of the whole, from its first [`HEAD_BYTES`].
///
/// # Errors
/// If they are no handover's.
pub fn length(head: &[u8]) -> Result<usize, HandoverError> {
    let head = head.first_chunk::<HEAD_BYTES>().ok_or(HandoverError::Length)?;
    if !head.starts_with(&MAGIC) {
        return Err(HandoverError::Magic);
    }
    let version = u32_at(head, 8);
    if version != VERSION {
        return Err(HandoverError::Version(version));
    }
    let bytes = u32_at(head, 12) as usize;
    let (text, regions) = (u32_at(head, 32) as usize, u32_at(head, 36) as usize);
    let whole = regions.checked_mul(REGION_BYTES).and_then(|n| n.checked_add(HEAD_BYTES)?.checked_add(text));
    if whole == Some(bytes) && bytes <= BYTES_MAX { Ok(bytes) } else { Err(HandoverError::Length) }
}

/// What stands in `bytes`, which begin with a handover.
///
/// # Errors
/// If they are none. A command line or a memory map that cannot be used is told in what is found.
pub fn decode(bytes: &[u8]) -> Result<Found, HandoverError> {
    let bytes = bytes.get(..length(bytes)?).ok_or(HandoverError::Length)?;
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(HandoverError::Length)?;
    let regions = u32_at(head, 36) as usize;
    let (places, text) = rest.split_at_checked(regions * REGION_BYTES).ok_or(HandoverError::Length)?;
    let address = |at| Some(u64_at(head, at)).filter(|address| *address != 0);
    let (places, _) = places.as_chunks::<REGION_BYTES>();
    let triples = places.iter().map(|place| (u64_at(place, 0), u64_at(place, 8), kind(u32_at(place, 16))));
    Ok(Found {
        rsdp: address(16),
        smbios: address(24),
        command_line: CommandLine::parse(text),
        memory: MemoryMap::from_regions(triples),
    })
}

fn number(kind: MemoryKind) -> u32 {
    match kind {
        MemoryKind::Usable => 1,
        MemoryKind::Reserved => 2,
        MemoryKind::AcpiTables => 3,
        MemoryKind::AcpiNvs => 4,
    }
}

/// What is not known is not used.
fn kind(number: u32) -> MemoryKind {
    match number {
        1 => MemoryKind::Usable,
        3 => MemoryKind::AcpiTables,
        4 => MemoryKind::AcpiNvs,
        _ => MemoryKind::Reserved,
    }
}

// Offsets below are constants of the layout, never values from the block.

fn u32_at<const N: usize>(raw: &[u8; N], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&raw[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at<const N: usize>(raw: &[u8; N], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&raw[at..at + 8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn map() -> MemoryMap {
        MemoryMap::from_regions([
            (0, 0xa_0000, MemoryKind::Usable),
            (0x10_0000, 0x70_0000, MemoryKind::Usable),
            (0x7f_0000_0000, 0x1000, MemoryKind::AcpiTables),
            (0x7f_0000_1000, 0x1000, MemoryKind::AcpiNvs),
            (0xffc0_0000, 0x40_0000, MemoryKind::Reserved),
        ])
        .unwrap()
    }

    fn block(command_line: &str) -> Vec<u8> {
        let mut out = std::vec![0xaa; BYTES_MAX];
        let memory = map();
        let handover = Handover { rsdp: Some(0x7f_0000_0014), smbios: None, command_line, memory: &memory };
        let bytes = handover.encode(&mut out).unwrap();
        out.truncate(bytes);
        out
    }

    #[test]
    fn a_handover_survives() {
        let block = block("node=1 groups=1");
        let found = decode(&block).unwrap();
        assert_eq!((found.rsdp, found.smbios), (Some(0x7f_0000_0014), None));
        assert_eq!(found.memory, Ok(map()));
        assert_eq!(found.command_line.unwrap().number::<u8>("node"), Ok(Some(1)));
        assert_eq!(&block[..16], b"QRHANDOV\x01\0\0\0\xaf\0\0\0");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let memory = map();
        let handover = Handover { rsdp: None, smbios: None, command_line: "node=1", memory: &memory };
        assert_eq!(handover.encode(&mut [0; HEAD_BYTES + 5 * REGION_BYTES + 5]), None);
        assert!(handover.encode(&mut [0; HEAD_BYTES + 5 * REGION_BYTES + 6]).is_some());
    }

    #[test]
    fn what_is_none_is_named() {
        let good = block("node=1");
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            decode(&bad).unwrap_err()
        };
        assert_eq!(with(0, b'X'), HandoverError::Magic);
        assert_eq!(with(8, 2), HandoverError::Version(2));
        for at in [12, 32, 36, 39] {
            assert_eq!(with(at, 0xff), HandoverError::Length, "byte {at}");
        }
        for end in 0..good.len() {
            assert_eq!(decode(&good[..end]), Err(HandoverError::Length), "{end} bytes");
        }
    }

    #[test]
    fn a_command_line_that_cannot_be_used_is_told() {
        assert!(matches!(decode(&block("node")).unwrap().command_line, Err(CommandLineError::NotKeyValue(_))));
        // A kind that this kernel does not know is memory that it does not use.
        let mut unknown = block("a=1");
        unknown[HEAD_BYTES + 16] = 9;
        let regions = decode(&unknown).unwrap().memory.unwrap();
        assert_eq!(regions.regions()[0].kind, MemoryKind::Reserved);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at in 0_usize..160, byte: u8) {
            let _ = decode(&bytes);
            let mut bent = block("node=1");
            let at = at.min(bent.len() - 1);
            bent[at] = byte;
            let _ = decode(&bent);
        }
    }
}

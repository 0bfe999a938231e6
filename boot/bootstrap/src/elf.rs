//! A node's kernel as an ELF file: what of it is loaded, where, and where it is entered (System V gABI; psABI for x86-64).
//!
//! A kernel of this product says two things in notes of the name "Quorate", so that both can be read without running it: the
//! physical address of its 64-bit entry, and its version. A file without them is somebody else's.
//!
//! Invariants of a [`KernelFile`]: every loaded byte is inside the file; the segments lie in [`LOAD_FIRST`]`..`[`LOAD_END`], ascending, and
//! no two meet; the entry is inside one that may be executed.

use core::fmt;
use core::ops::Range;

use heapless::Vec;

/// First physical address that a kernel may be loaded at: below stand the firmware's and the BIOS's things.
pub const LOAD_FIRST: u64 = 0x10_0000;
/// First physical address that it may not: its entry code maps one GiB.
pub const LOAD_END: u64 = 1 << 30;
/// Segments of a kernel at most.
pub const SEGMENTS_MAX: usize = 8;
/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a version at most.
pub const VERSION_MAX: usize = 32;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// Program headers that are looked at.
const PROGRAM_HEADERS_MAX: usize = 32;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
const EXECUTABLE: u32 = 1;
const NAME: &[u8] = b"Quorate\0";
const NOTE_ENTRY: u32 = 1;
const NOTE_VERSION: u32 = 2;

/// A part of the file that is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Its bytes in the file.
    pub from: usize,
    /// How many.
    pub file_bytes: usize,
    /// The physical address of the first.
    pub physical: u64,
    /// Bytes in memory; those that the file does not have are zeros.
    pub memory_bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

impl Segment {
    const fn end(&self) -> u64 {
        self.physical + self.memory_bytes
    }
}

/// A kernel that was looked at and found sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelFile<'a> {
    bytes: &'a [u8],
    segments: Vec<Segment, SEGMENTS_MAX>,
    /// The physical address of its 64-bit entry.
    pub entry: u64,
    /// What it says that it is.
    pub version: &'a str,
    /// Where its version's [`VERSION_MAX`] bytes stand in the file.
    pub version_at: usize,
    /// Bytes from the start of the file within which all stands that is used of it.
    pub used_bytes: usize,
}

/// Why a file is no kernel for this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ElfError {
    /// It ends before what its headers name.
    Short,
    /// No ELF file.
    NotElf,
    /// An ELF file, but no 64-bit executable for x86-64.
    NotForUs,
    /// Too many program headers or segments.
    TooMany,
    /// A segment with more bytes in the file than in memory.
    Sizes,
    /// A segment outside of the memory that a kernel may have.
    Place(u64),
    /// Two segments meet.
    Overlap(u64),
    /// No segments.
    Empty,
    /// No note names a 64-bit entry: not a kernel of this product.
    NoEntry,
    /// The entry is in no executable segment.
    Entry(u64),
    /// No version, or one that is no text.
    Version,
}

impl ElfError {
    /// In one word, for a command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::NotElf => "not-elf",
            Self::NotForUs => "not-for-us",
            Self::TooMany => "too-many-segments",
            Self::Sizes => "segment-sizes",
            Self::Place(_) => "segment-place",
            Self::Overlap(_) => "segments-overlap",
            Self::Empty => "no-segments",
            Self::NoEntry => "no-entry",
            Self::Entry(_) => "bad-entry",
            Self::Version => "no-version",
        }
    }
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the file ends before what its headers name"),
            Self::NotElf => f.write_str("not an ELF file"),
            Self::NotForUs => f.write_str("not a 64-bit x86-64 executable"),
            Self::TooMany => write!(f, "more than {SEGMENTS_MAX} segments"),
            Self::Sizes => f.write_str("a segment with more bytes in the file than in memory"),
            Self::Place(at) => write!(f, "a segment at {at:#x}, outside of {LOAD_FIRST:#x} to {LOAD_END:#x}"),
            Self::Overlap(at) => write!(f, "two segments meet at {at:#x}"),
            Self::Empty => f.write_str("nothing to load in it"),
            Self::NoEntry => f.write_str("no 64-bit entry: not a Quorate kernel, or one older than the UEFI bootstrap"),
            Self::Entry(at) => write!(f, "its entry {at:#x} is not in code that is loaded"),
            Self::Version => f.write_str("it does not say its version"),
        }
    }
}

impl core::error::Error for ElfError {}

impl<'a> KernelFile<'a> {
    /// Looks at a file.
    ///
    /// # Errors
    /// If it is no kernel that can be loaded and entered.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(ElfError::Short)?;
        // Class 64, little endian, version 1; executable with fixed addresses, x86-64, version 1.
        let ours = header[4..7] == [2, 1, 1]
            && u16_at(header, 16) == 2
            && u16_at(header, 18) == 62
            && u32_at(header, 20) == 1
            && usize::from(u16_at(header, 54)) == PROGRAM_HEADER_BYTES;
        if !ours {
            return Err(ElfError::NotForUs);
        }
        let count = usize::from(u16_at(header, 56));
        if count > PROGRAM_HEADERS_MAX {
            return Err(ElfError::TooMany);
        }
        let at = u64_at(header, 32);
        let table = part(bytes, at, (count * PROGRAM_HEADER_BYTES) as u64)?;
        let mut kernel = Self {
            bytes,
            segments: Vec::new(),
            entry: 0,
            version: "",
            version_at: 0,
            used_bytes: (HEADER_BYTES as u64).max(at + table.len() as u64) as usize,
        };
        let (mut entry, mut version) = (None, None);
        let (headers, _) = table.as_chunks::<PROGRAM_HEADER_BYTES>();
        for header in headers {
            match u32_at(header, 0) {
                LOAD => kernel.load(header)?,
                NOTE => kernel.note(header, &mut entry, &mut version)?,
                _ => {}
            }
        }
        kernel.segments.sort_unstable_by_key(|segment| segment.physical);
        if let Some(pair) = kernel.segments.windows(2).find(|pair| pair[0].end() > pair[1].physical) {
            return Err(ElfError::Overlap(pair[1].physical));
        }
        if kernel.segments.is_empty() {
            return Err(ElfError::Empty);
        }
        kernel.entry = entry.ok_or(ElfError::NoEntry)?;
        let holds =
            |s: &Segment| s.executable && (s.physical..s.physical + s.file_bytes as u64).contains(&kernel.entry);
        if !kernel.segments.iter().any(holds) {
            return Err(ElfError::Entry(kernel.entry));
        }
        (kernel.version_at, kernel.version) = version.ok_or(ElfError::Version)?;
        Ok(kernel)
    }

    /// What is loaded, ascending.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The physical addresses it takes, whole pages.
    pub fn span(&self) -> Range<u64> {
        let start = self.segments.first().map_or(LOAD_FIRST, |s| s.physical) & !(PAGE_BYTES - 1);
        let end = self.segments.last().map_or(LOAD_FIRST, Segment::end).next_multiple_of(PAGE_BYTES);
        start..end
    }

    /// Puts the kernel into `memory`, which stands for [`span`](Self::span). False if it is shorter; then nothing is done.
    pub fn load_into(&self, memory: &mut [u8]) -> bool {
        let span = self.span();
        let Some(memory) = usize::try_from(span.end - span.start).ok().and_then(|n| memory.get_mut(..n)) else {
            return false;
        };
        memory.fill(0);
        for segment in &self.segments {
            let from = self.bytes.get(segment.from..).and_then(|rest| rest.get(..segment.file_bytes));
            let to = usize::try_from(segment.physical - span.start).ok().and_then(|at| memory.get_mut(at..));
            if let (Some(from), Some(to)) = (from, to.and_then(|to| to.get_mut(..segment.file_bytes))) {
                to.copy_from_slice(from);
            }
        }
        true
    }

    fn load(&mut self, header: &[u8; PROGRAM_HEADER_BYTES]) -> Result<(), ElfError> {
        let (from, physical) = (u64_at(header, 8), u64_at(header, 24));
        let (file_bytes, memory_bytes) = (u64_at(header, 32), u64_at(header, 40));
        if memory_bytes == 0 {
            return Ok(());
        }
        if file_bytes > memory_bytes {
            return Err(ElfError::Sizes);
        }
        let end = physical.checked_add(memory_bytes).filter(|end| *end <= LOAD_END);
        if physical < LOAD_FIRST || end.is_none() {
            return Err(ElfError::Place(physical));
        }
        let content = part(self.bytes, from, file_bytes)?;
        let from = from as usize;
        self.used_bytes = self.used_bytes.max(from + content.len());
        let executable = u32_at(header, 4) & EXECUTABLE != 0;
        let segment = Segment { from, file_bytes: content.len(), physical, memory_bytes, executable };
        self.segments.push(segment).map_err(|_| ElfError::TooMany)
    }

    fn note(
        &mut self,
        header: &[u8; PROGRAM_HEADER_BYTES],
        entry: &mut Option<u64>,
        version: &mut Option<(usize, &'a str)>,
    ) -> Result<(), ElfError> {
        let at = u64_at(header, 8);
        let mut rest = part(self.bytes, at, u64_at(header, 32))?;
        let end = at as usize + rest.len();
        self.used_bytes = self.used_bytes.max(end);
        // Name and description are each padded to 4 bytes.
        while let Some(head) = rest.first_chunk::<12>() {
            let (name_bytes, bytes) = (u32_at(head, 0) as usize, u32_at(head, 4) as usize);
            let body = rest.get(12..).unwrap_or_default();
            let padded = |n: usize| n.checked_next_multiple_of(4);
            let name = body.get(..name_bytes).ok_or(ElfError::Short)?;
            let description = padded(name_bytes).and_then(|n| body.get(n..)).ok_or(ElfError::Short)?;
            let content = description.get(..bytes).ok_or(ElfError::Short)?;
            let behind = padded(bytes).and_then(|n| description.get(n..)).unwrap_or_default();
            if name == NAME {
                match u32_at(head, 8) {
                    NOTE_ENTRY => {
                        let address = content.first_chunk::<8>().filter(|_| bytes == 8).ok_or(ElfError::NoEntry)?;
                        *entry = Some(u64::from_le_bytes(*address));
                    }
                    NOTE_VERSION => {
                        let text = version_text(content).ok_or(ElfError::Version)?;
                        *version = Some((end - description.len(), text));
                    }
                    _ => {}
                }
            }
            rest = behind;
        }
        Ok(())
    }
}

/// A version's text: printable, padded with zeros to [`VERSION_MAX`].
fn version_text(field: &[u8]) -> Option<&str> {
    let length = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let (text, rest) = field.split_at_checked(length)?;
    let text = core::str::from_utf8(text).ok()?;
    // It becomes a word of a record and of a screen.
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    (field.len() == VERSION_MAX && plain && rest.iter().all(|b| *b == 0)).then_some(text)
}

fn part(bytes: &[u8], at: u64, length: u64) -> Result<&[u8], ElfError> {
    let (at, length) = (usize::try_from(at).ok(), usize::try_from(length).ok());
    let found = at.zip(length).and_then(|(at, length)| bytes.get(at..)?.get(..length));
    found.ok_or(ElfError::Short)
}

// Offsets below are constants of the headers, never values from the file.

fn u16_at<const N: usize>(raw: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

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
pub(crate) mod tests {
    use super::*;
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    const ENTRY: u64 = 0x10_2010;
    const CODE_AT: usize = 0x1000;
    const NOTES_AT: usize = 0x2000;

    /// A small kernel: code with some zeros behind it, constants that hold the notes.
    pub(crate) fn kernel() -> Vec<u8> {
        let mut elf = vec![0; NOTES_AT + 128];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
        put(32, &64_u64.to_le_bytes());
        put(54, &[56, 0, 3, 0]);
        let header = |kind: u32, flags: u32, from: u64, physical: u64, file: u64, memory: u64| {
            let mut out = Vec::new();
            out.extend(kind.to_le_bytes());
            out.extend(flags.to_le_bytes());
            for value in [from, physical, physical, file, memory, 0x1000] {
                out.extend(value.to_le_bytes());
            }
            out
        };
        put(64, &header(LOAD, 5, CODE_AT as u64, 0x10_2000, 0x100, 0x1800));
        put(120, &header(LOAD, 4, NOTES_AT as u64, 0x10_4000, 128, 128));
        put(176, &header(NOTE, 4, NOTES_AT as u64, 0x10_4000, 80, 80));
        put(CODE_AT, &[0x90; 0x100]);
        put(NOTES_AT, b"\x08\0\0\0\x08\0\0\0\x01\0\0\0Quorate\0");
        put(NOTES_AT + 20, &ENTRY.to_le_bytes());
        put(NOTES_AT + 28, b"\x08\0\0\0\x20\0\0\0\x02\0\0\0Quorate\0");
        put(NOTES_AT + 48, b"0.1.0");
        elf
    }

    #[test]
    fn a_kernel_is_loaded_where_it_says() {
        let mut elf = kernel();
        elf.extend([0xee; 4000]);
        let kernel = KernelFile::parse(&elf).unwrap();
        assert_eq!((kernel.entry, kernel.version, kernel.version_at), (ENTRY, "0.1.0", NOTES_AT + 48));
        assert_eq!(kernel.span(), 0x10_2000..0x10_5000);
        assert_eq!(kernel.used_bytes, NOTES_AT + 128, "what is behind it is not used");
        let mut memory = vec![0xcc; 0x3000];
        assert!(kernel.load_into(&mut memory));
        assert_eq!(memory[..0x100], [0x90; 0x100]);
        assert!(memory[0x100..0x2000].iter().all(|b| *b == 0), "what the file does not have is zeros");
        assert_eq!(memory[0x2000..0x2080], elf[NOTES_AT..NOTES_AT + 128]);
        assert!(!kernel.load_into(&mut [0; 0x2fff]));
    }

    fn with(at: usize, bytes: &[u8]) -> ElfError {
        let mut elf = kernel();
        elf[at..at + bytes.len()].copy_from_slice(bytes);
        KernelFile::parse(&elf).unwrap_err()
    }

    #[test]
    fn each_reason_to_refuse_has_its_name() {
        assert_eq!(KernelFile::parse(b""), Err(ElfError::NotElf));
        assert_eq!(KernelFile::parse(b"MZ"), Err(ElfError::NotElf));
        assert_eq!(KernelFile::parse(b"\x7fELF"), Err(ElfError::Short));
        for (at, byte) in [(4, 1), (5, 2), (16, 3), (18, 3), (20, 2), (54, 32)] {
            assert_eq!(with(at, &[byte]), ElfError::NotForUs, "byte {at}");
        }
        assert_eq!(with(56, &[33, 0]), ElfError::TooMany);
        assert_eq!(with(32, &u64::MAX.to_le_bytes()), ElfError::Short);
        assert_eq!(with(64 + 8, &u64::MAX.to_le_bytes()), ElfError::Short);
        assert_eq!(with(64 + 32, &0x2000_u64.to_le_bytes()), ElfError::Sizes);
        for place in [0xf_f000_u64, LOAD_END - 0x1000, u64::MAX] {
            assert_eq!(with(64 + 24, &place.to_le_bytes()), ElfError::Place(place));
        }
        assert_eq!(with(120 + 24, &0x10_3000_u64.to_le_bytes()), ElfError::Overlap(0x10_3000));
        assert_eq!(with(56, &[0, 0]), ElfError::Empty);
        assert_eq!(with(NOTES_AT + 12, b"X"), ElfError::NoEntry);
        assert_eq!(with(NOTES_AT + 20, &0x10_2100_u64.to_le_bytes()), ElfError::Entry(0x10_2100));
        assert_eq!(with(64 + 4, &[4]), ElfError::Entry(ENTRY), "not executable");
        assert_eq!(with(NOTES_AT + 48, &[0]), ElfError::Version);
        assert_eq!(with(NOTES_AT + 50, b"\n"), ElfError::Version);
        assert_eq!(with(NOTES_AT + 28, &[0xff; 4]), ElfError::Short);
    }

    #[test]
    fn a_file_that_is_cut_is_refused_at_every_length() {
        let elf = kernel();
        for end in 0..elf.len() {
            assert!(KernelFile::parse(&elf[..end]).is_err(), "{end} bytes");
        }
        assert!(KernelFile::parse(&elf).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(tail: Vec<u8>, places: [(u16, u8); 4]) {
            let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
            elf.extend(&tail);
            let _ = KernelFile::parse(&elf);
            let mut elf = kernel();
            for (at, byte) in places {
                let at = usize::from(at) % 300;
                elf[if at < 232 { at } else { NOTES_AT + at - 232 }] = byte;
            }
            if let Ok(kernel) = KernelFile::parse(&elf) {
                let span = kernel.span();
                proptest::prop_assert!(span.start >= LOAD_FIRST && span.end <= LOAD_END);
                if span.end - span.start < 1 << 20 {
                    let mut memory = vec![0; (span.end - span.start) as usize];
                    proptest::prop_assert!(kernel.load_into(&mut memory));
                }
            }
        }
    }
}

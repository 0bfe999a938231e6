//! Which version this kernel is: set when it is built (`QUORATE_VERSION`, else the package's), and readable in its ELF file without running
//! it, by a note. Who installs a kernel may put another label there; the kernel says what stands in its note.

/// Bytes of a version at most.
const VERSION_BYTES: usize = 32;

/// Type of the note with the version, padded with zeros. (Type 1 names the 64-bit entry, see `uefi.s`.)
const NOTE_VERSION: u32 = 2;

/// An ELF note of this product (gABI, "Note Section").
#[repr(C)]
struct Note {
    name_bytes: u32,
    bytes: u32,
    kind: u32,
    name: [u8; 8],
    version: [u8; VERSION_BYTES],
}

const BUILT: &str = match option_env!("QUORATE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

#[used]
#[unsafe(link_section = ".note.quorate")]
static VERSION: Note = Note {
    name_bytes: 8,
    bytes: VERSION_BYTES as u32,
    kind: NOTE_VERSION,
    name: *b"Quorate\0",
    version: padded(BUILT),
};

const fn padded(text: &str) -> [u8; VERSION_BYTES] {
    assert!(text.len() <= VERSION_BYTES, "a version has at most 32 bytes");
    let mut out = [0; VERSION_BYTES];
    let mut at = 0;
    while at < text.len() {
        out[at] = text.as_bytes()[at];
        at += 1;
    }
    out
}

/// This kernel's version.
pub fn version() -> &'static str {
    // The file may have been given another label after the compiler saw this one.
    let bytes = &core::hint::black_box(&VERSION).version;
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(VERSION_BYTES);
    bytes.get(..length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("?")
}

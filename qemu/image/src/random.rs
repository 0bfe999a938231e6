//! Random ids for a new database: from the operating system, or from a seed where an image must come out twice the same.

use std::fs::File;
use std::io::{self, Read};

/// A source of random bytes.
#[derive(Debug)]
pub enum Random {
    /// SplitMix64 (Steele, Lea, Flood 2014) from a seed. Not for keys of a real cluster.
    Seeded(u64),
    /// The operating system's.
    System(File),
}

impl Random {
    /// From a seed, or from the operating system.
    ///
    /// # Errors
    /// If the operating system has none.
    pub fn new(seed: Option<u64>) -> io::Result<Self> {
        match seed {
            Some(seed) => Ok(Self::Seeded(seed)),
            None => File::open("/dev/urandom").map(Self::System),
        }
    }

    /// Fills an array.
    ///
    /// # Errors
    /// If the operating system fails.
    pub fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        match self {
            Self::System(file) => file.read_exact(&mut out)?,
            Self::Seeded(state) => {
                for part in out.chunks_mut(8) {
                    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let mut z = *state;
                    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                    for (to, from) in part.iter_mut().zip((z ^ (z >> 31)).to_le_bytes()) {
                        *to = from;
                    }
                }
            }
        }
        Ok(out)
    }

    /// A random UUID (RFC 9562 version 4), in the order of its text form.
    ///
    /// # Errors
    /// If the operating system fails.
    pub fn uuid(&mut self) -> io::Result<[u8; 16]> {
        let mut uuid = self.bytes::<16>()?;
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Ok(uuid)
    }
}

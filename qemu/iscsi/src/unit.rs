//! A logical unit: its size, its blocks, and who is registered there.
//!
//! Source: SPC-4 §6.15 (PERSISTENT RESERVE IN), SBC-3 §5.16 (READ CAPACITY (16)), §5.11 (READ (16)), §5.40 (WRITE (16)).

use std::time::Duration;

use crate::error::IscsiError;
use crate::portal::Portal;
use crate::session::{Reply, Session};

const CHECK_CONDITION: u8 = 0x02;
const UNIT_ATTENTION: u8 = 0x06;

/// Unit attentions that may be pending in a new session: power on, mode parameters, reservations.
const ATTENTIONS_MAX: u32 = 8;

/// Bytes of one read or write at most.
const TRANSFER_BYTES: usize = 64 << 10;

/// Bytes of a PERSISTENT RESERVE IN answer that we take: more than a thousand keys.
const KEYS_BYTES: u16 = 16 << 10;

/// A logical unit that is open.
#[derive(Debug)]
pub struct Unit {
    session: Session,
    blocks: u64,
    block_size: u32,
}

/// Who holds the reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// The holder's key; 0 where all registrants hold it.
    pub key: u64,
    /// Its type (SPC-4 table 68).
    pub kind: u8,
}

/// What the unit says about its persistent reservations (REPORT CAPABILITIES, SPC-4 §6.15.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// The types of reservation that it has, a bit each; 0 where it does not say.
    pub types: u16,
    /// Keys can survive a loss of power.
    pub keeps_over_power_loss: bool,
}

impl Unit {
    /// Opens the unit as initiator `name`. No answer is waited for longer than `patience`.
    ///
    /// # Errors
    /// If there is no such unit.
    pub fn open(portal: &Portal, name: &str, patience: Duration) -> Result<Self, IscsiError> {
        let session = Session::login(portal, name, patience)?;
        let mut unit = Self { session, blocks: 0, block_size: 0 };
        unit.command("TEST UNIT READY", &[0; 6], &[], 0)?;
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        let data = unit.command("READ CAPACITY (16)", &cdb, &[], 32)?;
        unit.blocks = number(&data, 0, 8).wrapping_add(1);
        unit.block_size = number(&data, 8, 4) as u32;
        if unit.blocks == 0 || !unit.block_size.is_power_of_two() || !(512..=65536).contains(&unit.block_size) {
            return Err(IscsiError::Protocol("the unit is no disk"));
        }
        Ok(unit)
    }

    /// Bytes of a logical block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Bytes of the whole unit.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }

    /// Reads whole blocks from byte `at` on.
    ///
    /// # Errors
    /// If the unit refuses. Place and length must be multiples of the block size.
    pub fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), IscsiError> {
        let mut at = at;
        for piece in bytes.chunks_mut(TRANSFER_BYTES) {
            let cdb = self.transfer(0x88, at, piece.len());
            let data = self.command("READ (16)", &cdb, &[], piece.len())?;
            if data.len() != piece.len() {
                return Err(IscsiError::Protocol("a read that brought less than was asked for"));
            }
            piece.copy_from_slice(&data);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes whole blocks from byte `at` on, each durable when it is answered (FUA).
    ///
    /// # Errors
    /// As [`Unit::read`].
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), IscsiError> {
        let mut at = at;
        for piece in bytes.chunks(TRANSFER_BYTES) {
            let mut cdb = self.transfer(0x8a, at, piece.len());
            cdb[1] = 0x08;
            self.command("WRITE (16)", &cdb, piece, 0)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// All keys that are registered, in the target's order, one for each registered initiator.
    ///
    /// # Errors
    /// If the unit has no persistent reservations, or does not answer.
    pub fn keys(&mut self) -> Result<Vec<u64>, IscsiError> {
        let data = self.reserve_in("READ KEYS", 0)?;
        let length = (number(&data, 4, 4) as usize).min(data.len().saturating_sub(8));
        Ok(data.get(8..8 + length).unwrap_or_default().chunks_exact(8).map(|key| number(key, 0, 8)).collect())
    }

    /// The reservation, if there is one.
    ///
    /// # Errors
    /// As [`Unit::keys`].
    pub fn reservation(&mut self) -> Result<Option<Reservation>, IscsiError> {
        let data = self.reserve_in("READ RESERVATION", 1)?;
        let there = number(&data, 4, 4) >= 16 && data.len() >= 24;
        Ok(there.then(|| Reservation { key: number(&data, 8, 8), kind: data[21] & 0x0f }))
    }

    /// What the unit can do with reservations.
    ///
    /// # Errors
    /// As [`Unit::keys`].
    pub fn abilities(&mut self) -> Result<Abilities, IscsiError> {
        let data = self.reserve_in("REPORT CAPABILITIES", 2)?;
        let flags = |at: usize| data.get(at).copied().unwrap_or(0);
        let types = if flags(3) & 0x80 != 0 { u16::from_be_bytes([flags(4), flags(5)]) } else { 0 };
        Ok(Abilities { types, keeps_over_power_loss: flags(2) & 0x01 != 0 })
    }

    fn reserve_in(&mut self, name: &'static str, action: u8) -> Result<Vec<u8>, IscsiError> {
        let mut cdb = [0; 10];
        (cdb[0], cdb[1]) = (0x5e, action);
        cdb[7..9].copy_from_slice(&KEYS_BYTES.to_be_bytes());
        self.command(name, &cdb, &[], KEYS_BYTES.into())
    }

    fn transfer(&self, operation: u8, at: u64, length: usize) -> [u8; 16] {
        let size = u64::from(self.block_size);
        let mut cdb = [0; 16];
        cdb[0] = operation;
        cdb[2..10].copy_from_slice(&(at / size).to_be_bytes());
        cdb[10..14].copy_from_slice(&((length as u64 / size) as u32).to_be_bytes());
        cdb
    }

    /// A command whose pending unit attentions are taken note of and passed over: nothing here depends on what was.
    fn command(&mut self, name: &'static str, cdb: &[u8], out: &[u8], read: usize) -> Result<Vec<u8>, IscsiError> {
        for _ in 0..ATTENTIONS_MAX {
            let Reply { status, sense, data } = self.session.execute(cdb, out, read)?;
            if status == 0 {
                return Ok(data);
            }
            let sense = decode(&sense);
            if status != CHECK_CONDITION || sense.is_none_or(|(key, ..)| key != UNIT_ATTENTION) {
                return Err(IscsiError::Command { command: name, status, sense });
            }
        }
        Err(IscsiError::Protocol("unit attentions without an end"))
    }
}

/// A big-endian number; what is missing counts as zeros.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    (at..at + length).fold(0, |value, place| value << 8 | u64::from(bytes.get(place).copied().unwrap_or(0)))
}

/// Sense key, additional code and qualifier, of fixed or descriptor format (SPC-4 §4.5).
fn decode(sense: &[u8]) -> Option<(u8, u8, u8)> {
    let byte = |at: usize| sense.get(at).copied();
    match byte(0)? & 0x7f {
        0x70 | 0x71 => Some((byte(2)? & 0x0f, byte(12).unwrap_or(0), byte(13).unwrap_or(0))),
        0x72 | 0x73 => Some((byte(1)? & 0x0f, byte(2)?, byte(3)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_of_both_formats_is_understood() {
        let mut fixed = [0; 18];
        (fixed[0], fixed[2], fixed[12], fixed[13]) = (0x70, 6, 0x29, 0);
        assert_eq!(decode(&fixed), Some((6, 0x29, 0)));
        assert_eq!(decode(&[0x72, 5, 0x20, 0]), Some((5, 0x20, 0)));
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0x70, 0]), None);
    }

    #[test]
    fn numbers_are_big_endian_and_what_is_missing_is_zero() {
        assert_eq!(number(&[1, 2, 3], 1, 2), 0x0203);
        assert_eq!(number(&[1], 0, 2), 0x0100);
    }
}

//! PERSISTENT RESERVE IN parameter data: who is registered, what is reserved, what the unit can do.
//! (SPC-4 § 6.15)
//!
//! Every answer may be cut: the unit states how long it is, and sends what fits. A cut list says only
//! what is in it: that something is *not* registered follows from a whole list alone.

use crate::bytes::{array, be16, be32, be64};
use crate::reservation::{Key, Kind};

/// Generation and length, in front of every answer but the capabilities'.
const HEADER_BYTES: usize = 8;
/// A full status descriptor without its TransportID. (SPC-4 § 6.15.5)
const DESCRIPTOR_BYTES: usize = 24;
/// The descriptor of a reservation. (SPC-4 § 6.15.3)
const RESERVATION_BYTES: usize = 16;

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// It ends before its fixed part does.
    Short,
    /// The length that it states is none that it can have.
    Length(u32),
}

/// Generation, stated length, and the body as far as it is there.
fn split(data: &[u8]) -> Result<(u32, usize, &[u8]), ParseError> {
    let (Some(generation), Some(stated)) = (be32(data, 0), be32(data, 4)) else {
        return Err(ParseError::Short);
    };
    let stated = stated as usize;
    let body = data.get(HEADER_BYTES..).unwrap_or(&[]);
    Ok((generation, stated, body.get(..stated).unwrap_or(body)))
}

/// The registered keys; a key that several ports registered stands there as often. (SPC-4 § 6.15.2)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    /// Counts the changes of registrations. (PRGENERATION; wraps, and starts again with the unit)
    pub generation: u32,
    stated: usize,
    body: &'a [u8],
}

impl<'a> Keys<'a> {
    /// Bytes of the answer for so many keys, at most what the command can ask for.
    pub fn bytes_for(keys: usize) -> u16 {
        keys.checked_mul(8).and_then(|bytes| u16::try_from(bytes + HEADER_BYTES).ok()).unwrap_or(u16::MAX)
    }

    /// Reads the answer to READ KEYS.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(data: &'a [u8]) -> Result<Self, ParseError> {
        let (generation, stated, body) = split(data)?;
        if !stated.is_multiple_of(8) {
            return Err(ParseError::Length(stated as u32));
        }
        Ok(Self { generation, stated, body })
    }

    /// How many keys are registered, whether they are all here or not.
    pub fn registered(&self) -> usize {
        self.stated / 8
    }

    /// Every registered key is here.
    pub fn is_whole(&self) -> bool {
        self.body.len() == self.stated
    }

    /// The keys that are here.
    pub fn iter(&self) -> impl Iterator<Item = Key> + 'a {
        let (chunks, _) = self.body.as_chunks::<8>();
        chunks.iter().map(|bytes| Key(u64::from_be_bytes(*bytes)))
    }

    /// Whether a key is registered; `None` if the list is cut and it is not in what is there.
    pub fn has(&self, key: Key) -> Option<bool> {
        if self.iter().any(|registered| registered == key) { Some(true) } else { self.is_whole().then_some(false) }
    }
}

/// A reservation. (SPC-4 § 6.15.3)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// Its holder's key; [`Key::NONE`] where all registered ports hold it.
    pub key: Key,
    /// Its kind, or the code of a kind that SPC-4 does not have.
    pub kind: Result<Kind, u8>,
    /// Its scope: 0 is the logical unit, all others are obsolete.
    pub scope: u8,
}

impl Reservation {
    fn new(key: Key, scope_and_type: u8) -> Self {
        let code = scope_and_type & 0xf;
        Self { key, kind: Kind::from_code(code).ok_or(code), scope: scope_and_type >> 4 }
    }
}

/// The reservation, if there is one. (SPC-4 § 6.15.3)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// As in [`Keys`].
    pub generation: u32,
    /// The reservation.
    pub reservation: Option<Reservation>,
}

impl Holder {
    /// Bytes of the answer.
    pub const BYTES: u16 = (HEADER_BYTES + RESERVATION_BYTES) as u16;

    /// Reads the answer to READ RESERVATION.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let (generation, stated, body) = split(data)?;
        if stated == 0 {
            return Ok(Self { generation, reservation: None });
        }
        if stated < RESERVATION_BYTES {
            return Err(ParseError::Length(stated as u32));
        }
        let (Some(key), Some(scope_and_type)) = (be64(body, 0), body.get(13)) else {
            return Err(ParseError::Short);
        };
        Ok(Self { generation, reservation: Some(Reservation::new(Key(key), *scope_and_type)) })
    }
}

/// The kinds of reservation that a unit offers. (SPC-4 § 6.15.4)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u16);

impl Kinds {
    /// It offers this one.
    pub fn has(self, kind: Kind) -> bool {
        let bit = match kind {
            Kind::WriteExclusive => 9,
            Kind::ExclusiveAccess => 11,
            Kind::WriteExclusiveRegistrantsOnly => 13,
            Kind::ExclusiveAccessRegistrantsOnly => 14,
            Kind::WriteExclusiveAllRegistrants => 15,
            Kind::ExclusiveAccessAllRegistrants => 0,
        };
        self.0 & 1 << bit != 0
    }
}

/// What a unit can do. It does not say whether it knows PREEMPT AND ABORT: no field exists for that.
/// (SPC-4 § 6.15.4)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// REPLACE LOST RESERVATION is known (RLR_C).
    pub replaces_lost_reservation: bool,
    /// RESERVE(6) and RELEASE(6) coexist with a registration (CRH).
    pub compatible_with_reserve_6: bool,
    /// A registration can name other initiator ports (SIP_C).
    pub specifies_initiators: bool,
    /// A registration can be for all target ports (ATP_C).
    pub all_target_ports: bool,
    /// Registrations can survive a loss of power (PTPL_C).
    pub can_persist: bool,
    /// They do now: somebody registered with APTPL (PTPL_A).
    pub persists: bool,
    /// What of reads is allowed in an exclusive reservation (ALLOW COMMANDS).
    pub allow_commands: u8,
    /// The kinds on offer; `None` if the unit does not say, as before SPC-3.
    pub kinds: Option<Kinds>,
}

impl Capabilities {
    /// Bytes of the answer.
    pub const BYTES: u16 = 8;

    /// Reads the answer to REPORT CAPABILITIES.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let Some(stated) = be16(data, 0) else {
            return Err(ParseError::Short);
        };
        // The length counts itself here, unlike in the other answers.
        if stated < 4 {
            return Err(ParseError::Length(u32::from(stated)));
        }
        let data = data.get(..usize::from(stated)).unwrap_or(data);
        let Some([first, second]) = array::<2>(data, 2) else {
            return Err(ParseError::Short);
        };
        // TMV says that the mask means something; a unit that sends no mask has none.
        let mask = be16(data, 4).filter(|_| second & 0x80 != 0);
        Ok(Self {
            replaces_lost_reservation: first & 0x80 != 0,
            compatible_with_reserve_6: first & 0x10 != 0,
            specifies_initiators: first & 0x08 != 0,
            all_target_ports: first & 0x04 != 0,
            can_persist: first & 0x01 != 0,
            persists: second & 0x01 != 0,
            allow_commands: second >> 4 & 7,
            kinds: mask.map(Kinds),
        })
    }

    /// The kind with which registered ports write and others do not: all registrants if on offer, for
    /// it does not end with its holder; else registrants only, which a unit that names no kinds is
    /// taken to have (it is the older one). `None`: neither is on offer.
    pub fn shut_out_writers(&self) -> Option<Kind> {
        let Some(kinds) = self.kinds else {
            return Some(Kind::WriteExclusiveRegistrantsOnly);
        };
        [Kind::WriteExclusiveAllRegistrants, Kind::WriteExclusiveRegistrantsOnly]
            .into_iter()
            .find(|kind| kinds.has(*kind))
    }
}

/// An initiator port as its transport names it. (SPC-4 § 7.6.4)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransportId<'a>(pub &'a [u8]);

/// PROTOCOL IDENTIFIER of iSCSI. (SPC-4 § 7.6.4)
const ISCSI: u8 = 5;

impl<'a> TransportId<'a> {
    /// The transport's number: 0 Fibre Channel, 5 iSCSI, 6 SAS; `None` if it is empty.
    pub fn protocol(&self) -> Option<u8> {
        self.0.first().map(|byte| byte & 0xf)
    }

    /// The name of an iSCSI initiator, with its session where the format has it; without the padding.
    pub fn iscsi_name(&self) -> Option<&'a [u8]> {
        if self.protocol()? != ISCSI {
            return None;
        }
        let len = usize::from(be16(self.0, 2)?);
        let name = self.0.get(4..)?;
        let name = name.get(..len).unwrap_or(name);
        name.split(|byte| *byte == 0).next()
    }
}

/// A registration in full. (SPC-4 § 6.15.5)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Registration<'a> {
    /// Its key.
    pub key: Key,
    /// It is for all target ports.
    pub all_target_ports: bool,
    /// The reservation that this port holds, if it holds it.
    pub holds: Option<Reservation>,
    /// The target port that it is for.
    pub target_port: u16,
    /// The initiator port.
    pub initiator: TransportId<'a>,
}

/// All registrations in full. (SPC-4 § 6.15.5)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullStatus<'a> {
    /// As in [`Keys`].
    pub generation: u32,
    stated: usize,
    body: &'a [u8],
}

impl<'a> FullStatus<'a> {
    /// Reads the answer to READ FULL STATUS.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(data: &'a [u8]) -> Result<Self, ParseError> {
        let (generation, stated, body) = split(data)?;
        Ok(Self { generation, stated, body })
    }

    /// Every registration is here, and nothing else.
    pub fn is_whole(&self) -> bool {
        let mut rest = self.iter();
        while rest.next().is_some() {}
        self.body.len() == self.stated && rest.0.is_empty()
    }

    /// The registrations that are here whole.
    pub fn iter(&self) -> Registrations<'a> {
        Registrations(self.body)
    }
}

/// Registrations one after the other; see [`FullStatus::iter`].
#[derive(Clone, Debug)]
pub struct Registrations<'a>(&'a [u8]);

impl<'a> Iterator for Registrations<'a> {
    type Item = Registration<'a>;

    fn next(&mut self) -> Option<Registration<'a>> {
        let [flags, scope_and_type] = array::<2>(self.0, 12)?;
        let len = be32(self.0, 20)? as usize;
        let id = self.0.get(DESCRIPTOR_BYTES..)?.get(..len)?;
        let key = Key(be64(self.0, 0)?);
        let registration = Registration {
            key,
            all_target_ports: flags & 2 != 0,
            holds: (flags & 1 != 0).then(|| Reservation::new(key, scope_and_type)),
            target_port: be16(self.0, 18)?,
            initiator: TransportId(id),
        };
        self.0 = self.0.get(DESCRIPTOR_BYTES + len..).unwrap_or(&[]);
        Some(registration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn with_header(generation: u32, stated: u32, body: &[u8]) -> Vec<u8> {
        [&generation.to_be_bytes()[..], &stated.to_be_bytes(), body].concat()
    }

    fn keys_of(count: u64) -> Vec<u8> {
        (1..=count).flat_map(|key| (key << 32).to_be_bytes()).collect()
    }

    #[test]
    fn spc_4_6_15_2_read_keys() {
        let data = [0, 0, 0, 5, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9];
        let keys = Keys::parse(&data).unwrap();
        assert_eq!(keys.generation, 5);
        assert_eq!(keys.iter().collect::<Vec<_>>(), [Key(0x0102_0304_0506_0708), Key(9)]);
        assert!(keys.is_whole());
        assert_eq!((keys.has(Key(9)), keys.has(Key(8))), (Some(true), Some(false)));
        // What is behind the list is not in it.
        let longer = [&data[..], &[0, 0, 0, 0, 0, 0, 0, 8]].concat();
        assert_eq!(Keys::parse(&longer).unwrap().has(Key(8)), Some(false));
    }

    #[test]
    fn no_registration_at_all() {
        let data = with_header(7, 0, &[]);
        let keys = Keys::parse(&data).unwrap();
        assert_eq!((keys.registered(), keys.is_whole(), keys.iter().count()), (0, true, 0));
        assert_eq!(keys.has(Key(1)), Some(false));
        assert_eq!(Holder::parse(&data), Ok(Holder { generation: 7, reservation: None }));
        let status = FullStatus::parse(&data).unwrap();
        assert!(status.is_whole());
        assert_eq!(status.iter().count(), 0);
    }

    #[test]
    fn many_keys_and_a_cut_list() {
        let data = with_header(200, 100 * 8, &keys_of(100));
        assert_eq!(data.len(), usize::from(Keys::bytes_for(100)));
        let keys = Keys::parse(&data).unwrap();
        assert_eq!((keys.registered(), keys.iter().count(), keys.is_whole()), (100, 100, true));
        // The same list, cut by the allocation length in the middle of the 64th key.
        let keys = Keys::parse(&data[..8 + 63 * 8 + 3]).unwrap();
        assert_eq!((keys.registered(), keys.iter().count(), keys.is_whole()), (100, 63, false));
        assert_eq!(keys.has(Key(63 << 32)), Some(true));
        assert_eq!(keys.has(Key(64 << 32)), None, "it may be in the part that was cut off");
        assert_eq!(Keys::bytes_for(usize::MAX), u16::MAX);
    }

    #[test]
    fn lengths_that_cannot_be() {
        assert_eq!(Keys::parse(&with_header(0, 12, &[0; 12])), Err(ParseError::Length(12)));
        assert_eq!(Keys::parse(&[0; 7]), Err(ParseError::Short));
        assert_eq!(Holder::parse(&with_header(0, 8, &[0; 16])), Err(ParseError::Length(8)));
        assert_eq!(Holder::parse(&with_header(0, 16, &[0; 13])), Err(ParseError::Short));
        assert_eq!(Capabilities::parse(&[0]), Err(ParseError::Short));
        assert_eq!(Capabilities::parse(&[0, 8, 0]), Err(ParseError::Short));
        assert_eq!(Capabilities::parse(&[0, 3, 0, 0x80, 0xff, 0xff]), Err(ParseError::Length(3)));
        assert!(!Keys::parse(&with_header(0, u32::MAX - 7, &[0; 8])).unwrap().is_whole());
    }

    #[test]
    fn spc_4_6_15_3_read_reservation() {
        let data = [0, 0, 1, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x05, 0, 0];
        let reservation = Holder::parse(&data).unwrap().reservation.unwrap();
        assert_eq!(reservation.key, Key(1));
        assert_eq!(reservation.kind, Ok(Kind::WriteExclusiveRegistrantsOnly));
        assert_eq!(reservation.scope, 0);
        assert_eq!(usize::from(Holder::BYTES), data.len());
        let mut odd = data;
        odd[21] = 0x2f;
        let reservation = Holder::parse(&odd).unwrap().reservation.unwrap();
        assert_eq!((reservation.kind, reservation.scope), (Err(0xf), 2));
    }

    #[test]
    fn spc_4_6_15_4_capabilities_of_tgt() {
        let found = Capabilities::parse(&[0, 8, 0, 0x80, 0xea, 1, 0, 0]).unwrap();
        assert!(Kind::ALL.into_iter().all(|kind| found.kinds.unwrap().has(kind)));
        assert_eq!(found, Capabilities { kinds: Some(Kinds(0xea01)), ..Capabilities::default() });
        assert_eq!(found.shut_out_writers(), Some(Kind::WriteExclusiveAllRegistrants));
    }

    #[test]
    fn spc_4_6_15_4_capabilities_of_lio() {
        let found = Capabilities::parse(&[0, 8, 0x1d, 0x90, 0xea, 1, 0, 0]).unwrap();
        let expected = Capabilities {
            replaces_lost_reservation: false,
            compatible_with_reserve_6: true,
            specifies_initiators: true,
            all_target_ports: true,
            can_persist: true,
            persists: false,
            allow_commands: 1,
            kinds: Some(Kinds(0xea01)),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn each_bit_of_the_mask_is_one_kind() {
        // Bytes 4 and 5 of SPC-4 § 6.15.4, bit by bit.
        let bits = [
            (0x0200, Kind::WriteExclusive),
            (0x0800, Kind::ExclusiveAccess),
            (0x2000, Kind::WriteExclusiveRegistrantsOnly),
            (0x4000, Kind::ExclusiveAccessRegistrantsOnly),
            (0x8000, Kind::WriteExclusiveAllRegistrants),
            (0x0001, Kind::ExclusiveAccessAllRegistrants),
        ];
        for (mask, kind) in bits {
            let offered: Vec<_> = Kind::ALL.into_iter().filter(|kind| Kinds(mask).has(*kind)).collect();
            assert_eq!(offered, [kind]);
        }
    }

    #[test]
    fn capabilities_with_and_without_a_mask() {
        let kind = |data: &[u8]| Capabilities::parse(data).unwrap().shut_out_writers();
        // No TMV: the mask means nothing, and the older kind is assumed.
        assert_eq!(Capabilities::parse(&[0, 8, 1, 0, 0x80, 0, 0, 0]).unwrap().kinds, None);
        assert_eq!(kind(&[0, 8, 1, 0, 0x80, 0, 0, 0]), Some(Kind::WriteExclusiveRegistrantsOnly));
        // TMV, but the answer ends before the mask: stated so, or cut.
        assert_eq!(kind(&[0, 4, 1, 0x80, 0x80, 0]), Some(Kind::WriteExclusiveRegistrantsOnly));
        assert_eq!(kind(&[0, 8, 1, 0x80]), Some(Kind::WriteExclusiveRegistrantsOnly));
        assert_eq!(kind(&[0, 8, 1, 0x80, 0x20, 0, 0, 0]), Some(Kind::WriteExclusiveRegistrantsOnly));
        assert_eq!(kind(&[0, 8, 1, 0x80, 0x0a, 1, 0, 0]), None);
        assert!(Capabilities::parse(&[0, 8, 1, 1]).unwrap().persists);
    }

    fn descriptor(key: u64, flags: u8, kind: u8, port: u16, id: &[u8]) -> Vec<u8> {
        let mut bytes = key.to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 0, flags, kind, 0, 0, 0, 0]);
        bytes.extend(port.to_be_bytes());
        bytes.extend((id.len() as u32).to_be_bytes());
        bytes.extend(id);
        bytes
    }

    #[test]
    fn spc_4_6_15_5_full_status_skips_transport_ids_by_length() {
        // SPC-4 § 7.6.4: SAS, Fibre Channel, iSCSI without and with session.
        let mut sas = [0; 24];
        sas[0] = 0x06;
        let fibre_channel = [0; 24];
        let iscsi = b"\x05\0\0\x14iqn.2026-01.x:node1\0";
        let session = b"\x45\0\0\x18iqn.x:n2,i,0x23d00001\0\0\0";
        let body = [
            descriptor(1, 1, 0x07, 1, &sas),
            descriptor(2, 3, 0x07, 2, &fibre_channel),
            descriptor(3, 0, 0x00, 3, iscsi),
            descriptor(4, 0, 0x00, 4, session),
            descriptor(5, 0, 0x00, 5, &[]),
        ]
        .concat();
        let data = with_header(9, body.len() as u32, &body);
        let status = FullStatus::parse(&data).unwrap();
        assert!(status.is_whole());
        let found: Vec<_> = status.iter().collect();
        assert_eq!(found.iter().map(|r| r.key.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(found.iter().map(|r| r.target_port).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(found[0].holds.unwrap().kind, Ok(Kind::WriteExclusiveAllRegistrants));
        assert!(found[1].all_target_ports && found[2].holds.is_none());
        let protocols: Vec<_> = found.iter().map(|r| r.initiator.protocol()).collect();
        assert_eq!(protocols, [Some(6), Some(0), Some(5), Some(5), None]);
        assert_eq!(found[0].initiator.iscsi_name(), None);
        assert_eq!(found[2].initiator.iscsi_name(), Some(&b"iqn.2026-01.x:node1"[..]));
        assert_eq!(found[3].initiator.iscsi_name(), Some(&b"iqn.x:n2,i,0x23d00001"[..]));
        // Cut in the third descriptor's TransportID.
        let status = FullStatus::parse(&data[..8 + 48 + 48 + 30]).unwrap();
        assert!(!status.is_whole());
        assert_eq!(status.iter().count(), 2);
    }

    #[test]
    fn a_descriptor_that_reaches_beyond_the_answer_is_no_registration() {
        let mut body = descriptor(1, 0, 0, 0, &[0; 4]);
        body[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        let data = with_header(1, body.len() as u32, &body);
        let status = FullStatus::parse(&data).unwrap();
        assert_eq!(status.iter().count(), 0);
        assert!(!status.is_whole());
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Capabilities::parse(&data).map(|found| found.shut_out_writers());
            let _ = Holder::parse(&data);
            if let Ok(keys) = Keys::parse(&data) {
                prop_assert!(keys.iter().count() <= keys.registered());
                let _ = keys.has(Key(0));
            }
            if let Ok(status) = FullStatus::parse(&data) {
                let _ = status.is_whole();
                for registration in status.iter() {
                    let _ = registration.initiator.iscsi_name();
                }
            }
        }

        /// The same with lengths that lead into the data.
        #[test]
        fn any_body_never_panics(body in proptest::collection::vec(0u8..40, 0..400), stated in 0u32..500) {
            let data = with_header(1, stated, &body);
            if let Ok(keys) = Keys::parse(&data) {
                prop_assert_eq!(keys.is_whole(), body.len() >= stated as usize);
                prop_assert_eq!(keys.iter().count(), body.len().min(stated as usize) / 8);
            }
            let _ = Holder::parse(&data);
            let whole = FullStatus::parse(&data).unwrap();
            prop_assert!(whole.iter().count() <= body.len() / 24);
            let _ = whole.is_whole();
        }
    }
}

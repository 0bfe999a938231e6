//! PROTOCOL.md's tables say what the code writes: numbers and names of messages and items, and every byte of the records.
//!
//! Names come from what serde derives, so that a message which is added or moved is seen without a list of them here. Offsets
//! are compared with records whose fields have a value each of their own.

use quorate_base::{
    Ballot, BootNonce, ClusterId, FenceMethod, Incarnation, NodeId, NodeSet, NodeState, Preempted, Registrants, Timing,
    Transition, View, ViewName,
};
use quorate_database::sealed::Kind;
use quorate_database::*;
use quorate_interconnect::{Channel, Destination, Status, envelope, seal};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor, value};

const PROTOCOL: &str = include_str!("../../PROTOCOL.md");

/// The text below a heading, up to the next one of its rank or a higher one.
fn section(heading: &str) -> &'static str {
    let (_, rest) = PROTOCOL.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let rank = heading.split(' ').next().unwrap().len();
    let ends = |line: &str| line.starts_with('#') && line.split(' ').next().unwrap().len() <= rank;
    let end = rest.lines().take_while(|line| !ends(line)).map(|line| line.len() + 1).sum::<usize>();
    &rest[..end.min(rest.len())]
}

/// The cells of the table below a heading whose first row begins so.
fn table(heading: &str, first: &str) -> Vec<Vec<&'static str>> {
    let rows = section(heading).lines().skip_while(|line| !line.starts_with(first)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').skip(1).map(str::trim).collect()).collect()
}

/// The names of an enumeration's variants in the order of their numbers.
struct Variants(Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for &mut Variants {
    type Error = value::Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, value::Error> {
        self.0 = Some(variants);
        Err(value::Error::custom("only the names are wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
        Err(value::Error::custom("no enumeration"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

fn variants<'de, T: Deserialize<'de>>() -> Vec<(usize, &'static str)> {
    let mut variants = Variants(None);
    let _ = T::deserialize(&mut variants);
    variants.0.expect("an enumeration").iter().copied().enumerate().collect()
}

/// Number and name in each row's first two cells.
fn named(rows: &[Vec<&'static str>]) -> Vec<(usize, &'static str)> {
    rows.iter().map(|row| (row[0].parse().unwrap_or_else(|_| panic!("{row:?}")), row[1])).collect()
}

/// `0 none, 1 want` in a cell, behind its last colon.
fn listed(cell: &str) -> Vec<(u8, String)> {
    let list = cell.rsplit(':').next().unwrap_or(cell);
    let entry = |entry: &str| {
        let (number, name) = entry.trim().split_once(' ').unwrap_or_else(|| panic!("{cell:?}"));
        (number.parse().unwrap_or_else(|_| panic!("{cell:?}")), name.to_owned())
    };
    list.split(", ").map(entry).collect()
}

/// `inactive 0, joining 1` in the text between two words.
fn told(text: &str, from: &str, to: &str) -> Vec<(usize, String)> {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from:?}"));
    let entry = |entry: &str| {
        let (name, number) = entry.trim().rsplit_once(' ').unwrap();
        (number.parse().unwrap(), name.replace('-', ""))
    };
    rest.split_once(to).unwrap().0.split(", ").map(entry).collect()
}

fn lower(variants: Vec<(usize, &'static str)>) -> Vec<(usize, String)> {
    variants.into_iter().map(|(number, name)| (number, name.to_lowercase())).collect()
}

#[test]
fn messages_and_items_have_their_numbers_and_names() {
    let membership = table("## Membership messages", "| no.");
    assert_eq!(named(&membership), variants::<quorate_membership::message::Message>());
    let groups = table("## Group services", "| number | message");
    assert_eq!(named(&groups), variants::<quorate_groups::message::Message<'_>>());
    let items = table("## Group services", "| number | item");
    assert_eq!(named(&items), variants::<quorate_groups::item::Item<'_>>());
    let text = section("## Membership messages");
    let states = told(text, "States: ", ", as enumeration numbers");
    assert_eq!(states, lower(variants::<NodeState>()));
    assert_eq!(told(text, "transitions: ", ".\n"), lower(variants::<Transition>()));
}

#[test]
fn kinds_channels_and_states_have_their_numbers() {
    let name = |kind: Kind| match kind {
        Kind::Superblock => "superblock",
        Kind::Config => "configuration",
        Kind::Identity => "identity",
        Kind::Heartbeat => "heartbeat",
        Kind::Ballot => "ballot",
        Kind::Domain => "domains",
        Kind::Kernel => "kernel",
    };
    let kinds =
        [Kind::Superblock, Kind::Config, Kind::Identity, Kind::Heartbeat, Kind::Ballot, Kind::Domain, Kind::Kernel];
    let frame = table("### The frame of every record", "| at");
    let row = frame.iter().find(|row| row[2].starts_with("kind:")).unwrap();
    let kinds = kinds.map(|kind| (kind as u8, name(kind).to_owned()));
    assert_eq!(listed(row[2]), kinds);

    let channel = table("### Envelope", "| at").into_iter().find(|row| row[2].starts_with("channel:")).unwrap();
    let (list, _) = channel[2].split_once(';').unwrap();
    let channels = [
        (Channel::Heartbeat as u8, "heartbeat".to_owned()),
        (Channel::Membership as u8, "membership".to_owned()),
        (Channel::Groups as u8, "group services".to_owned()),
    ];
    assert_eq!(listed(list), channels);

    let heartbeat = table("### Heartbeat (kind 4)", "| at");
    let flags: Vec<(u8, String)> = (0..3).map(|n| (n, Flag::from_u8(n).unwrap().name().to_owned())).collect();
    assert_eq!((listed(heartbeat[1][2]), Flag::from_u8(3)), (flags, None));
    let states: Vec<(u8, String)> = (0..5).map(|n| (n, NodeState::from_u8(n).unwrap().name().to_owned())).collect();
    assert_eq!((listed(heartbeat[2][2]), NodeState::from_u8(5)), (states.clone(), None));
    assert_eq!(listed(table("### Heartbeat (channel 0, to all)", "| at")[0][2]), states);
}

const CLUSTER: ClusterId = ClusterId(*b"0123456789abcdef");

fn node(n: u8) -> NodeId {
    NodeId::new(n).unwrap()
}

/// A sum as a table has it, `48 + 56*k*`, for values of its letters.
fn sum(cell: &str, letters: &[(&str, usize)]) -> usize {
    let term = |term: &str| {
        let (factor, letter) = term.split_once('*').unwrap_or((term, ""));
        let factor = if factor.is_empty() { 1 } else { factor.parse().unwrap_or_else(|_| panic!("{cell:?}")) };
        let value = letters.iter().find(|(name, _)| letter.trim_end_matches('*') == *name).map(|(_, value)| *value);
        factor * if letter.is_empty() { 1 } else { value.unwrap_or_else(|| panic!("{cell:?}")) }
    };
    cell.split(" + ").map(term).sum()
}

/// A field by a word of its row, with what the bytes have in it.
type Field<'a> = (&'a str, &'a [u8]);

/// Each row names a field, from byte `next` on without a gap, and the bytes have the field there. Gives where the last ends.
fn assert_rows(
    rows: &[Vec<&str>],
    bytes: &[u8],
    mut next: usize,
    letters: &[(&str, usize)],
    fields: &[Field<'_>],
) -> usize {
    assert_eq!(rows.len(), fields.len(), "as many rows as fields: {rows:?}");
    for (row, (word, field)) in rows.iter().zip(fields) {
        let at = sum(row[0], letters);
        let length = match row[1] {
            "" => bytes.len() - at,
            length => length.trim_end_matches(" each").split(" × ").map(|n| sum(n, letters)).product(),
        };
        assert!(row[2] == *word || *word != "0" && row[2].contains(word), "{row:?} is not {word:?}");
        assert_eq!(at, next, "{row:?}, without a gap");
        assert_eq!(bytes[at..at + length], **field, "{row:?}");
        next = at + length;
    }
    next
}

/// The same for all rows of the table of a record's own fields; what follows them is zeros.
fn assert_fields(heading: &str, raw: &Raw, fields: &[Field<'_>]) {
    let end = assert_rows(&table(heading, "| at"), raw, 32, &[], fields);
    assert!(raw[end..].iter().all(|byte| *byte == 0), "{heading}: nothing but zeros from {end} on");
}

/// Text and zeros up to `length`.
fn padded(text: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.resize(length, 0);
    bytes
}

#[test]
fn every_record_has_the_frame_that_is_said() {
    let raw = NodeConfig::named(Name::new("x").unwrap()).encode(CLUSTER, node(2));
    let slot = DomainBlock::default().encode(CLUSTER, node(63), 1);
    for (raw, kind, node, slot) in [(raw, 2, 2, 0), (slot, 6, 63, 1)] {
        let fields: [Field<'_>; 9] = [
            ("QRDB", b"QRDB"),
            ("format version: 1", &[1, 0]),
            ("kind", &[kind]),
            ("node id", &[node]),
            ("cluster id", &CLUSTER.0),
            ("slot", &[slot]),
            ("0", &[0; 3]),
            ("CRC-32C", &sealed::checksum(&raw).to_le_bytes()),
            ("own fields", &raw[32..]),
        ];
        assert_eq!(assert_rows(&table("### The frame of every record", "| at"), &raw, 0, &[], &fields), raw.len());
    }
}

#[test]
fn the_superblock_has_its_fields_where_it_is_said() {
    let superblock = Superblock {
        generation: 0x0102_0304_0506_0708,
        cluster: CLUSTER,
        name: Name::new("alpha").unwrap(),
        timing: Timing::DEFAULT,
        nodes: 3,
        levels_max: 31,
        fence: FenceMethod::Reservation,
        preempted: Preempted::Ends,
        registrants: Registrants::Only,
        blanks: Blanks::Sealed,
        key: ClusterKey([0xc3; 32]),
        key_epoch: 0xe7,
    };
    let times: Vec<u8> = Timing::DEFAULT.entries().iter().flat_map(|(_, ms)| ms.to_le_bytes()).collect();
    let names: Vec<&str> = Timing::DEFAULT.entries().iter().map(|(name, _)| *name).collect();
    let fields: [Field<'_>; 15] = [
        ("generation", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("bytes of the name", &[5]),
        ("configured nodes", &[3]),
        ("places for nodes", &[64]),
        ("levels", &[31]),
        ("distance between records", &4096_u32.to_le_bytes()),
        ("1 reservation", &[1]),
        ("1 ends", &[1]),
        ("1 one of them", &[1]),
        ("1 a sealed record", &[1]),
        ("0", &[0; 4]),
        (&names.join(", "), &times),
        ("the cluster's name", &padded(b"alpha", 32)),
        ("cluster key", &[0xc3; 32]),
        ("key epoch", &[0xe7]),
    ];
    assert_fields("### Superblock (kind 1)", &superblock.encode(1), &fields);
}

#[test]
fn a_configuration_and_an_identity_have_their_fields_where_it_is_said() {
    let config = NodeConfig {
        name: Name::new("n-two").unwrap(),
        machine: MachineId { uuid: Some([0xa5; 16]), mac: Some([1, 2, 3, 4, 5, 6]) },
        boot: BootChoice::SlotB,
        on_shutdown: EndAction::Reset,
        on_panic: EndAction::BootAgain,
        weight: 9,
        enabled: true,
    };
    let fields: [Field<'_>; 10] = [
        ("bytes of the name", &[5]),
        ("0 has a UUID, 1 has a NIC address, 2 enabled", &[0b111]),
        ("1 that in slot B", &[1]),
        ("1 reset, 2 boot again", &[1]),
        ("any other end", &[2]),
        ("weight", &[9]),
        ("0", &[0; 2]),
        ("name", &padded(b"n-two", 32)),
        ("UUID", &[0xa5; 16]),
        ("NIC address", &[1, 2, 3, 4, 5, 6]),
    ];
    assert_fields("### Node configuration (kind 2)", &config.encode(CLUSTER, node(2)), &fields);

    let identity = Identity {
        incarnation: Incarnation(0x0403_0201),
        nonce: BootNonce(0x1122_3344_5566_7788),
        machine: MachineId { uuid: Some([0xa5; 16]), mac: Some([1, 2, 3, 4, 5, 6]) },
        nexus_reset: true,
    };
    let fields: [Field<'_>; 6] = [
        ("incarnation", &[1, 2, 3, 4]),
        ("0 has a UUID, 1 has a NIC address, 2 the nexus reset", &[0b111]),
        ("0", &[0; 3]),
        ("boot nonce", &0x1122_3344_5566_7788_u64.to_le_bytes()),
        ("UUID", &[0xa5; 16]),
        ("NIC address", &[1, 2, 3, 4, 5, 6]),
    ];
    assert_fields("### Identity (kind 3, two slots)", &identity.encode(CLUSTER, node(2), 1), &fields);
}

#[test]
fn a_heartbeat_block_has_its_fields_where_it_is_said() {
    let heartbeat = Heartbeat {
        incarnation: Incarnation(0x0403_0201),
        nonce: BootNonce(0x1122_3344_5566_7788),
        counter: 0x99,
        flag: Flag::Hold,
        state: NodeState::Leaving,
        frozen: false,
        clean: true,
        carrier: true,
        hears: NodeSet::first(3),
        committed: ViewName { ballot: Ballot(0x42), number: 5 },
        frame_floor: 0x1_0000,
        lamport: 0x77,
    };
    let fields: [Field<'_>; 12] = [
        ("incarnation", &[1, 2, 3, 4]),
        ("flag of the master lock", &[2]),
        ("overall state", &[3]),
        ("0 frozen, 1 clean, 2 the NIC has a link", &[0b110]),
        ("0", &[0]),
        ("boot nonce", &0x1122_3344_5566_7788_u64.to_le_bytes()),
        ("counter", &0x99_u64.to_le_bytes()),
        ("hears", &0b111_u64.to_le_bytes()),
        ("ballot", &0x42_u64.to_le_bytes()),
        ("number", &5_u64.to_le_bytes()),
        ("frame-counter floor", &0x1_0000_u64.to_le_bytes()),
        ("Lamport clock", &0x77_u64.to_le_bytes()),
    ];
    assert_fields("### Heartbeat (kind 4)", &heartbeat.encode(CLUSTER, node(2)), &fields);
}

#[test]
fn a_ballot_block_has_its_fields_where_it_is_said() {
    let mut before = View::empty(4);
    before.set(node(0), NodeState::Joined, Incarnation(3));
    before.set(node(1), NodeState::Inactive, Incarnation(200));
    let mut view = before.clone();
    view.number = 5;
    view.set(node(1), NodeState::Joining, Incarnation(500));
    view.set(node(63), NodeState::ForcedLeaving, Incarnation(1));
    let block = BallotBlock {
        incarnation: Incarnation(0x0403_0201),
        nonce: BootNonce(0x1122_3344_5566_7788),
        sequence: 12,
        promised: Ballot(0x82),
        accepted: Ballot(0x42),
        view: view.clone(),
        predecessor: Predecessor { ballot: Ballot(0x41), view: before.clone() },
        lamport: 0x78,
    };
    let incarnations: Vec<u8> = NodeId::all().flat_map(|n| view.incarnation(n).0.to_le_bytes()).collect();
    // Node 2k in the low half of byte k.
    let states = |view: &View| -> Vec<u8> {
        (0..32).map(|k| view.state(node(2 * k)) as u8 | (view.state(node(2 * k + 1)) as u8) << 4).collect()
    };
    let (states, states_before) = (states(&view), states(&before));
    let fields: [Field<'_>; 14] = [
        ("incarnation", &[1, 2, 3, 4]),
        ("0", &[0; 4]),
        ("boot nonce", &0x1122_3344_5566_7788_u64.to_le_bytes()),
        ("sequence", &12_u64.to_le_bytes()),
        ("promised ballot", &0x82_u64.to_le_bytes()),
        ("accepted ballot", &0x42_u64.to_le_bytes()),
        ("number of the accepted view", &5_u64.to_le_bytes()),
        ("Lamport clock", &0x78_u64.to_le_bytes()),
        ("the view's incarnations", &incarnations),
        ("the view's states", &states),
        ("predecessor: ballot", &0x41_u64.to_le_bytes()),
        ("predecessor: states", &states_before),
        ("predecessor: nodes whose incarnation differs", &(1_u64 << 63 | 2).to_le_bytes()),
        // 500 - 200, and 1 - 0.
        ("as shortest LEB128", &padded(&[0xac, 2, 1], 88)),
    ];
    let raw = block.encode(CLUSTER, node(2), 1).unwrap();
    assert_fields("### Ballot (kind 5, two slots)", &raw, &fields);
}

#[test]
fn copies_of_domains_and_a_kernel_have_their_fields_where_it_is_said() {
    let rows = table("### Domains (kind 6, two slots)", "| at");
    let (head, entry): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| !row[0].contains("*k*"));
    let domain = |name: &str, version: u32, deleted: bool| DomainEntry {
        name: name.try_into().unwrap(),
        birth: domain_block::Birth { order: 0x0102_0304_0506_0708, index: 0x090a },
        version,
        nodes: if deleted { NodeSet::default() } else { NodeSet::first(3) },
        behind: NodeSet::only(node(2)),
        deleted,
    };
    let mut block = DomainBlock { sequence: 5, ..DomainBlock::default() };
    block.entries.push(domain("payroll", 4, false)).unwrap();
    block.entries.push(domain("x", 9, true)).unwrap();
    let raw = block.encode(CLUSTER, node(2), 1);
    let fields: [Field<'_>; 3] = [("sequence", &[5, 0, 0, 0, 0, 0, 0, 0]), ("how many", &[2]), ("0", &[0; 7])];
    let mut next = assert_rows(&head, &raw, 32, &[], &fields);
    for (k, one) in block.entries.iter().enumerate() {
        let fields: [Field<'_>; 8] = [
            ("bytes of its name", &[one.name.len() as u8]),
            ("0 deleted", &[u8::from(one.deleted)]),
            ("place in the frame", &[0x0a, 9]),
            ("version", &one.version.to_le_bytes()),
            ("place of the frame", &[8, 7, 6, 5, 4, 3, 2, 1]),
            ("potential members", &one.nodes.0.to_le_bytes()),
            ("may not show this yet", &[4, 0, 0, 0, 0, 0, 0, 0]),
            ("name", &padded(one.name.as_bytes(), 24)),
        ];
        next = assert_rows(&entry, &raw, next, &[("k", k)], &fields);
    }
    assert!(raw[next..].iter().all(|byte| *byte == 0));

    let kernel = InstalledKernel {
        sequence: 3,
        bytes: 0x000b_2120,
        checksum: 0xe306_9283,
        version: "0.1.0".try_into().unwrap(),
        words: "groups=1".try_into().unwrap(),
    };
    let fields: [Field<'_>; 10] = [
        ("how often", &[3, 0, 0, 0, 0, 0, 0, 0]),
        ("bytes of the kernel", &[0x20, 0x21, 0x0b, 0]),
        ("CRC-32C", &[0x83, 0x92, 6, 0xe3]),
        ("bytes of the version", &[5]),
        ("zero", &[0]),
        ("bytes of the command line", &[8, 0]),
        ("zeros", &[0; 4]),
        ("version", &padded(b"0.1.0", 32)),
        ("words", &padded(b"groups=1", 256)),
        ("zeros", &[0; 168]),
    ];
    assert_fields("### Kernels (kind 7, two slots)", &kernel.encode(CLUSTER, node(2), KernelSlot::B), &fields);
}

#[test]
fn a_frame_and_its_heartbeat_have_their_fields_where_it_is_said() {
    let heartbeat = quorate_interconnect::Heartbeat {
        status: Status {
            state: NodeState::Leaving,
            frozen: true,
            carrier: false,
            ballot: Ballot(0x82),
            is_master: true,
            committed: ViewName { ballot: Ballot(0x42), number: 5 },
        },
        hears: NodeSet::first(3),
        first: false,
        halted: true,
    };
    let answers = [(node(1), BootNonce(0x1122)), (node(5), BootNonce(0x3344))];
    let payload = heartbeat.emit(answers.into_iter());
    let rows = table("### Heartbeat (channel 0, to all)", "| at");
    let (each, head) = rows.split_last().unwrap();
    let fields: [Field<'_>; 8] = [
        ("overall state", &[3]),
        (
            "0 frozen, 1 the NIC has a link, 2 the sender is the master under the ballot below, 3 first heartbeat of this boot, 4 halted",
            &[0b1_0101],
        ),
        ("0", &[0; 6]),
        ("hears", &0b111_u64.to_le_bytes()),
        ("highest ballot", &0x82_u64.to_le_bytes()),
        ("view that it knows: ballot", &0x42_u64.to_le_bytes()),
        ("number", &5_u64.to_le_bytes()),
        ("answers", &0b10_0010_u64.to_le_bytes()),
    ];
    let end = assert_rows(head, &payload, 0, &[], &fields);
    assert_eq!((sum(each[0], &[]), each[1]), (end, "8 each"));
    assert_eq!(payload[end..], [0x1122_u64.to_le_bytes(), 0x3344_u64.to_le_bytes()].concat());

    let (incarnation, nonce) = (Incarnation(0x0403_0201), BootNonce(0x1122_3344_5566_7788));
    let repr = envelope::Repr {
        epoch: 9,
        channel: Channel::Heartbeat,
        from: node(2),
        to: Destination::All,
        incarnation,
        nonce,
        cluster: CLUSTER,
        counter: 0x2122_2324_2526_2728,
        lamport: 0x3132_3334_3536_3738,
    };
    let key = seal::SealKey::derive(&ClusterKey([0xc3; 32]), node(2), incarnation, nonce);
    let mut datagram = [0; 1500];
    let length = repr.emit(&payload, &key, &mut datagram).unwrap();
    let datagram = &datagram[..length];
    let mut enciphered = payload.clone();
    let tag = key.seal(repr.counter, &datagram[..56], &mut enciphered).unwrap();
    let fields: [Field<'_>; 14] = [
        ("QRNT", b"QRNT"),
        ("protocol version: 2", &[2]),
        ("1 (sealed)", &[1]),
        ("0 heartbeat", &[0]),
        ("epoch", &[9]),
        ("from", &[2]),
        ("255 for all", &[255]),
        ("bytes of the payload", &(payload.len() as u16).to_le_bytes()),
        ("incarnation", &[1, 2, 3, 4]),
        ("boot nonce", &nonce.0.to_le_bytes()),
        ("cluster id", &CLUSTER.0),
        ("frame counter", &repr.counter.to_le_bytes()),
        ("Lamport clock", &repr.lamport.to_le_bytes()),
        ("payload, enciphered", &enciphered),
    ];
    let rows = table("### Envelope", "| at");
    let (last, rows) = rows.split_last().unwrap();
    let letters = [("n", payload.len())];
    let end = assert_rows(rows, datagram, 0, &letters, &fields);
    assert_eq!(assert_rows(std::slice::from_ref(last), datagram, end, &letters, &[("tag", &tag)]), length);
}

#[test]
fn records_stand_where_it_is_said() {
    let rows = table("### Where it stands", "| record");
    let place = |region: &str, n: u8, s: u8| -> u64 {
        let row = rows.iter().find(|row| row[1].starts_with(region)).unwrap_or_else(|| panic!("no {region}"));
        sum(row[0], &[("n", n.into()), ("s", s.into())]) as u64
    };
    for n in NodeId::all() {
        let id = n.get();
        assert_eq!(place("`config.`", id, 0), layout::config(n));
        assert_eq!(place("`heartbeat.`", id, 0), layout::heartbeat(n));
        for slot in [0, 1] {
            assert_eq!(place("`identity.`", id, slot), layout::identity(n, slot));
            assert_eq!(place("`ballot.`", id, slot), layout::ballot(n, slot));
            assert_eq!(place("`domain.`", id, slot), layout::domain(n, slot));
        }
    }
    assert_eq!([layout::superblock(0), layout::superblock(1)], [0, 1]);
    assert_eq!(rows[0][0], "0, 1");
}

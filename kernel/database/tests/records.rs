//! Every kind of record: golden bytes, round trips, damage of any kind, and each field's error.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{
    Ballot, BootNonce, ClusterId, DiskError, FenceMethod, Incarnation, NodeId, NodeSet, NodeState, Preempted,
    Registrants, Timing, View, ViewName,
};
use quorate_database::sealed::reseal;
use quorate_database::*;

const CLUSTER: ClusterId =
    ClusterId([0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f]);

fn node(n: u8) -> NodeId {
    NodeId::new(n).unwrap()
}

fn superblock() -> Superblock {
    Superblock {
        generation: 0x0102_0304_0506_0708,
        cluster: CLUSTER,
        name: Name::new("alpha").unwrap(),
        timing: Timing::DEFAULT,
        nodes: 3,
        levels_max: 32,
        fence: FenceMethod::Reservation,
        preempted: Preempted::Lingers,
        registrants: Registrants::All,
        blanks: Default::default(),
        key: ClusterKey([0xc3; 32]),
        key_epoch: 0xe7,
    }
}

fn config() -> NodeConfig {
    NodeConfig {
        name: Name::new("n-two").unwrap(),
        machine: MachineId { uuid: Some([0xa5; 16]), mac: Some([0x52, 0x54, 0, 0, 0, 2]) },
        boot: BootChoice::SlotB,
        on_shutdown: EndAction::Reset,
        on_panic: EndAction::BootAgain,
        weight: 9,
        enabled: true,
    }
}

fn identity() -> Identity {
    Identity {
        incarnation: Incarnation(7),
        nonce: BootNonce(0x1122_3344_5566_7788),
        machine: MachineId { uuid: None, mac: Some([1, 2, 3, 4, 5, 6]) },
        nexus_reset: true,
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        incarnation: Incarnation(7),
        nonce: BootNonce(0x1122_3344_5566_7788),
        counter: 0x99,
        flag: Flag::Hold,
        state: NodeState::Joined,
        frozen: false,
        clean: true,
        carrier: true,
        hears: NodeSet::first(3),
        committed: ViewName { ballot: Ballot(0x42), number: 5 },
        frame_floor: 0x1_0000,
        lamport: 0x77,
    }
}

fn ballot() -> BallotBlock {
    let mut before = View::EMPTY;
    before.number = 4;
    before.set(node(0), NodeState::Joined, Incarnation(3));
    before.set(node(1), NodeState::Inactive, Incarnation(200));
    let mut view = before.clone();
    view.number = 5;
    view.set(node(1), NodeState::Joining, Incarnation(500));
    view.set(node(63), NodeState::ForcedLeaving, Incarnation(1));
    BallotBlock {
        incarnation: Incarnation(7),
        nonce: BootNonce(0x1122_3344_5566_7788),
        sequence: 12,
        promised: Ballot(0x82),
        accepted: Ballot(0x42),
        view,
        predecessor: Predecessor { ballot: Ballot(0x41), view: before },
        lamport: 0x78,
    }
}

/// Compares everything outside the checksum with fields given as (offset, bytes); all else is zeros.
fn assert_golden(raw: &Raw, head: &[u8; 8], slot: u8, fields: &[(usize, &[u8])], checksum: u32) {
    let mut want = [0u8; RECORD_BYTES];
    want[..8].copy_from_slice(head);
    want[8..24].copy_from_slice(&CLUSTER.0);
    want[24] = slot;
    for (at, bytes) in fields {
        want[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    want[28..32].copy_from_slice(&checksum.to_le_bytes());
    for (at, (a, b)) in raw.iter().zip(&want).enumerate() {
        assert_eq!(a, b, "byte {at}; checksum {:02x?}", &raw[28..32]);
    }
}

#[test]
fn golden_superblock() {
    let timing: Vec<u8> =
        [100u32, 400, 200, 400, 200, 800, 1200, 30_000].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_golden(
        &superblock().encode(1),
        b"QRDB\x01\0\x01\xff",
        1,
        &[
            (32, &[8, 7, 6, 5, 4, 3, 2, 1]),
            (40, &[5, 3, 64, 32, 0x00, 0x10, 0, 0, 1]),
            (56, &timing),
            (88, b"alpha"),
            (120, &[0xc3; 32]),
            (152, &[0xe7]),
        ],
        0xb9d0_a422,
    );
    // What the disk makes of a preemption has zeros for what was assumed before there was a byte for it.
    let told = Superblock { preempted: Preempted::Ends, registrants: Registrants::Only, ..superblock() };
    assert_eq!(told.encode(1)[48..56], [1, 1, 1, 0, 0, 0, 0, 0]);
    let sealed = Superblock { blanks: Blanks::Sealed, ..superblock() };
    assert_eq!(sealed.encode(1)[51..56], [1, 0, 0, 0, 0]);
}

#[test]
fn a_sealed_blank_is_blank_in_its_own_place_only_and_zeros_are_none_beside_it() {
    let zeros = [0; RECORD_BYTES];
    let found = |blanks: Blanks, raw: &Raw, at: u64| {
        fn verdict<T>(block: Block<T>) -> Block<()> {
            block.and_then(|_| Ok(()))
        }
        match Region::of(at) {
            Region::Identity(n, slot) => verdict(blanks.judge(raw, Identity::decode(raw, CLUSTER, n, slot))),
            Region::Heartbeat(n) => verdict(blanks.judge(raw, Heartbeat::decode(raw, CLUSTER, n))),
            Region::Ballot(n, slot) => verdict(blanks.judge(raw, BallotBlock::decode(raw, CLUSTER, n, slot))),
            other => panic!("no node writes {other} in its life"),
        }
    };
    assert_eq!(Blanks::Zeros.records(CLUSTER, 3).count(), 0);
    let all: Vec<(u64, Raw)> = Blanks::Sealed.records(CLUSTER, 3).collect();
    let places: BTreeSet<u64> = all.iter().map(|(at, _)| *at).collect();
    assert_eq!((all.len(), places.len()), (15, 15));
    for (at, raw) in &all {
        assert_eq!(found(Blanks::Sealed, &zeros, *at), Block::Damaged(RecordError::Zeros));
        assert_eq!(found(Blanks::Zeros, &zeros, *at), Block::Blank);
        for (from, other) in &all {
            let want = if from == at { Block::Blank } else { Block::Damaged(RecordError::Misplaced) };
            assert_eq!(found(Blanks::Sealed, other, *at), want);
            assert_eq!(found(Blanks::Sealed, other, *at).is_hidden(), from != at);
        }
        let mut torn = *raw;
        torn[5] ^= 1;
        assert_eq!(found(Blanks::Sealed, &torn, *at), Block::Damaged(RecordError::Checksum));
    }
    assert!(found(Blanks::Sealed, &zeros, layout::heartbeat(node(0))).is_hidden());
    assert_eq!(Blanks::Zeros.record(CLUSTER, Heartbeat::place(node(0))), zeros);
}

#[test]
fn golden_config() {
    assert_golden(
        &config().encode(CLUSTER, node(2)),
        b"QRDB\x01\0\x02\x02",
        0,
        &[(32, &[5, 7, 1, 1, 2, 9]), (40, b"n-two"), (72, &[0xa5; 16]), (88, &[0x52, 0x54, 0, 0, 0, 2])],
        0x0fac_6a1f,
    );
}

#[test]
fn golden_identity() {
    assert_golden(
        &identity().encode(CLUSTER, node(2), 1),
        b"QRDB\x01\0\x03\x02",
        1,
        &[(32, &[7, 0, 0, 0, 6]), (40, &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]), (64, &[1, 2, 3, 4, 5, 6])],
        0xf6df_f3b4,
    );
}

#[test]
fn golden_heartbeat() {
    assert_golden(
        &heartbeat().encode(CLUSTER, node(2)),
        b"QRDB\x01\0\x04\x02",
        0,
        &[
            (32, &[7, 0, 0, 0, 2, 2, 6]),
            (40, &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]),
            (48, &[0x99]),
            (56, &[7]),
            (64, &[0x42]),
            (72, &[5]),
            (80, &[0, 0, 1]),
            (88, &[0x77]),
        ],
        0x43d4_833c,
    );
}

#[test]
fn golden_ballot() {
    assert_golden(
        &ballot().encode(CLUSTER, node(2), 1).unwrap(),
        b"QRDB\x01\0\x05\x02",
        1,
        &[
            (32, &[7]),
            (40, &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]),
            (48, &[12]),
            (56, &[0x82]),
            (64, &[0x42]),
            (72, &[5]),
            (80, &[0x78]),
            (88, &[3, 0, 0, 0, 0xf4, 1]),
            (88 + 4 * 63, &[1]),
            (344, &[0x12]),
            (344 + 31, &[0x40]),
            (376, &[0x41]),
            (384, &[0x02]),
            (416, &[2, 0, 0, 0, 0, 0, 0, 0x80]),
            (424, &[0xac, 0x02, 0x01]),
        ],
        0x8479_2fbf,
    );
}

/// All records with a decoder that says whether the bytes are good.
type Judge = (&'static str, Raw, fn(&[u8]) -> Result<(), RecordError>);

fn verdict<T>(block: Block<T>) -> Result<(), RecordError> {
    match block {
        Block::Good(_) | Block::Blank => Ok(()),
        Block::Damaged(e) => Err(e),
        Block::Unread | Block::Unreadable(_) => unreachable!("a decoder reads"),
    }
}

fn kinds() -> [Judge; 5] {
    [
        ("superblock", superblock().encode(1), |b| verdict(Superblock::decode(b, 1))),
        ("config", config().encode(CLUSTER, node(2)), |b| verdict(NodeConfig::decode(b, CLUSTER, node(2)))),
        ("identity", identity().encode(CLUSTER, node(2), 1), |b| verdict(Identity::decode(b, CLUSTER, node(2), 1))),
        ("heartbeat", heartbeat().encode(CLUSTER, node(2)), |b| verdict(Heartbeat::decode(b, CLUSTER, node(2)))),
        ("ballot", ballot().encode(CLUSTER, node(2), 1).unwrap(), |b| {
            verdict(BallotBlock::decode(b, CLUSTER, node(2), 1))
        }),
    ]
}

#[test]
fn every_bit_flip_is_detected_in_every_kind() {
    for (name, raw, judge) in kinds() {
        assert_eq!(judge(&raw), Ok(()), "{name}");
        for bit in 0..RECORD_BYTES * 8 {
            let mut flipped = raw;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(judge(&flipped).is_err(), "{name} bit {bit}");
        }
    }
}

#[test]
fn no_kind_is_taken_for_another() {
    for (a, raw, _) in kinds() {
        for (b, _, judge) in kinds() {
            let got = judge(&raw);
            assert_eq!(got, if a == b { Ok(()) } else { Err(RecordError::Misplaced) }, "{a} read as {b}");
        }
    }
}

#[test]
fn another_node_slot_or_cluster_is_refused() {
    let raw = ballot().encode(CLUSTER, node(2), 1).unwrap();
    let misplaced = Block::Damaged(RecordError::Misplaced);
    assert_eq!(BallotBlock::decode(&raw, CLUSTER, node(3), 1), misplaced);
    assert_eq!(BallotBlock::decode(&raw, CLUSTER, node(2), 0), misplaced);
    assert_eq!(BallotBlock::decode(&raw, ClusterId([0; 16]), node(2), 1), Block::Damaged(RecordError::ForeignCluster));
    assert_eq!(Superblock::decode(&superblock().encode(0), 1), Block::Damaged(RecordError::Misplaced));
}

/// The field's name in the error that a sealed record with that byte gives.
fn field_error(kind: &str, at: usize, byte: u8) -> RecordError {
    let (_, mut raw, judge) = kinds().into_iter().find(|k| k.0 == kind).unwrap();
    raw[at] = byte;
    reseal(&mut raw);
    judge(&raw).unwrap_err()
}

#[test]
fn each_field_that_cannot_be_is_named() {
    for (kind, at, byte, field) in [
        ("superblock", 40, 33, "name"),
        ("superblock", 40, 0, "name"),
        ("superblock", 40, 4, "name"),
        ("superblock", 88, 0xff, "name"),
        ("superblock", 88, b'\n', "name"),
        ("superblock", 41, 0, "nodes"),
        ("superblock", 41, 65, "nodes"),
        ("superblock", 42, 65, "nodes_max"),
        ("superblock", 43, 33, "levels_max"),
        ("superblock", 43, 0, "levels_max"),
        ("superblock", 44, 1, "record_pitch"),
        ("superblock", 48, 2, "fence"),
        ("superblock", 49, 2, "preempted"),
        ("superblock", 50, 2, "registrants"),
        ("superblock", 51, 2, "blanks"),
        ("superblock", 52, 1, "reserved"),
        ("superblock", 511, 1, "reserved"),
        ("config", 33, 8, "bits"),
        ("config", 33, 5, "mac"),
        ("config", 33, 6, "uuid"),
        ("config", 34, 3, "boot"),
        ("config", 35, 3, "on_shutdown"),
        ("config", 36, 3, "on_panic"),
        ("config", 39, 1, "reserved"),
        ("config", 94, 1, "reserved"),
        ("identity", 32, 0, "incarnation"),
        ("identity", 36, 8, "bits"),
        ("identity", 50, 1, "uuid"),
        ("identity", 38, 1, "reserved"),
        ("identity", 70, 1, "reserved"),
        ("heartbeat", 36, 3, "flag"),
        ("heartbeat", 37, 5, "state"),
        ("heartbeat", 38, 8, "bits"),
        ("heartbeat", 39, 1, "reserved"),
        ("heartbeat", 96, 1, "reserved"),
        ("ballot", 36, 1, "reserved"),
        ("ballot", 350, 0x50, "state"),
        ("ballot", 390, 0x05, "state"),
        ("ballot", 416, 3, "undo"),
        ("ballot", 425, 0, "undo"),
        ("ballot", 425, 0x82, "undo"),
        ("ballot", 426, 0, "undo"),
        ("ballot", 511, 1, "undo"),
    ] {
        assert_eq!(field_error(kind, at, byte), RecordError::Field(field), "{kind} byte {at} = {byte}");
    }
}

#[test]
fn an_incarnation_change_over_32_bits_is_refused() {
    let mut raw = ballot().encode(CLUSTER, node(2), 1).unwrap();
    raw[424..430].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x1f, 1]);
    reseal(&mut raw);
    assert_eq!(BallotBlock::decode(&raw, CLUSTER, node(2), 1), Block::Damaged(RecordError::Field("undo")));
    raw[428] = 0x0f;
    reseal(&mut raw);
    assert!(BallotBlock::decode(&raw, CLUSTER, node(2), 1).good().is_some());
}

#[test]
fn timing_is_checked_where_it_is_loaded() {
    let mut s = superblock();
    assert_eq!(s.check_timing(), Ok(()));
    s.timing.lease = s.timing.dead;
    let Block::Good(back) = Superblock::decode(&s.encode(0), 0) else { panic!("decoding takes any time-outs") };
    assert!(back.check_timing().is_err());
}

#[test]
fn the_newer_superblock_counts_and_a_lost_copy_does_not_matter() {
    let (a, mut b) = (superblock(), superblock());
    b.generation += 1;
    let good = |s: &Superblock| Block::Good(s.clone());
    let bad = || Block::<Superblock>::Damaged(RecordError::Checksum);
    assert_eq!(Superblock::newest([&good(&a), &good(&b)]), Ok(&b));
    assert_eq!(Superblock::newest([&good(&b), &good(&a)]), Ok(&b));
    assert_eq!(Superblock::newest([&bad(), &good(&a)]), Ok(&a));
    assert_eq!(Superblock::newest([&good(&a), &Block::Unreadable(DiskError::Medium)]), Ok(&a));
    assert_eq!(Superblock::newest([&bad(), &Block::Blank]), Err(SuperblockError::Damaged(RecordError::Checksum)));
    assert_eq!(
        Superblock::newest([&bad(), &Block::Damaged(RecordError::Version(9))]),
        Err(SuperblockError::Version(9))
    );
    assert_eq!(Superblock::newest([&Block::Blank, &Block::Blank]), Err(SuperblockError::Blank));
    assert_eq!(
        Superblock::newest([&bad(), &Block::Unreadable(DiskError::Gone)]),
        Err(SuperblockError::Unreadable(DiskError::Gone))
    );
    b.cluster = ClusterId([1; 16]);
    assert_eq!(Superblock::newest([&good(&a), &good(&b)]), Err(SuperblockError::TwoClusters));
}

#[test]
fn the_later_life_counts_and_unknown_is_never_taken_for_never() {
    let life = |n| Identity { incarnation: Incarnation(n), ..identity() };
    let slot_of = |a: Block<Identity>, b: Block<Identity>| match Identity::last_life([&a, &b]) {
        LastLife::Known { slot, identity, doubtful } => Some((slot, identity.incarnation.0, doubtful)),
        LastLife::Never => None,
        LastLife::Unknown => Some((9, 0, true)),
    };
    let bad = || Block::Damaged(RecordError::Checksum);
    assert_eq!(slot_of(Block::Blank, Block::Blank), None);
    assert_eq!(slot_of(Block::Good(life(1)), Block::Blank), Some((0, 1, false)));
    assert_eq!(slot_of(Block::Good(life(1)), Block::Good(life(2))), Some((1, 2, false)));
    assert_eq!(slot_of(Block::Good(life(3)), Block::Good(life(2))), Some((0, 3, false)));
    assert_eq!(slot_of(bad(), Block::Good(life(2))), Some((1, 2, true)));
    assert_eq!(slot_of(Block::Good(life(2)), Block::Unread), Some((0, 2, true)));
    assert_eq!(slot_of(bad(), Block::Blank), Some((9, 0, true)));
    assert_eq!(slot_of(Block::Unreadable(DiskError::Medium), bad()), Some((9, 0, true)));
}

#[test]
fn the_later_ballot_slot_counts() {
    let head = |sequence| Block::Good(BallotHead { sequence, ..BallotHead::default() });
    assert_eq!(newer_slot([&head(4), &head(5)]), Some(1));
    assert_eq!(newer_slot([&head(6), &head(5)]), Some(0));
    assert_eq!(newer_slot([&Block::Damaged(RecordError::Checksum), &head(5)]), Some(1));
    assert_eq!(newer_slot([&head(5), &Block::Blank]), Some(0));
    assert_eq!(newer_slot([&Block::Blank, &Block::Unread]), None);
}

#[test]
fn all_64_nodes_may_change_at_once_if_each_by_little() {
    let mut b = BallotBlock::default();
    b.view.number = 1;
    for n in NodeId::all() {
        b.view.set(n, NodeState::Joining, Incarnation(127));
    }
    assert!(fits(&b.view, &b.predecessor));
    let raw = b.encode(CLUSTER, node(0), 0).unwrap();
    assert_eq!(BallotBlock::decode(&raw, CLUSTER, node(0), 0), Block::Good(b.clone()));
    // 24 spare bytes: 24 of the nodes may need two bytes, not 25.
    for n in NodeId::first(24) {
        b.view.set(n, NodeState::Joining, Incarnation(128));
    }
    assert!(fits(&b.view, &b.predecessor) && b.encode(CLUSTER, node(0), 0).is_ok());
    b.view.set(node(24), NodeState::Joining, Incarnation(128));
    assert!(!fits(&b.view, &b.predecessor));
    assert_eq!(b.encode(CLUSTER, node(0), 0), Err(TooManyChanges));
}

#[test]
fn a_machine_is_found_by_uuid_or_address_and_never_twice() {
    let named = |n: u8, uuid, mac| {
        let config = NodeConfig { machine: MachineId { uuid, mac }, ..config() };
        (node(n), config)
    };
    let all = [
        named(0, Some([1; 16]), None),
        named(1, None, Some([2; 6])),
        named(2, Some([3; 16]), Some([3; 6])),
        named(3, None, None),
    ];
    let find = |uuid, mac| find_node(all.iter().map(|(n, c)| (*n, c)), uuid, mac);
    assert_eq!(find(Some([1; 16]), Some([9; 6])), Ok(node(0)));
    assert_eq!(find(None, Some([2; 6])), Ok(node(1)));
    assert_eq!(find(Some([3; 16]), Some([3; 6])), Ok(node(2)));
    assert_eq!(find(Some([1; 16]), Some([2; 6])), Err(FindError::Ambiguous(node(0), node(1))));
    assert_eq!(find(Some([9; 16]), None), Err(FindError::NotConfigured));
    assert_eq!(find(None, None), Err(FindError::NotConfigured));
}

#[test]
fn smbios_uuids_are_turned_into_the_order_of_their_text() {
    let raw = [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    let text = [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    assert_eq!(MachineId::uuid_from_smbios(raw), Some(text));
    assert_eq!(MachineId::uuid_from_smbios([0; 16]), None);
    assert_eq!(MachineId::uuid_from_smbios([0xff; 16]), None);
}

#[test]
fn the_key_does_not_get_into_a_log() {
    assert!(!format!("{:?}", superblock()).contains("195"));
}

fn any_state() -> impl Strategy<Value = NodeState> {
    (0u8..5).prop_map(|n| NodeState::from_u8(n).unwrap())
}

fn any_name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9 äß._-]{1,16}".prop_map(|s| Name::new(&s).unwrap())
}

fn any_machine() -> impl Strategy<Value = MachineId> {
    any::<(Option<[u8; 16]>, Option<[u8; 6]>)>().prop_map(|(uuid, mac)| MachineId { uuid, mac })
}

prop_compose! {
    fn any_view(number: u64)(nodes in prop::collection::vec((any_state(), any::<u32>()), 64)) -> View {
        let mut view = View::EMPTY;
        view.number = number;
        for (n, (state, inc)) in NodeId::all().zip(nodes) {
            view.set(n, state, Incarnation(inc));
        }
        view
    }
}

prop_compose! {
    fn any_ballot()(
        words in any::<[u64; 6]>(),
        inc in any::<u32>(),
        number in prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>()],
    )(
        words in Just(words),
        inc in Just(inc),
        before in any_view(number.saturating_sub(1)),
        changes in prop::collection::vec((0u8..64, any_state(), any::<u32>()), 0..20),
        number in Just(number),
    ) -> BallotBlock {
        let mut view = before.clone();
        view.number = number;
        for (n, state, inc) in changes {
            view.set(node(n), state, Incarnation(inc));
        }
        BallotBlock {
            incarnation: Incarnation(inc),
            nonce: BootNonce(words[0]),
            sequence: words[1],
            promised: Ballot(words[2]),
            accepted: Ballot(words[3]),
            view,
            predecessor: Predecessor { ballot: Ballot(words[4]), view: before },
            lamport: words[5],
        }
    }
}

proptest! {
    #[test]
    fn a_ballot_survives_or_does_not_fit(b in any_ballot(), n in 0u8..64, slot in 0u8..2) {
        let raw = b.encode(CLUSTER, node(n), slot);
        prop_assert_eq!(raw.is_ok(), fits(&b.view, &b.predecessor));
        if let Ok(raw) = raw {
            prop_assert_eq!(BallotBlock::decode_head(&raw, CLUSTER, node(n), slot), Block::Good(b.head()));
            prop_assert_eq!(BallotBlock::decode(&raw, CLUSTER, node(n), slot), Block::Good(b));
        }
    }

    #[test]
    fn a_heartbeat_survives(words in any::<[u64; 7]>(), inc in any::<u32>(), bits in any::<[bool; 3]>(),
                            flag in 0u8..3, state in any_state(), n in 0u8..64) {
        let h = Heartbeat {
            incarnation: Incarnation(inc),
            nonce: BootNonce(words[0]),
            counter: words[1],
            flag: Flag::from_u8(flag).unwrap(),
            state,
            frozen: bits[0],
            clean: bits[1],
            carrier: bits[2],
            hears: NodeSet(words[2]),
            committed: ViewName { ballot: Ballot(words[3]), number: words[4] },
            frame_floor: words[5],
            lamport: words[6],
        };
        prop_assert_eq!(Heartbeat::decode(&h.encode(CLUSTER, node(n)), CLUSTER, node(n)), Block::Good(h));
    }

    #[test]
    fn an_identity_survives(inc in 1u32.., nonce in any::<u64>(), machine in any_machine(),
                            nexus_reset in any::<bool>(), n in 0u8..64, slot in 0u8..2) {
        let i = Identity { incarnation: Incarnation(inc), nonce: BootNonce(nonce), machine, nexus_reset };
        prop_assert_eq!(Identity::decode(&i.encode(CLUSTER, node(n), slot), CLUSTER, node(n), slot), Block::Good(i));
    }

    #[test]
    fn a_config_survives(name in any_name(), machine in any_machine(), choices in (0u8..3, 0u8..3, 0u8..3),
                         weight in any::<u8>(), enabled in any::<bool>(), n in 0u8..64) {
        let c = NodeConfig {
            name,
            machine,
            boot: BootChoice::from_u8(choices.0).unwrap(),
            on_shutdown: EndAction::from_u8(choices.1).unwrap(),
            on_panic: EndAction::from_u8(choices.2).unwrap(),
            weight,
            enabled,
        };
        prop_assert_eq!(NodeConfig::decode(&c.encode(CLUSTER, node(n)), CLUSTER, node(n)), Block::Good(c));
    }

    #[test]
    fn a_superblock_survives(generation in any::<u64>(), cluster in any::<[u8; 16]>(), name in any_name(),
                             ms in any::<[u32; 8]>(), nodes in 1u8..=64, levels_max in 1u8..=32,
                             [reservation, ends, only] in any::<[bool; 3]>(), key in any::<[u8; 32]>(), copy in 0u8..2) {
        let s = Superblock {
            generation,
            cluster: ClusterId(cluster),
            name,
            timing: Timing {
                net_heartbeat: ms[0], net_suspect: ms[1], disk_heartbeat: ms[2], disk_suspect: ms[3],
                io_max: ms[4], lease: ms[5], dead: ms[6], outage_grace: ms[7],
            },
            nodes,
            levels_max,
            fence: if reservation { FenceMethod::Reservation } else { FenceMethod::Lease },
            preempted: if ends { Preempted::Ends } else { Preempted::Lingers },
            registrants: if only { Registrants::Only } else { Registrants::All },
            blanks: Default::default(),
            key: ClusterKey(key),
            key_epoch: 0,
        };
        prop_assert_eq!(Superblock::decode(&s.encode(copy), copy), Block::Good(s));
    }

    /// Any bytes, of any length, also under a valid frame: no panic; what is accepted is exactly what would be written.
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0usize..5,
                                            keep in 32usize..512, sealed in any::<bool>()) {
        for (_, _, judge) in kinds() {
            let _ = judge(&bytes);
        }
        let _ = BallotBlock::decode_head(&bytes, CLUSTER, node(2), 1);
        let (_, mut raw, judge) = kinds()[kind];
        for (to, from) in raw[keep..].iter_mut().zip(&bytes) {
            *to = *from;
        }
        if sealed {
            reseal(&mut raw);
        }
        let _ = judge(&raw);
        let head = BallotBlock::decode_head(&raw, CLUSTER, node(2), 1);
        match BallotBlock::decode(&raw, CLUSTER, node(2), 1) {
            Block::Good(b) => {
                prop_assert_eq!(b.encode(CLUSTER, node(2), 1), Ok(raw));
                prop_assert_eq!(head, Block::Good(b.head()));
            }
            Block::Damaged(e) => prop_assert_eq!(head, Block::Damaged(e)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

//! The feed's promises: what is signed opens, what is touched does not, and the bytes never move.

use proptest::prelude::*;

use super::*;
use crate::rendition::Kind;

fn signer() -> Signer {
    Signer::from_seed([7; 32])
}

fn session() -> Session {
    Session {
        stream: "demo".parse().expect("a name"),
        broadcast: 3,
        session: SessionNumber(5),
        first_msn: Msn(100),
        discontinuity_sequence: 4,
        part_target_us: 550_000,
        target_duration_s: 2,
        renditions: vec![Rendition {
            number: 0,
            id: "720p".parse().expect("an id"),
            kind: Kind::Video,
            codec: "avc1.64001f".into(),
            width: 1280,
            height: 720,
            fps: (30, 1),
            sample_rate: 0,
            channels: 0,
            bitrate: 2_500_000,
            stripes: 8,
            init_number: 1,
            init_length: 700,
            init_sha256: [9; 32],
        }],
    }
}

fn part(bytes: &[u8], stripes: u8) -> Part {
    let length = bytes.len() as u32;
    let piece_len = piece_len(length, stripes);
    Part {
        stream: "demo".parse().expect("a name"),
        session: SessionNumber(5),
        rendition: 0,
        msn: Msn(101),
        part: 2,
        flags: Flags { independent: true, ..Flags::default() },
        pts_us: 3_000_000,
        duration_us: 500_000,
        wall_clock_us: 1_790_000_000_000_000,
        length,
        piece_len,
        pieces: bytes.chunks(piece_len.into()).map(hash_piece).collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden_vectors_of_docs_protocol_md_stay_as_they_are() {
    let end = Record::End(End {
        stream: "demo".parse().expect("a name"),
        broadcast: 3,
        session: SessionNumber(5),
        next_msn: Msn(258),
    });
    let golden = include_str!("golden.txt");
    let records = [
        ("session", Record::Session(session())),
        ("part", Record::Part(part(&[1; 40], 4))),
        ("end", end),
    ];
    let now: String =
        records.iter().map(|(name, r)| format!("{name} {}\n", hex(&signer().sign(r)))).collect();
    assert_eq!(now, golden, "the wire format moved: that needs a new version and a new vector");
}

#[test]
fn another_key_a_touched_byte_or_a_cut_record_is_refused() {
    let bytes = signer().sign(&Record::Session(session()));
    let verifier = signer().verifier();
    assert_eq!(verifier.open(&bytes), Ok(Record::Session(session())));
    let other = Signer::from_seed([8; 32]).verifier();
    assert_eq!(other.open(&bytes), Err(FeedError::Signature));
    for i in 0..bytes.len() {
        let mut touched = bytes.clone();
        touched[i] ^= 1;
        assert!(verifier.open(&touched).is_err(), "byte {i} can be changed");
        assert!(verifier.open(&bytes[..i]).is_err(), "cut at {i} is accepted");
    }
}

#[test]
fn a_part_without_bytes_that_is_no_gap_is_refused() {
    let mut empty = part(&[1; 40], 4);
    empty.length = 0;
    empty.piece_len = 0;
    empty.pieces.clear();
    let open = |part: &Part| signer().verifier().open(&signer().sign(&Record::Part(part.clone())));
    assert_eq!(open(&empty), Err(FeedError::Value("length")));
    empty.flags = Flags { gap: true, last_of_segment: true, ..Flags::default() };
    empty.part = 0;
    assert_eq!(open(&empty), Ok(Record::Part(empty.clone())));
}

proptest! {
    #[test]
    fn every_stripe_carries_the_same_number_of_pieces(length in 1u32..2_000_000, stripes in 1u8..=16) {
        let len = u32::from(piece_len(length, stripes));
        prop_assert!(len > 0 && len <= crate::limit::PIECE_BYTES_MAX);
        let pieces = length.div_ceil(len);
        // Rounding up may leave the last row short when parts are tiny, never by a whole row.
        let rows = pieces.div_ceil(stripes.into());
        prop_assert_eq!(rows, length.div_ceil(u32::from(stripes) * crate::limit::PIECE_BYTES_MAX));
    }

    #[test]
    fn parts_survive_the_wire_and_match_only_their_bytes(bytes in prop::collection::vec(any::<u8>(), 1..60_000), stripes in 1u8..=8, flip in any::<prop::sample::Index>()) {
        let part = part(&bytes, stripes);
        let wire = signer().sign(&Record::Part(part.clone()));
        prop_assert_eq!(signer().verifier().open(&wire), Ok(Record::Part(part.clone())));
        prop_assert!(part.matches(&bytes));
        let mut wrong = bytes.clone();
        wrong[flip.index(bytes.len())] ^= 0x40;
        prop_assert!(!part.matches(&wrong));
        prop_assert!(!part.matches(&bytes[1..]));
    }

    #[test]
    fn random_bytes_never_panic_and_never_open(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(signer().verifier().open(&bytes).is_err());
    }
}

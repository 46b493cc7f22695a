//! Budgets, windows and header blocks.
use super::*;

const LIMITS: Limits = Limits {
    resets_per_second: 3,
    control_per_second: 4,
    window_updates_per_second: 5,
    block_bytes: 100,
    refused_streams: 10,
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A clock that stands still: budgets do not come back.
const fn now() -> Duration {
    Duration::ZERO
}

fn inbound() -> Inbound {
    let mut inbound = Inbound::new(&LIMITS, now());
    inbound.note(now, PREFACE).unwrap();
    inbound
}

/// How many of the same frame pass before there are too many of them, and what there is too much of.
fn passing(one: &[u8]) -> (usize, Flood) {
    let mut inbound = inbound();
    // Of streams that were opened, as a client would.
    inbound.note(now, &frame(1, 4, 1, &[0x82])).unwrap();
    for n in 0.. {
        if let Err(flood) = inbound.note(now, one) {
            return (n, flood);
        }
        assert!(n < 1000, "nothing ends it");
    }
    unreachable!()
}

#[test]
fn a_connection_begins_with_its_preface() {
    for (bytes, good) in
        [(PREFACE, true), (&PREFACE[..3], true), (b"GET / HTTP/1.1\r\n", false), (b"PRI * HTTP/2.1", false)]
    {
        let mut inbound = Inbound::new(&LIMITS, now());
        let noted = bytes.chunks(5).map(|piece| inbound.note(now, piece)).find(Result::is_err);
        assert_eq!(noted, (!good).then_some(Err(Flood::NoPreface)), "{bytes:?}");
    }
}

#[test]
fn each_kind_of_frame_has_a_budget() {
    let one = |kind, flags, stream, payload: &[u8]| passing(&frame(kind, flags, stream, payload));
    assert_eq!(one(3, 0, 1, &[0, 0, 0, 8]), (3, Flood::Resets));
    assert_eq!(one(6, 0, 0, &[0; 8]), (4, Flood::Pings));
    assert_eq!(one(4, 0, 0, &[]), (4, Flood::Settings));
    assert_eq!(one(4, 0, 0, &[0; 6 * 16]), (2, Flood::Settings), "many settings weigh as many frames");
    assert_eq!(one(2, 0, 1, &[0; 5]), (4, Flood::Priorities));
    assert_eq!(one(16, 0, 0, &[0, 0, 0, 1, b'u']), (4, Flood::Priorities));
    assert_eq!(one(8, 0, 0, &[0, 0, 0, 1]), (20, Flood::WindowUpdates));
    assert_eq!(one(8, 0, 1, &[0, 0, 0, 1]), (20, Flood::WindowUpdates));
    assert_eq!(one(0, 0, 1, &[]), (4, Flood::EmptyFrames));
    assert_eq!(one(0, 8, 1, &[3, 0, 0, 0]), (4, Flood::EmptyFrames), "padding is no content");
    assert_eq!(one(9, 0, 1, &[]), (2, Flood::HeaderBlock));
    assert_eq!(one(9, 0, 1, &[0]), (2, Flood::HeaderBlock), "the first frame counts too");
    assert_eq!(one(9, 0, 1, &[0; 150]), (1, Flood::HeaderBlock));
    assert_eq!(one(1, 0, 1, &[0; 201]), (0, Flood::HeaderBlock));
    assert_eq!(one(0xfa, 0, 0, b"grease"), (4, Flood::UnknownFrames));
    assert_eq!(one(5, 0, 1, &[0; 4]), (4, Flood::UnknownFrames));
    assert_eq!(one(7, 0, 0, &[0; 8]), (4, Flood::UnknownFrames));
}

#[test]
fn what_clients_do_all_the_time_costs_nothing() {
    let mut inbound = inbound();
    for stream in (1..4000).step_by(2) {
        let mut request = frame(1, 4, stream, &[0x82; 90]);
        request.extend(frame(0, 0, stream, b"body"));
        request.extend(frame(0, 1, stream, &[]));
        request.extend(frame(2, 0, stream, &[0; 5]));
        request.extend(frame(8, 0, stream, &[0, 1, 0, 0]));
        // Acknowledgements are asked for.
        request.extend(frame(4, 1, 0, &[]));
        request.extend(frame(6, 1, 0, &[0; 8]));
        inbound.note(now, &request).unwrap();
        inbound.answered(64);
        for _ in 0..2 {
            inbound.note(now, &frame(8, 0, 0, &[0, 0, 0, 32])).unwrap();
        }
        inbound.note(now, &frame(6, 0, 0, &[0; 8])).unwrap();
    }
    assert_eq!(inbound.opened(), 2000);
    inbound.note(now, &frame(1, 5, 3999, &[])).unwrap();
    assert_eq!(inbound.opened(), 2000, "trailers open nothing");
}

#[test]
fn answers_byte_by_byte_give_no_occasion_for_window_updates() {
    let mut inbound = inbound();
    let mut passed = 0;
    while inbound.note(now, &frame(8, 0, 1, &[0, 0, 0, 1])).is_ok() {
        inbound.answered(1);
        passed += 1;
    }
    assert!((20..40).contains(&passed), "{passed}");
}

#[test]
fn windows_that_let_hardly_anything_through_are_shut() {
    let mut inbound = inbound();
    assert!(!inbound.is_shut());
    inbound.answered(65_000);
    assert!(inbound.is_shut(), "536 bytes are left");
    inbound.note(now, &frame(8, 0, 0, &[0, 0, 16, 0])).unwrap();
    assert!(!inbound.is_shut());
    inbound.note(now, &frame(4, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 0, 1])).unwrap();
    assert!(inbound.is_shut(), "one byte for each stream");
    inbound.note(now, &frame(8, 0, 1, &[0, 0, 0, 1])).unwrap();
    assert!(inbound.is_shut());
    inbound.note(now, &frame(8, 0, 1, &[0, 0, 16, 0])).unwrap();
    assert!(!inbound.is_shut(), "a client may open the window of each stream by itself");
}

#[test]
fn a_header_block_is_known_to_be_under_way() {
    let mut inbound = inbound();
    let whole = frame(1, 4, 1, &[0x82; 10]);
    inbound.note(now, &whole[..15]).unwrap();
    assert!(inbound.in_headers());
    inbound.note(now, &whole[15..]).unwrap();
    assert!(!inbound.in_headers());
    inbound.note(now, &frame(1, 0, 3, &[0x82])).unwrap();
    assert!(inbound.in_headers(), "END_HEADERS is missing");
    inbound.note(now, &frame(9, 0, 3, &[0x82])).unwrap();
    assert!(inbound.in_headers());
    inbound.note(now, &[&frame(9, 4, 3, &[0x82])[..], &frame(0, 0, 3, b"body")[..5]].concat()).unwrap();
    assert!(!inbound.in_headers(), "a body may take its time");
}

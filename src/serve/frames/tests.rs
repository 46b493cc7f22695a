//! What the connection's loop is told.
use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn frames() -> (Frames, Arc<Watch>) {
    let limits = Limits {
        resets_per_second: 1,
        control_per_second: 1,
        window_updates_per_second: 1,
        block_bytes: 100,
        refused_streams: 3,
    };
    let (mut frames, watch) = Frames::new(&limits, Arc::default());
    frames.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    (frames, watch)
}

#[test]
fn the_first_flood_is_told_and_nothing_more_is_read() {
    let (mut frames, watch) = frames();
    let ping = frame(6, 0, 0, &[0; 8]);
    frames.received(&ping);
    assert!(!frames.over() && watch.news().flood.is_none());
    frames.received(&ping);
    frames.received(&frame(3, 0, 1, &[0; 4]).repeat(2));
    assert!(frames.over());
    assert_eq!((watch.news().flood, watch.news().flood), (Some(Flood::Pings), Some(Flood::Pings)));
}

#[test]
fn verdicts_of_the_codec_are_told_once_each_and_bounded() {
    let (mut frames, watch) = frames();
    let reset = |stream, code| frame(3, 0, stream, &[0, 0, 0, code]);
    frames.sent(&[reset(1, 1), reset(3, 7)].concat());
    assert_eq!(watch.news().verdicts, [Verdict::Malformed, Verdict::Refused]);
    assert!(watch.news().verdicts.is_empty());
    frames.sent(&reset(1, 1).repeat(40));
    assert!(frames.over());
    let news = watch.news();
    assert_eq!((news.verdicts.len(), news.flood), (15, Some(Flood::Malformed)));
    frames.sent(&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 6]));
    assert_eq!((watch.news().goaway, watch.news().goaway), (Some(6), None));
}

#[test]
fn a_header_block_that_is_under_way_has_a_beginning() {
    let (mut frames, watch) = frames();
    frames.received(&frame(1, 0, 1, &[0x82]));
    let since = watch.news().headers_since.unwrap();
    frames.received(&frame(9, 0, 1, &[0x82]));
    assert_eq!(watch.news().headers_since, Some(since));
    frames.received(&frame(9, 4, 1, &[0x82]));
    assert_eq!((watch.news().headers_since, watch.opened()), (None, 1));
}

#[test]
fn a_loop_that_asks_is_told_once() {
    let (mut frames, watch) = frames();
    frames.sent(&frame(0, 0, 1, &[0; 65_000]));
    assert!(watch.is_shut() && watch.sent() == 65_000);
    frames.received(&frame(6, 0, 0, &[0; 8]).repeat(2));
    assert!(watch.told() && !watch.told());
    assert_eq!(watch.news().flood, Some(Flood::Pings));
}

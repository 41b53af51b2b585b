//! HTTP/2 connections that have to end, or may not: too many streams, silence, clients that do not read, and a gateway
//! that stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::http2_client::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Http2Client, PING, RST_STREAM, get_block,
};
use crate::support::tls::{Hello, Tls};
use crate::support::upstream::ok;
use crate::support::{DEADLINE, Gateway, Latch, Setup, Then, Upstream, eventually};

/// An upstream that answers when the latch is open, and the latch.
fn waiting() -> (Upstream, Arc<Latch>) {
    let latch = Arc::new(Latch::default());
    let told = Arc::clone(&latch);
    let upstream = Upstream::start(move |talk| {
        if talk.head.line.contains("/slow") {
            told.wait();
        }
        talk.ok("done")
    });
    (upstream, latch)
}

fn get(frames: &mut Frames, stream: u32, target: &str) {
    frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &get_block(target));
}

/// Reads frames until the connection has ended.
#[track_caller]
fn expect_end(frames: &mut Frames) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some(frame) = frames.next() {
        kinds.push(frame.kind);
    }
    kinds
}

fn last_stream_and_code(payload: &[u8]) -> (u32, u32) {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    (number(&payload[..4]), number(&payload[4..8]))
}

#[test]
fn more_streams_than_are_allowed_are_refused_and_do_not_wait() {
    let (upstream, latch) = waiting();
    let gateway = Setup::public(&upstream).start();
    let mut frames = Frames::connect(&gateway);
    for number in 0..101 {
        get(&mut frames, 2 * number + 1, "/slow");
    }
    let reset = frames.next_of(RST_STREAM);
    assert_eq!((reset.stream, &reset.payload[..]), (201, &[0, 0, 0, 7][..]), "refused, not processed");
    upstream.wait_for(100);
    latch.open();
    let mut ended = 0;
    while ended < 100 {
        let frame = frames.next().unwrap();
        assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY && frame.stream != 201, "{frame:?}");
        ended += u32::from(matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0);
    }
    get(&mut frames, 203, "/");
    assert_eq!(frames.next_of(HEADERS).stream, 203);
    assert_eq!(upstream.count(), 101);
}

#[test]
fn a_head_that_does_not_end_is_ended() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).limits("header_timeout = \"1s\"").start();
    let block = get_block("/");
    // A head without its last frame.
    let mut frames = Frames::connect(&gateway);
    frames.send(HEADERS, END_STREAM, 1, &block[..20]);
    expect_end(&mut frames);
    // The same, while something comes now and then.
    let mut frames = Frames::connect(&gateway);
    frames.send(HEADERS, END_STREAM, 1, &block[..20]);
    eventually("a client that trickles is ended", DEADLINE, || frames.try_send(9, 0, 1, &[]).is_err());
    // Half of a frame, after a request that was answered.
    let mut frames = Frames::connect(&gateway);
    get(&mut frames, 1, "/");
    assert_eq!(frames.next_of(HEADERS).stream, 1);
    std::io::Write::write_all(&mut frames.0, &[0, 0, 30, HEADERS]).unwrap();
    expect_end(&mut frames);
    // Half of the preface.
    let mut client = gateway.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM");
    client.expect_end();
    assert_eq!(upstream.count(), 1);
}

#[test]
fn pings_do_not_keep_a_connection_that_asks_for_nothing() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).limits("idle_timeout = \"1s\"").start();
    for asks_first in [false, true] {
        let mut frames = Frames::connect(&gateway);
        if asks_first {
            get(&mut frames, 1, "/");
            assert_eq!(frames.next_of(HEADERS).stream, 1);
        }
        let began = Instant::now();
        eventually("it is told to go", DEADLINE, || {
            frames.send(PING, 0, 0, b"12345678");
            loop {
                let frame = frames.next().expect("it is told before the connection ends");
                match frame.kind {
                    GOAWAY => {
                        assert_eq!(last_stream_and_code(&frame.payload).1, 0, "it is nobody's fault");
                        return true;
                    }
                    PING if frame.flags == 1 => return false,
                    _ => {}
                }
            }
        });
        assert!(began.elapsed() > Duration::from_millis(800), "not before its time");
        expect_end(&mut frames);
    }
}

#[test]
fn a_stream_that_is_not_read_is_reset_and_no_other() {
    let large = ok(&"x".repeat(1024 * 1024));
    let upstream = Upstream::start(move |talk| {
        if talk.head.line.contains("/large") {
            talk.send(&large);
            return Then::Close;
        }
        talk.echo()
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    let request = client.request("GET", "/large", &[]);
    let (response, _stream) = client.begin(request, true);
    let began = Instant::now();
    let mut body = client.run(response).unwrap().into_body();
    // Nothing of it is acknowledged, so that its window stays used up.
    let mut read = 0;
    let reason = loop {
        let data = client.run(async {
            tokio::select! {
                data = body.data() => Some(data.expect("it is not whole")),
                () = tokio::time::sleep(Duration::from_millis(200)) => None,
            }
        });
        match data {
            Some(Ok(data)) => read += data.len(),
            Some(Err(error)) => break error.reason(),
            None => drop(client.get("/other", &[]).expect(200)),
        }
        assert!(began.elapsed() < DEADLINE, "it goes on");
    };
    assert_eq!((read, reason), (65_535, Some(h2::Reason::CANCEL)));
    assert!(began.elapsed() > Duration::from_secs(9), "not before its time");
    client.get("/other", &[]).expect(200);
    let line = gateway.access_line(|line| line["path"] == "/large");
    assert_eq!(line["ended_by"], "client", "{line}");
}

#[test]
fn a_gateway_that_drains_says_so_and_finishes_what_is_in_flight() {
    let (upstream, latch) = waiting();
    let gateway = Setup::public(&upstream).start();
    let mut frames = Frames::connect(&gateway);
    let mut silent = Frames::connect(&gateway);
    get(&mut silent, 1, "/");
    assert_eq!(silent.next_of(HEADERS).stream, 1);
    get(&mut frames, 1, "/slow");
    upstream.wait_for(2);
    gateway.running().drain();
    assert_eq!(last_stream_and_code(&frames.next_of(GOAWAY).payload).1, 0);
    let ping = frames.next_of(PING);
    frames.send(PING, 1, 0, &ping.payload);
    assert_eq!(last_stream_and_code(&frames.next_of(GOAWAY).payload), (1, 0));
    // What comes now is not served.
    get(&mut frames, 3, "/");
    assert!(!has_ended(&gateway), "a stream is in flight");
    latch.open();
    assert_eq!(frames.next_of(HEADERS).stream, 1);
    let data = frames.next_of(DATA);
    assert_eq!((data.stream, &data.payload[..]), (1, &b"done"[..]));
    expect_end(&mut frames);
    let last = silent.next_of(GOAWAY);
    assert_eq!(last_stream_and_code(&last.payload).1, 0);
    let ping = silent.next_of(PING);
    silent.send(PING, 1, 0, &ping.payload);
    expect_end(&mut silent);
    eventually("every thread has ended", DEADLINE, || has_ended(&gateway));
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_gateway_that_drains_waits_for_nobody_who_has_not_begun() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = tls.prepare(Setup::public(&upstream), "").start();
    let silent = gateway.client();
    let mut half = gateway.client();
    half.send([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    // These have finished their handshakes.
    let hello = |protocols| Hello { protocols, ..Hello::default() };
    let http1 = tls.dial(gateway.address, &hello(&["http/1.1"])).unwrap();
    let http2 = tls.dial(gateway.address, &hello(&["h2"])).unwrap();
    gateway.running().drain();
    eventually("every thread has ended", Duration::from_secs(3), || has_ended(&gateway));
    drop((silent, half, http1, http2));
    // In the clear, with half of the preface.
    let gateway = Setup::public(&upstream).start();
    let mut half = gateway.client();
    half.send("PRI * HTTP/2.0\r\n");
    gateway.running().drain();
    eventually("every thread has ended", Duration::from_secs(3), || has_ended(&gateway));
}

fn has_ended(gateway: &Gateway) -> bool {
    gateway.running().has_ended()
}

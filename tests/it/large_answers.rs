//! Large bodies of answers, which go from socket to socket without being copied: every client gets its own, whole and in
//! order, and whatever breaks leaves nothing behind for others.

use std::thread;
use std::time::Duration;

use tollgate::base::bounds::{MIN_SPLICED_BYTES, PIPE_BYTES, PIPES};

use crate::support::client::request;
use crate::support::upstream::Talk;
use crate::support::{Client, DEADLINE, Setup, Then, Upstream, eventually};

/// The first length that is not copied.
const LARGE: usize = MIN_SPLICED_BYTES;
const MIB: usize = 1024 * 1024;

/// A body that no other number and no other place in it has.
fn body(number: usize, length: usize) -> Vec<u8> {
    let mut whole = Vec::with_capacity(length + 8);
    for at in 0..length.div_ceil(8) as u64 {
        let word = ((at << 20) | number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        whole.extend_from_slice(&word.to_le_bytes());
    }
    whole.truncate(length);
    whole
}

/// The number and the length that a target such as `/7/1000` asks for.
fn asked(talk: &Talk) -> (usize, usize) {
    let mut parts = talk.head.line.split([' ', '/']).filter_map(|part| part.parse().ok());
    (parts.next().unwrap(), parts.next().unwrap())
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: {length}\r\n\r\n")
}

/// An upstream that answers with the body that is asked for.
fn upstream() -> Upstream {
    Upstream::start(|talk| {
        talk.read_body();
        let (number, length) = asked(talk);
        if talk.head.line.starts_with("HEAD") {
            talk.send(head(length));
            return Then::Next;
        }
        let mut answer = head(length).into_bytes();
        answer.extend(body(number, length));
        // Who has left is not waited for.
        if talk.try_send(answer).is_ok() { Then::Next } else { Then::Close }
    })
}

#[track_caller]
fn expect(got: &[u8], number: usize, length: usize) {
    assert_eq!(got.len(), length, "of {number}");
    // Neither is printed.
    assert!(got == body(number, length), "of {number}");
}

#[test]
fn large_answers_arrive_as_they_were_sent() {
    let upstream = upstream();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    let lengths = [1, LARGE - 1, LARGE, LARGE + 1, LARGE + 4097, MIB, 3 * MIB + 17, 8 * MIB];
    for (number, length) in lengths.into_iter().enumerate() {
        let target = format!("/{number}/{length}");
        let head = client.call("HEAD", &target, "", b"").expect(200);
        assert_eq!((head.field("content-length"), head.body.len()), (length.to_string().as_str(), 0));
        let answer = client.get(&target, "").expect(200);
        assert_eq!(answer.field("content-length"), length.to_string());
        expect(&answer.body, number, length);
        let posted = client.call("POST", &target, "", &vec![b'x'; 100_000]).expect(200);
        expect(&posted.body, number, length);
        let line = gateway.access_line(|line| line["path"] == target && line["method"] == "GET");
        assert_eq!((&line["sent_bytes"], &line["ended_by"]), (&length.into(), &"complete".into()), "{line}");
    }
    assert_eq!(upstream.connections(), 1);
    // A client of HTTP/1.0 gets the same, and the end of the connection behind it.
    client.send(format!("GET /9/{MIB} HTTP/1.0\r\nhost: gw.test\r\n\r\n"));
    expect(&client.answer().expect(200).body, 9, MIB);
    client.expect_end();
}

#[test]
fn it_does_not_matter_in_what_pieces_a_large_answer_comes() {
    let upstream = Upstream::start(|talk| {
        let (number, length) = asked(talk);
        let (head, body) = (head(length), body(number, length));
        let (first, second) = head.split_at(number % 7 + 1);
        talk.send(first);
        talk.send(second);
        let mut left = body.as_slice();
        for size in [1, 7, 4096, 1, 100_000, 65_536, 1].into_iter().cycle() {
            let (piece, rest) = left.split_at(left.len().min(size));
            talk.send(piece);
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for number in 0..10 {
        let length = LARGE + number * 70_001;
        expect(&client.get(&format!("/{number}/{length}"), "").expect(200).body, number, length);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn what_comes_behind_a_large_answer_is_nobodys() {
    let upstream = Upstream::start(|talk| {
        let (number, length) = asked(talk);
        let mut answer = head(length).into_bytes();
        answer.extend(body(number, length));
        answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 6\r\n\r\nforged");
        talk.send(answer);
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for number in 0..5 {
        expect(&client.get(&format!("/{number}/{MIB}"), "").expect(200).body, number, MIB);
    }
    // A connection on which something was said unasked carries no other request.
    assert_eq!(upstream.connections(), 5);
}

#[test]
fn a_large_answer_that_breaks_off_is_seen_to_be_cut() {
    for (then, sent) in
        [(Then::Close, LARGE), (Then::Close, MIB - 1), (Then::Reset, MIB / 2), (Then::Close, 0)]
    {
        let upstream = Upstream::start(move |talk| {
            let (number, length) = asked(talk);
            talk.send(head(length));
            talk.send(&body(number, length)[..sent]);
            then
        });
        let gateway = Setup::public(&upstream).start();
        let mut client = gateway.client();
        client.send(request("GET", &format!("/3/{MIB}"), "", b""));
        let answer = client.answer();
        assert!(answer.cut.is_some());
        assert!(body(3, MIB).starts_with(&answer.body));
        // What a reset overtakes is lost on the way.
        assert!(then == Then::Reset || answer.body.len() == sent, "{} of {sent}", answer.body.len());
        let line = gateway.access_line(|line| line["status"] == 200);
        assert_eq!(line["ended_by"], "upstream", "{line}");
    }
}

#[test]
fn what_a_client_has_left_behind_goes_to_nobody_else() {
    let upstream = upstream();
    let gateway = Setup::public(&upstream).workers(1).start();
    for round in 0..5 {
        let mut leaving: Vec<_> = (0..8).map(|_| Client::connect_small(&gateway)).collect();
        for (number, client) in leaving.iter_mut().enumerate() {
            client.send(request("GET", &format!("/{number}/{}", 16 * MIB), "", b""));
            client.head();
        }
        drop(leaving);
        let number = 100 + round;
        expect(&gateway.client().get(&format!("/{number}/{MIB}"), "").expect(200).body, number, MIB);
    }
    let broken = || gateway.access_lines().iter().filter(|line| line["ended_by"] == "client").count();
    eventually("those who left are noticed", DEADLINE, || broken() == 40);
}

#[test]
fn more_clients_than_there_are_pipes_each_get_their_own() {
    const CLIENTS: usize = PIPES + 16;
    const LENGTH: usize = 4 * PIPE_BYTES;
    let upstream = upstream();
    let gateway = Setup::public(&upstream).workers(1).start();
    // None of them reads before all have begun, so that what comes for them has to wait.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = Client::connect_small(&gateway);
            client.send(request("GET", &format!("/{number}/{LENGTH}"), "", b""));
            client
        })
        .collect();
    upstream.wait_for(CLIENTS);
    thread::park_timeout(Duration::from_millis(200));
    thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            scope.spawn(move || {
                expect(&client.answer().expect(200).body, number, LENGTH);
                expect(&client.get(&format!("/{number}/9"), "").expect(200).body, number, 9);
            });
        }
    });
}

//! Clients of HTTP/2: many streams on one connection, each as somebody else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::client::SendRequest;
use http::Request;

use crate::gateway::Gateway;
use crate::http1::{CUT, in_time, lost};
use crate::ledger::{Answer, Count, Ledger, Way};
use crate::people::{Dice, People, Ticket};

/// Streams at once on a connection.
const STREAMS: usize = 24;
/// Streams on one connection, at most.
const TURNS: usize = 600;

/// Where a stream is broken off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nowhere,
    InItsBody,
    InTheAnswer,
}

/// Sends requests as everybody until it is told to stop.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    people: Arc<People>,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
) {
    let mut dice = Dice::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok(stream) = in_time(gateway.dial("h2")).await else {
            ledger.fault(Count::Unexpected, || "a connection was refused".to_owned());
            return;
        };
        let Ok((send, connection)) = h2::client::handshake(stream).await else {
            ledger.fault(Count::Unexpected, || "a handshake of HTTP/2 failed".to_owned());
            return;
        };
        let connection = tokio::spawn(connection);
        let mut streams = FuturesUnordered::new();
        let mut begun = 0;
        loop {
            while begun < TURNS
                && streams.len() < STREAMS
                && !connection.is_finished()
                && !stop.load(Ordering::Relaxed)
            {
                begun += 1;
                let ticket = people.ticket(&mut dice, gateway.tls(), Way::Http2);
                let cut = match (dice.one_in(CUT), dice.one_in(2)) {
                    (false, _) => Cut::Nowhere,
                    (true, true) => Cut::InItsBody,
                    (true, false) => Cut::InTheAnswer,
                };
                let post = cut == Cut::InItsBody || dice.one_in(3);
                streams.push(exchange(send.clone(), ticket, post, cut, &ledger));
            }
            if streams.next().await.is_none() {
                break;
            }
        }
        drop(streams);
        // Now and then the whole connection is cut, whatever it still has to say.
        if dice.one_in(2) {
            connection.abort();
        }
    }
}

async fn exchange(send: SendRequest<Bytes>, ticket: Ticket, post: bool, cut: Cut, ledger: &Ledger) {
    ledger.add(if cut == Cut::Nowhere { Count::Sent } else { Count::Cut });
    let outcome = in_time(async { stream(send, &ticket, post, cut).await.map_err(io::Error::other) }).await;
    match outcome {
        Ok(Some(answer)) => ledger.judge(&ticket, &answer),
        Ok(None) => {}
        Err(_) if cut != Cut::Nowhere => {}
        Err(error) => lost(ledger, &ticket, &error),
    }
}

/// One stream; `None` when it was broken off here.
async fn stream(
    send: SendRequest<Bytes>,
    ticket: &Ticket,
    post: bool,
    cut: Cut,
) -> Result<Option<Answer>, h2::Error> {
    let mut send = send.ready().await?;
    let mut request = Request::builder()
        .method(if post { "POST" } else { "GET" })
        .uri(format!("{}://gw.test/echo/{}", if ticket.tls { "https" } else { "http" }, ticket.lines))
        .header("authorization", format!("Bearer {}", ticket.session.access()))
        .header("x-nonce", &ticket.nonce);
    if ticket.nonce.ends_with(['0', '2', '4', '6', '8']) {
        request = request.header("x-user-id", "7").header("x_user_name", "root");
    }
    let (answer, mut body) = send.send_request(request.body(()).unwrap(), !post)?;
    if post {
        let whole = Bytes::from(ticket.body());
        let half = whole.slice(..whole.len() / 2);
        if cut == Cut::InItsBody {
            body.send_data(half, false)?;
            tokio::task::yield_now().await;
            body.send_reset(Reason::CANCEL);
            return Ok(None);
        }
        body.send_data(whole, true)?;
    }
    let (head, mut body) = answer.await?.into_parts();
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        if cut == Cut::InTheAnswer {
            return Ok(None);
        }
        read.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let nonce =
        head.headers.get("x-seen-nonce").map(|nonce| String::from_utf8_lossy(nonce.as_bytes()).into_owned());
    Ok(Some(Answer { status: head.status.as_u16(), nonce, body: read }))
}

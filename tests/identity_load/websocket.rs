//! Clients of `WebSocket`s: whoever opened one is who its upstream talks to, message for message.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::gateway::Gateway;
use crate::http1::{Http1, in_time, lost};
use crate::ledger::{Count, Ledger, Way};
use crate::people::{Dice, People, Ticket};

/// Messages on one WebSocket, at most.
const MESSAGES: usize = 20;

/// Opens one WebSocket after the other until it is told to stop.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    people: Arc<People>,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
) {
    let mut dice = Dice::new();
    while !stop.load(Ordering::Relaxed) {
        let ticket = people.ticket(&mut dice, gateway.tls(), Way::WebSocket);
        ledger.add(Count::Sent);
        let outcome = open(&gateway, &ticket, &ledger).await;
        match outcome {
            Ok(Some(http)) => talk(http, &ticket, 1 + dice.below(MESSAGES), &ledger).await,
            Ok(None) => {}
            Err(error) => lost(&ledger, &ticket, &error),
        }
    }
}

/// The connection after the answer that opens a WebSocket; `None` when it was another answer.
async fn open(gateway: &Gateway, ticket: &Ticket, ledger: &Ledger) -> io::Result<Option<Http1>> {
    let mut http = Http1::connect(gateway).await?;
    let opening = format!(
        "GET /socket HTTP/1.1\r\nHost: gw.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {}\r\nX-User-Id: 7\r\nAuthorization: Bearer {}\r\nX-Nonce: {}\r\n\r\n",
        generate_key(),
        ticket.session.access(),
        ticket.nonce,
    );
    http.send(opening.as_bytes()).await?;
    let answer = http.answer().await?;
    ledger.judge(ticket, &answer);
    Ok((answer.status == 101).then_some(http))
}

/// Sends messages and reads what comes back. The upstream may be killed, and the session may end, at any time.
async fn talk(http: Http1, ticket: &Ticket, messages: usize, ledger: &Ledger) {
    let wire = http.wire;
    let mut socket = WebSocketStream::from_partially_read(wire.stream, wire.ahead, Role::Client, None).await;
    for number in 0..messages {
        if socket.send(Message::text(number.to_string())).await.is_err() {
            return;
        }
        let came = in_time(async { Ok(socket.next().await) }).await;
        match came {
            Ok(Some(Ok(Message::Text(text)))) if text.as_str() == ticket.message(number) => {
                ledger.add(Count::Messages);
            }
            Ok(Some(Ok(Message::Text(text)))) => {
                ledger.fault(Count::Wrong, || format!("{} got the message {text:?}", ticket.describe()));
            }
            Err(error) => return lost(ledger, ticket, &error),
            Ok(_) => return,
        }
    }
    let _closed_before = socket.close(None).await.is_err();
}

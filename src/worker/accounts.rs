//! The account of each request: begun here, and ended wherever the request ends.

use http::HeaderValue;

use super::Generation;
use crate::connection::ClientConnection;
use crate::http::message::RequestHead;
use crate::net::peer::Trust;
use crate::request::Exchange;
use crate::telemetry::access::{Record, Text};
use crate::telemetry::account::{Account, Needs};
use crate::telemetry::trace::{self, Facts, Say};

impl Generation {
    /// Begins the account of a request.
    pub fn begin_account(
        &self,
        connection: &ClientConnection,
        request: &RequestHead,
        id: &HeaderValue,
    ) -> Account {
        let record = self.begin_record();
        let mut account = Account::begin(record, self.meter.as_ref(), Some(&request.method), self.needs());
        account.note(|record| {
            record.request_id = Text::of(id);
            record.client = Some(connection.peer.address());
            record.method = Some(request.method.clone());
            record.target = request.uri.path_and_query().cloned();
        });
        account
    }

    /// Begins the account of a message that never became a request.
    pub fn begin_last_account(&self) -> Account {
        Account::begin(self.begin_record(), self.meter.as_ref(), None, self.needs())
    }

    fn begin_record(&self) -> Option<Box<Record>> {
        self.access.as_ref().map(|(log, purpose)| log.begin(*purpose))
    }

    fn needs(&self) -> Needs {
        if self.server_timing || self.tracer.is_some() { Needs::Times } else { Needs::Nothing }
    }

    /// Begins a request's part in its trace, if there is somebody to tell of it; says what the upstream is told.
    pub fn begin_trace(
        &self,
        connection: &ClientConnection,
        exchange: &Exchange,
        id: &HeaderValue,
        account: &mut Account,
    ) -> Option<trace::Told> {
        let tracer = self.tracer.as_ref()?;
        let say = if connection.peer.trust() == Trust::Trusted { Say::Decides } else { Say::None };
        let facts = Facts {
            method: exchange.method().clone(),
            scheme: connection.scheme(),
            host: exchange.host().name().to_owned(),
            path: exchange.path().path().to_owned(),
            client: connection.peer.address(),
            request_id: String::from_utf8_lossy(id.as_bytes()).into_owned(),
        };
        Some(account.trace(tracer, exchange.headers(), say, facts))
    }

    /// Whether answers say how long they took.
    pub fn tells_times(&self) -> bool {
        self.server_timing
    }
}

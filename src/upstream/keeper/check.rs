//! Active health checks: a target is asked again and again, on connections of their own.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Uri, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::base::ids::random_bytes;
use crate::config::HealthCheck;
use crate::upstream::connect::{ConnectError, open_known, speaks_http2};
use crate::upstream::io::Wire;
use crate::upstream::shared::{SharedTarget, SharedUpstream};
use crate::upstream::tls::Offer;

/// What checks call themselves.
const USER_AGENT: &str = "tollgate-health-check";

/// Most bytes that are read of an answer to a check.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header fields in an answer to a check.
const MAX_FIELDS: usize = 100;

/// The first check comes within this time at the latest.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Why a check has failed.
#[derive(Debug)]
enum CheckError {
    /// It took too long.
    TimedOut,
    /// There is no connection.
    Connect(ConnectError),
    /// The connection broke, or what came is no answer.
    Broken(io::Error),
    /// The same over HTTP/2.
    BrokenStream(h2::Error),
    /// The answer has another status than is expected.
    Status(u16),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the check took longer than its timeout"),
            Self::Connect(error) => error.fmt(f),
            Self::Broken(error) => write!(f, "no answer: {error}"),
            Self::BrokenStream(error) => write!(f, "no answer: {error}"),
            Self::Status(status) => write!(f, "it answered {status}"),
        }
    }
}

/// Checks a target for as long as it is polled. It is taken to be well until it has failed often enough.
pub(super) async fn watch(upstream: Arc<SharedUpstream>, target: Arc<SharedTarget>, check: HealthCheck) {
    let mut verdict = Verdict::default();
    tokio::time::sleep(jittered(check.interval.min(FIRST_WITHIN) / 2, 0)).await;
    loop {
        let asked = tokio::time::timeout(check.timeout, ask(&target, &check)).await;
        let outcome = asked.unwrap_or(Err(CheckError::TimedOut));
        let turn = verdict.take(outcome.is_ok(), target.standing.is_down(), &check);
        if let Some(down) = turn
            && target.standing.set_down(down)
        {
            let name = upstream.name();
            let left = upstream.endpoints.load().all.iter().filter(|one| !one.standing.is_down()).count();
            if let Err(cause) = outcome {
                tracing::warn!(upstream = name, upstream_target = %target, %cause, left, "a target is not well: its health checks fail");
            } else {
                tracing::info!(upstream = name, upstream_target = %target, left, "a target is well: its health checks pass");
            }
        }
        tokio::time::sleep(jittered(check.interval, 90)).await;
    }
}

/// Checks in a row that ended in the same way.
#[derive(Debug, Default)]
struct Verdict {
    passed: u32,
    failed: u32,
}

impl Verdict {
    /// Takes the outcome of a check. Whether the target is down, when that has changed with it.
    fn take(&mut self, passed: bool, is_down: bool, check: &HealthCheck) -> Option<bool> {
        if passed {
            *self = Self { passed: self.passed.saturating_add(1), failed: 0 };
            (is_down && self.passed >= check.healthy.get()).then_some(false)
        } else {
            *self = Self { passed: 0, failed: self.failed.saturating_add(1) };
            (!is_down && self.failed >= check.unhealthy.get()).then_some(true)
        }
    }
}

/// A time from so many hundredths of it up to the whole and as much more, so that the checks of many gateways spread.
fn jittered(whole: Duration, from_percent: u32) -> Duration {
    let spread = 2 * (100 - from_percent.min(100));
    let random = random_bytes::<4>().map_or(0, u32::from_ne_bytes);
    whole.saturating_mul(from_percent * 100 + random % (spread * 100 + 1)) / 10_000
}

/// One check.
async fn ask(target: &SharedTarget, check: &HealthCheck) -> Result<(), CheckError> {
    let host = check.host.as_deref().or(target.authority.to_str().ok()).unwrap_or("localhost");
    let wire = open_known(target, Offer::Both).await.map_err(CheckError::Connect)?;
    let status = if speaks_http2(&target.target, &wire) {
        ask_http2(wire, target, check, host).await.map_err(CheckError::BrokenStream)?
    } else {
        ask_http1(wire, check, host).await.map_err(CheckError::Broken)?
    };
    let (lowest, highest) = check.expect;
    if (lowest..=highest).contains(&status) { Ok(()) } else { Err(CheckError::Status(status)) }
}

async fn ask_http1(mut wire: Wire, check: &HealthCheck, host: &str) -> io::Result<u16> {
    let path = &check.path;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {USER_AGENT}\r\naccept: */*\r\nconnection: close\r\n\r\n"
    );
    wire.write_all(head.as_bytes()).await?;
    wire.flush().await?;
    let mut read = Vec::new();
    loop {
        while let Some((status, length)) = parsed(&read)? {
            // Informational answers come before the one that counts (RFC 9110 section 15.2).
            if status >= 200 {
                return Ok(status);
            }
            read.drain(..length);
        }
        if read.len() >= MAX_HEAD_BYTES {
            return Err(io::Error::other("its head is too long"));
        }
        if wire.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The status of an answer whose head is there whole, and the head's length.
fn parsed(read: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(read).map_err(io::Error::other)? {
        httparse::Status::Complete(length) => Ok(answer.code.map(|status| (status, length))),
        httparse::Status::Partial => Ok(None),
    }
}

async fn ask_http2(
    wire: Wire,
    target: &SharedTarget,
    check: &HealthCheck,
    host: &str,
) -> Result<u16, h2::Error> {
    let scheme = if target.target.is_tls() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(check.path.as_str()).build();
    let request = Request::builder()
        .version(Version::HTTP_2)
        .uri(uri.unwrap_or_default())
        .header(http::header::USER_AGENT, USER_AGENT)
        .body(())
        .map_err(|_| h2::Error::from(h2::Reason::INTERNAL_ERROR))?;
    let (sender, connection) = h2::client::handshake(wire).await?;
    let answered = async {
        let mut sender = sender.ready().await?;
        let (answer, _) = sender.send_request(request, true)?;
        Ok::<u16, h2::Error>(answer.await?.status().as_u16())
    };
    let mut answered = pin!(answered);
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        // A connection may end in the same moment in which it has brought the answer.
        ended = connection => {
            ended?;
            answered.await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn check(healthy: u32, unhealthy: u32) -> HealthCheck {
        HealthCheck {
            path: "/".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy: NonZeroU32::new(healthy).unwrap(),
            unhealthy: NonZeroU32::new(unhealthy).unwrap(),
            expect: (200, 299),
            host: None,
            fail_open: false,
        }
    }

    #[test]
    fn only_several_checks_in_a_row_change_anything() {
        let check = check(2, 3);
        let (mut verdict, mut is_down, mut turns) = (Verdict::default(), false, String::new());
        for passed in "+--+---+-+--++-+--".chars().map(|sign| sign == '+') {
            let turn = verdict.take(passed, is_down, &check);
            is_down = turn.unwrap_or(is_down);
            turns.push(match turn {
                Some(true) => 'd',
                Some(false) => 'u',
                None => '.',
            });
        }
        assert_eq!(turns, "......d......u....");
    }

    #[test]
    fn checks_are_spread_about_their_interval() {
        let interval = Duration::from_secs(10);
        for _ in 0..1000 {
            let wait = jittered(interval, 90);
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&wait), "{wait:?}");
            assert!(jittered(interval, 100) == interval && jittered(interval, 0) <= 2 * interval);
        }
    }

    #[test]
    fn an_answer_counts_when_its_head_is_whole() {
        assert_eq!(parsed(b"").unwrap(), None);
        assert_eq!(parsed(b"HTTP/1.1 200 OK\r\nx: y\r\n").unwrap(), None);
        assert_eq!(parsed(b"HTTP/1.1 204 No Content\r\n\r\nrest").unwrap(), Some((204, 27)));
        assert!(parsed(b"SSH-2.0-OpenSSH\r\n").is_err());
    }
}

//! What gateways tell one another of their limits, through a Redis or Valkey server.
//!
//! One task of the control plane tells the server ten times a second what has passed, and is told how much is left for all
//! together. When it is away, each gateway counts for itself, and nobody waits.

mod connection;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::connection::{Connection, ExchangeError};
use super::rates::cluster::{Cluster, Due, Question};
use crate::base::ids;
use crate::config::LimitsStore;

/// Keys in one command, so that the server does not work on one for long.
const BATCH: usize = 256;
/// How often a gateway says that it is there.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(500);

/// Keeps the counts of the cluster for as long as the gateway runs. It never ends by itself.
pub async fn keep(settings: LimitsStore, cluster: Arc<Cluster>) {
    if !settings.is_tls && settings.password.is_some() && !is_this_machine(&settings.host) {
        tracing::warn!(
            server = settings.address(),
            "the password of the limits store is sent without TLS: write \"rediss://\""
        );
    }
    // Where there is no randomness two gateways may take themselves for one, which only makes them bolder.
    let gateway = ids::random_id().unwrap_or_default();
    let mut standing = Standing::Unknown;
    loop {
        if !cluster.is_used() {
            tokio::time::sleep(RECONNECT).await;
            continue;
        }
        let error = match Connection::open(&settings).await {
            Ok(connection) => talk(connection, &cluster, &gateway, &mut standing, &settings).await,
            Err(error) => error,
        };
        cluster.set_down();
        if standing != Standing::Away {
            let server = settings.address();
            tracing::warn!(%error, server, "the limits store is away: limits of the cluster are counted by each gateway");
        }
        standing = Standing::Away;
        tokio::time::sleep(RECONNECT).await;
    }
}

/// How the store was when it was told of last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unknown,
    There,
    Away,
}

/// Tells and asks until something fails.
async fn talk(
    mut connection: Connection,
    cluster: &Cluster,
    gateway: &str,
    standing: &mut Standing,
    settings: &LimitsStore,
) -> ExchangeError {
    // The first time, what was counted alone is told.
    let mut was_alone = true;
    let mut present_at = Instant::now();
    loop {
        if was_alone || Instant::now() >= present_at {
            match connection.present(gateway).await {
                Ok(gateways) => cluster.set_gateways(gateways),
                Err(error) => return error,
            }
            present_at = Instant::now() + PRESENCE_INTERVAL;
        }
        if let Err(error) = exchange(&mut connection, cluster, was_alone).await {
            return error;
        }
        if was_alone {
            was_alone = false;
            cluster.set_up();
            if *standing != Standing::There {
                tracing::info!(
                    server = settings.address(),
                    "limits of the cluster are counted by all gateways together"
                );
            }
            *standing = Standing::There;
        }
        cluster.due().await;
    }
}

/// One round: everything that is due is settled, or restored where the store was not asked or did not answer.
async fn exchange(
    connection: &mut Connection,
    cluster: &Cluster,
    was_alone: bool,
) -> Result<(), ExchangeError> {
    let due: Vec<(Due, Question)> = cluster
        .collect()
        .into_iter()
        .filter_map(|due| due.question().map(|question| (due, question)))
        .collect();
    let mut outcome = Ok(());
    for batch in due.chunks(BATCH) {
        if outcome.is_err() {
            restore(cluster, batch);
            continue;
        }
        let questions: Vec<Question> = batch.iter().map(|(_, question)| *question).collect();
        match connection.count(&questions, was_alone).await {
            Ok(answers) => {
                for ((due, _), answer) in batch.iter().zip(answers) {
                    cluster.settle(due, answer);
                }
                cluster.note_answer();
            }
            Err(error) => {
                restore(cluster, batch);
                outcome = Err(error);
            }
        }
    }
    outcome
}

fn restore(cluster: &Cluster, batch: &[(Due, Question)]) {
    for (due, _) in batch {
        cluster.restore(due);
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

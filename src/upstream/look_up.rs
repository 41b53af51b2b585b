//! Addresses of a target's name.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::watch::{self, Receiver};

/// What a look-up has found. Its error stands for all who wait for it.
type Found = Result<Vec<SocketAddr>, Rc<io::Error>>;

/// The look-ups of one thread for one target. A look-up occupies a thread for as long as the resolver is silent, so at most
/// one runs at a time, and all who need an address meanwhile wait for it. Nothing is kept: who comes later looks again.
#[derive(Debug, Default)]
pub(super) struct LookUps(Rc<RefCell<Option<Receiver<Option<Found>>>>>);

impl LookUps {
    /// The addresses of a host.
    ///
    /// # Errors
    ///
    /// When the resolver finds none.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = host.to_owned();
        self.share(|| async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }).await
    }

    /// Waits for the look-up that runs, or begins this one. It goes on when nobody waits any more, as the resolver does.
    async fn share<F>(&self, begin: impl FnOnce() -> F) -> io::Result<Vec<SocketAddr>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + 'static,
    {
        let running = self.0.borrow().clone().filter(|running| running.has_changed().is_ok());
        let mut running = running.unwrap_or_else(|| self.begin(begin()));
        // A look-up ends without an outcome only together with its thread.
        let ended = |_| io::Error::from(io::ErrorKind::NotConnected);
        let found = running.wait_for(Option::is_some).await.map_err(ended)?;
        match found.as_ref() {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err(error)) => Err(io::Error::new(error.kind(), Rc::clone(error).to_string())),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn begin(
        &self,
        look_up: impl Future<Output = io::Result<Vec<SocketAddr>>> + 'static,
    ) -> Receiver<Option<Found>> {
        let (told, running) = watch::channel(None);
        *self.0.borrow_mut() = Some(running.clone());
        let current = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let found = look_up.await.map_err(Rc::new);
            *current.borrow_mut() = None;
            told.send_replace(Some(found));
        });
        running
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;
    use crate::upstream::pool::tests::run;

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    /// A resolver that is silent until it is told to answer, and counts how often it was asked.
    #[derive(Default)]
    struct Silent {
        asked: Cell<usize>,
        answers: Notify,
    }

    async fn ask(look_ups: &LookUps, silent: &Rc<Silent>) -> io::Result<Vec<SocketAddr>> {
        let asked = Rc::clone(silent);
        let look_up = || async move {
            asked.asked.set(asked.asked.get() + 1);
            asked.answers.notified().await;
            if asked.asked.get() == 1 { Ok(vec![ADDRESS]) } else { Err(io::ErrorKind::NotFound.into()) }
        };
        look_ups.share(look_up).await
    }

    #[test]
    fn a_silent_resolver_is_asked_once_at_a_time() {
        run(async {
            let (look_ups, silent) = (Rc::new(LookUps::default()), Rc::new(Silent::default()));
            let one = || {
                let (look_ups, silent) = (Rc::clone(&look_ups), Rc::clone(&silent));
                tokio::task::spawn_local(async move { ask(&look_ups, &silent).await })
            };
            let waiting: Vec<_> = (0..100).map(|_| one()).collect();
            // Who has waited long enough leaves; the resolver is busy all the same, and nobody else asks it.
            let impatient = tokio::time::timeout(Duration::from_millis(1), ask(&look_ups, &silent)).await;
            assert!(impatient.is_err());
            let late = one();
            tokio::task::yield_now().await;
            assert_eq!(silent.asked.get(), 1);
            silent.answers.notify_one();
            for waiting in waiting.into_iter().chain([late]) {
                assert_eq!(waiting.await.unwrap().unwrap(), [ADDRESS]);
            }
            // What comes later asks again, and what is not found is not found for all.
            let again = [one(), one()];
            tokio::task::yield_now().await;
            silent.answers.notify_one();
            for again in again {
                assert_eq!(again.await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
            }
            assert_eq!(silent.asked.get(), 2);
        });
    }

    #[test]
    fn a_look_up_goes_on_when_nobody_waits_for_it() {
        run(async {
            let (look_ups, silent) = (LookUps::default(), Rc::new(Silent::default()));
            for _ in 0..3 {
                let waiting = ask(&look_ups, &silent);
                assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
            }
            assert_eq!(silent.asked.get(), 1);
        });
    }
}

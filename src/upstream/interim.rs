//! Answers that come before the answer, such as 103 (RFC 8297).

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response};
use tokio::sync::mpsc;

use crate::http::body::RequestBody;
use crate::http::hop;

/// Informational answers that wait to be told, at most; further ones are dropped.
const MAX_WAITING: usize = 16;

/// Told of every informational answer (RFC 9110 section 15.2) of an upstream, before the final one. Fields that were
/// meant for the upstream's connection are removed.
#[derive(Clone)]
pub struct Interim(Rc<dyn Fn(Response<()>)>);

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
    }
}

impl Interim {
    /// Calls this for each.
    pub fn new(told: impl Fn(Response<()>) + 'static) -> Self {
        Self(Rc::new(told))
    }

    pub(super) fn tell(&self, mut answer: Response<()>) {
        hop::remove_from_response(answer.headers_mut());
        (self.0)(answer);
    }

    /// Listens for those to a request over HTTP/1.1. The HTTP library wants to tell them from any thread, so they come
    /// through a channel.
    pub(super) fn listen(&self, request: &mut Request<RequestBody>) -> Listening {
        let (sender, answers) = mpsc::channel(MAX_WAITING);
        hyper::ext::on_informational(request, move |answer| {
            let mut copy = Response::new(());
            *copy.status_mut() = answer.status();
            *copy.headers_mut() = answer.headers().clone();
            // Who sends more of them than are taken has said enough.
            let _dropped = sender.try_send(copy).is_err();
        });
        Listening { interim: self.clone(), answers }
    }
}

/// Informational answers on their way.
pub(super) struct Listening {
    interim: Interim,
    answers: mpsc::Receiver<Response<()>>,
}

impl Listening {
    /// Tells of them until the final answer is there.
    pub(super) async fn until<F: Future>(mut self, answered: F) -> F::Output {
        let mut answered = pin!(answered);
        poll_fn(|cx| {
            while let Poll::Ready(Some(answer)) = self.answers.poll_recv(cx) {
                self.interim.tell(answer);
            }
            answered.as_mut().poll(cx)
        })
        .await
    }
}

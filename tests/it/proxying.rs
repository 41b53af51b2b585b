//! Requests and answers pass through unchanged, and whatever breaks, breaks alone.

use crate::support::{Setup, Upstream};

#[test]
fn a_request_passes() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let response = gateway.client().get("/a?b=c", "").expect(200);
    assert_eq!(response.json()["line"], "GET /a?b=c HTTP/1.1");
}

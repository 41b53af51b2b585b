//! The last refusals, for the page and for `tollgate explain --request-id`.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::Admin;
use super::answer::{self, Whole};
use crate::telemetry::refused::Refused;

/// Where they are asked for.
pub const REFUSALS: &str = "/api/refusals";
/// The parameter of the query that asks for those with one id.
pub const ASKED_ID: &str = "request_id";
/// Refusals that are told at most, when not one in particular is asked for.
const MOST_REFUSALS: usize = 200;

/// The last refusals, the latest first; or those of the request that the query names.
pub(super) fn list(admin: &Admin, query: Option<&str>) -> Response<Whole> {
    let snapshot = admin.snapshot();
    let asked = query.map(str::as_bytes).unwrap_or_default();
    let mut asked = form_urlencoded::parse(asked).filter(|(name, _)| name == ASKED_ID).map(|(_, id)| id);
    let found = match (&snapshot.refusals, asked.next()) {
        (None, _) => Vec::new(),
        (Some(refusals), None) => refusals.latest(MOST_REFUSALS),
        (Some(refusals), Some(id)) => {
            let found = refusals.with_id(&id);
            if found.is_empty() {
                return answer::text(StatusCode::NOT_FOUND, "no refusal with this id is remembered\n");
            }
            found
        }
    };
    answer::json(StatusCode::OK, &json!({"refusals": found.iter().map(told).collect::<Vec<Value>>()}))
}

fn told(refused: &Arc<Refused>) -> Value {
    let grounds = refused.grounds.as_deref();
    let verdicts = grounds.map(|grounds| grounds.verdicts.as_slice()).unwrap_or_default().iter();
    let verdicts = verdicts.map(|verdict| {
        let refusal = verdict.refusal.map(crate::base::reason::Reason::word);
        json!({"rule": verdict.rule, "refuses": refusal})
    });
    json!({
        "request_id": refused.request_id,
        "at_ms": refused.at_unix_ms,
        "client": refused.client.map(|client| client.to_string()),
        "method": refused.method,
        "host": refused.host,
        "path": refused.path,
        "route": refused.route,
        "upstream": refused.upstream,
        "user": refused.user,
        "status": refused.status,
        "reason": refused.reason.word(),
        "detail": grounds.map(|grounds| &grounds.detail),
        "cause": grounds.and_then(|grounds| grounds.cause.as_ref()),
        "rules": verdicts.collect::<Vec<Value>>(),
    })
}

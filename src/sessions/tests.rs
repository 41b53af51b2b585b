//! Decisions about sessions, with a clock that only the tests move.

use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::Map;

use super::*;
use crate::keys::tests::settings;
use crate::store::scratch::{Place, on_both_stores};

const NOW_MS: i64 = 1_795_000_000_500;
const NOW: i64 = NOW_MS / 1000;

struct Rig {
    sessions: Sessions,
    store: Store,
    tokens: config::Tokens,
    clock: Clock,
    hand: Arc<AtomicI64>,
    place: Place,
}

async fn rig(place: Place, change: impl FnOnce(&mut config::Tokens)) -> Rig {
    let mut tokens = settings(Vec::new());
    change(&mut tokens);
    let (clock, hand) = Clock::manual(NOW_MS);
    let store = place.open().await.with_clock(clock.clone());
    let sessions = Sessions::open(store.clone(), clock.clone(), &tokens).await.unwrap();
    Rig { sessions, store, tokens, clock, hand, place }
}

fn mark(password: &str) -> CredentialMark {
    CredentialMark::of(password)
}

fn claims(kind: Expected, jti: &str, session: Option<&str>) -> Claims {
    Claims {
        token_type: kind.name().to_owned(),
        expires_at_ms: (NOW + 86_400) * 1000,
        valid_until_ms: (NOW + 86_400) * 1000,
        issued_at_ms: Some(NOW * 1000),
        jti: jti.to_owned(),
        user_id: "1".to_owned(),
        session: session.map(str::to_owned),
        verified_by: None,
        other: Map::new(),
    }
}

/// The refresh token that was granted.
fn granted(grant: &Grant) -> Claims {
    claims(Expected::Refresh, &grant.refresh.as_ref().unwrap().jti, Some(&grant.session))
}

fn access_of(grant: &Grant) -> Binding {
    Binding::of(&claims(Expected::Access, "a", Some(&grant.session)))
}

impl Rig {
    async fn login(&self) -> Grant {
        self.sessions.begin("1", mark("old")).await.unwrap()
    }

    /// What another process that opens the store sees.
    async fn another(&self) -> Sessions {
        Sessions::open(self.place.open().await, self.clock.clone(), &self.tokens).await.unwrap()
    }
}

fn is_revoked<T: fmt::Debug>(outcome: &Result<T, SessionError>) -> bool {
    matches!(outcome, Err(SessionError::Revoked))
}

async fn a_grant_has_the_times_of_the_configuration(place: Place) {
    let rig = rig(place, |_| {}).await;
    let grant = rig.login().await;
    let refresh = grant.refresh.clone().unwrap();
    assert_eq!((grant.issued_at, grant.access_expires_at), (NOW, NOW + 1800));
    assert_eq!((refresh.issued_at, refresh.expires_at), (NOW, NOW + 86_400));
    let again = rig.sessions.refresh(&granted(&grant), Some(mark("old"))).await.unwrap();
    assert_eq!((again.session, again.refresh), (grant.session, None));
}

async fn a_session_ends_with_its_password(place: Place) {
    let rig = rig(place, |_| {}).await;
    let grant = rig.login().await;
    let binding = rig.sessions.admit(access_of(&grant), Some(mark("old"))).await.unwrap();
    assert!(binding.recorded);
    assert!(rig.sessions.admit(binding.clone(), None).await.is_ok());
    assert!(is_revoked(&rig.sessions.admit(binding.clone(), Some(mark("new"))).await));
    assert!(rig.sessions.revocations().has(&binding));
    // Going back to the old one does not bring it back.
    assert!(is_revoked(&rig.sessions.admit(binding, Some(mark("old"))).await));
    assert!(is_revoked(&rig.sessions.refresh(&granted(&grant), Some(mark("old"))).await));
    let listed = rig.store.sessions(&Which::All).await.unwrap();
    assert_eq!(listed[0].ended.as_deref(), Some("password"));
}

async fn what_one_process_revokes_the_other_refuses(place: Place) {
    let rig = rig(place, |_| {}).await;
    let other = rig.another().await;
    let grant = rig.login().await;
    let binding = other.admit(access_of(&grant), None).await.unwrap();
    let epoch = other.revocations().epoch();
    let before = epoch.load(Ordering::Acquire);
    rig.sessions.end(&granted(&grant)).await.unwrap();
    assert!(rig.sessions.revocations().has(&binding), "at once where it was asked for");
    other.look().await;
    assert!(other.revocations().has(&binding));
    assert_ne!(epoch.load(Ordering::Acquire), before);
    assert!(rig.another().await.revocations().has(&binding));
    assert!(is_revoked(&rig.sessions.end(&granted(&grant)).await));
}

async fn reuse_is_counted_once_and_ends_the_session(place: Place) {
    let rig = rig(place, |tokens| tokens.rotate_refresh = true).await;
    let grant = rig.login().await;
    let next = rig.sessions.refresh(&granted(&grant), None).await.unwrap();
    rig.hand.fetch_add(29_999, Ordering::AcqRel);
    assert_eq!(rig.sessions.refresh(&granted(&grant), None).await.unwrap().refresh, next.refresh);
    rig.hand.fetch_add(1, Ordering::AcqRel);
    for _ in 0..3 {
        assert!(is_revoked(&rig.sessions.refresh(&granted(&grant), None).await));
    }
    assert_eq!(rig.sessions.reuses(), 1);
    assert!(is_revoked(&rig.sessions.refresh(&granted(&next), None).await));
    assert_eq!(rig.store.sessions(&Which::All).await.unwrap()[0].ended.as_deref(), Some("reuse"));
}

async fn a_used_token_stays_used_when_rotation_is_switched_off(place: Place) {
    let mut rig = rig(place, |tokens| tokens.rotate_refresh = true).await;
    let grant = rig.login().await;
    rig.sessions.refresh(&granted(&grant), None).await.unwrap();
    rig.tokens.rotate_refresh = false;
    rig.tokens.reuse_grace = Duration::ZERO;
    assert!(is_revoked(&rig.another().await.refresh(&granted(&grant), None).await));
}

async fn a_logout_with_a_token_that_was_just_used_is_a_logout(place: Place) {
    let rig = rig(place, |tokens| tokens.rotate_refresh = true).await;
    let grant = rig.login().await;
    rig.sessions.refresh(&granted(&grant), None).await.unwrap();
    rig.sessions.end(&granted(&grant)).await.unwrap();
    assert!(is_revoked(&rig.sessions.check(&claims(Expected::Access, "x", Some(&grant.session))).await));
}

async fn an_absolute_end_that_is_configured_later_counts_too(place: Place) {
    let mut rig = rig(place, |_| {}).await;
    let grant = rig.login().await;
    rig.tokens.session_lifetime = Some(Duration::from_hours(1));
    rig.hand.fetch_add(3_599_999, Ordering::AcqRel);
    let other = rig.another().await;
    let renewed = other.refresh(&granted(&grant), None).await.unwrap();
    assert_eq!(renewed.access_expires_at, NOW + 3600);
    rig.hand.fetch_add(1, Ordering::AcqRel);
    assert!(matches!(other.refresh(&granted(&grant), None).await, Err(SessionError::Expired)));
}

async fn a_token_of_another_user_belongs_to_no_session_of_this_one(place: Place) {
    let rig = rig(place, |_| {}).await;
    let grant = rig.login().await;
    let mut foreign = granted(&grant);
    foreign.user_id = "2".to_owned();
    assert!(is_revoked(&rig.sessions.refresh(&foreign, None).await));
    assert!(is_revoked(&rig.sessions.end(&foreign).await));
    assert!(rig.sessions.admit(access_of(&grant), None).await.is_ok());
}

async fn the_session_of_a_token_without_one_is_always_the_same(place: Place) {
    let rig = rig(place, |_| {}).await;
    let foreign = claims(Expected::Refresh, &"j".repeat(255), None);
    let one = rig.sessions.refresh(&foreign, Some(mark("old"))).await.unwrap();
    let two = rig.another().await.refresh(&foreign, Some(mark("old"))).await.unwrap();
    assert_eq!((one.session.len(), &one.session), (32, &two.session));
    assert_eq!(rig.store.sessions(&Which::All).await.unwrap().len(), 1);
    assert!(is_revoked(&rig.sessions.refresh(&foreign, Some(mark("new"))).await));
    // An access token without a session has none.
    assert_eq!(Binding::of(&claims(Expected::Access, "j", None)).session, None);
}

async fn expired_rows_of_a_session_that_goes_on_are_swept(place: Place) {
    let rig = rig(place, |tokens| tokens.rotate_refresh = true).await;
    let mut grant = rig.login().await;
    for _ in 0..10 {
        let mut token = granted(&grant);
        token.expires_at_ms = grant.refresh.as_ref().unwrap().expires_at * 1000;
        grant = rig.sessions.refresh(&token, None).await.unwrap();
        rig.hand.fetch_add(12 * 3_600_000, Ordering::AcqRel);
        rig.sessions.sweep().await.unwrap();
    }
    let used = rig.store.number("SELECT count(*) AS value FROM used_refresh_tokens").await;
    assert!(used <= 3, "{used} rows are kept");
    assert_eq!(rig.store.sessions(&Which::All).await.unwrap().len(), 1);
}

async fn parallel_refreshes_wait_for_each_other(place: Place) {
    let rig = rig(place, |tokens| tokens.rotate_refresh = true).await;
    let grant = rig.login().await;
    let token = granted(&grant);
    let refreshes = (0..50).map(|_| rig.sessions.refresh(&token, None));
    let outcomes = futures_util::future::join_all(refreshes).await;
    let first = outcomes[0].as_ref().unwrap().refresh.clone();
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().refresh == first));
}

async fn a_store_that_is_away_grants_nothing(place: Place) {
    let rig = rig(place, |_| {}).await;
    let (kept, ended) = (rig.login().await, rig.login().await);
    rig.sessions.end(&granted(&ended)).await.unwrap();
    rig.store.close().await;
    assert!(matches!(rig.sessions.begin("1", mark("x")).await, Err(SessionError::Unavailable(_))));
    let refused = rig.sessions.refresh(&granted(&kept), None).await;
    assert!(matches!(refused, Err(SessionError::Unavailable(_))));
    assert!(matches!(rig.sessions.end(&granted(&kept)).await, Err(SessionError::Unavailable(_))));
    assert!(is_revoked(&rig.sessions.refresh(&granted(&ended), None).await));
    assert!(is_revoked(&rig.sessions.admit(access_of(&ended), None).await));
}

async fn a_store_that_says_nothing_for_too_long_lets_nothing_pass(place: Place) {
    let rig = rig(place, |_| {}).await;
    let (revocations, epoch) = (rig.sessions.revocations(), rig.sessions.revocations().epoch());
    rig.sessions.look_and_judge(Some(Duration::from_mins(1))).await;
    assert!(!revocations.is_stale() && rig.sessions.behind() < Duration::from_mins(1));
    let before = epoch.load(Ordering::Acquire);
    rig.store.close().await;
    rig.sessions.look_and_judge(Some(Duration::from_mins(1))).await;
    assert_eq!((revocations.is_stale(), epoch.load(Ordering::Acquire)), (false, before));
    rig.sessions.look_and_judge(Some(Duration::ZERO)).await;
    // Who remembers a token has to look again, and sees that nothing passes.
    assert!(revocations.is_stale() && epoch.load(Ordering::Acquire) > before);
    rig.sessions.look_and_judge(None).await;
    assert!(!revocations.is_stale());
}

async fn a_token_that_was_revoked_by_another_gateway_is_not_recorded(place: Place) {
    let rig = rig(place, |_| {}).await;
    let other = rig.another().await;
    rig.store.end_sessions(&Which::OfUser("1".to_owned()), "revoked").await.unwrap();
    // It has not heard of it.
    assert!(!other.revocations().has(&Binding::of(&claims(Expected::Refresh, "f", None))));
    assert!(is_revoked(&other.refresh(&claims(Expected::Refresh, "f", None), None).await));
    assert!(rig.store.sessions(&Which::All).await.unwrap().is_empty());
}

async fn parallel_refreshes_of_several_gateways_have_one_successor(place: Place) {
    let rig = rig(place, |tokens| tokens.rotate_refresh = true).await;
    let (two, three) = (rig.another().await, rig.another().await);
    let gateways = [&rig.sessions, &two, &three];
    // Known and never seen: the first one of the latter also records the session.
    for token in [granted(&rig.login().await), claims(Expected::Refresh, "foreign", None)] {
        let refreshes = (0..30).map(|number| gateways[number % 3].refresh(&token, None));
        let outcomes = futures_util::future::join_all(refreshes).await;
        let first = outcomes[0].as_ref().unwrap().refresh.clone();
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().refresh == first), "{outcomes:?}");
    }
    assert_eq!(rig.store.number("SELECT count(*) AS value FROM used_refresh_tokens").await, 2);
}

on_both_stores!(
    a_store_that_says_nothing_for_too_long_lets_nothing_pass,
    a_token_that_was_revoked_by_another_gateway_is_not_recorded,
    parallel_refreshes_of_several_gateways_have_one_successor,
    a_grant_has_the_times_of_the_configuration,
    a_session_ends_with_its_password,
    what_one_process_revokes_the_other_refuses,
    reuse_is_counted_once_and_ends_the_session,
    a_used_token_stays_used_when_rotation_is_switched_off,
    a_logout_with_a_token_that_was_just_used_is_a_logout,
    an_absolute_end_that_is_configured_later_counts_too,
    a_token_of_another_user_belongs_to_no_session_of_this_one,
    the_session_of_a_token_without_one_is_always_the_same,
    expired_rows_of_a_session_that_goes_on_are_swept,
    parallel_refreshes_wait_for_each_other,
    a_store_that_is_away_grants_nothing,
);

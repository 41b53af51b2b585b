//! Rotations on both kinds of store, by a clock that only the tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::base::clock::EARLIEST_UNIX_MS;
use crate::base::secret::Secret;
use crate::keys::tests::{secret_key, settings};
use crate::keys::{KeyFault, KeyWatch, News, State};
use crate::store::scratch::{Place, on_both_stores};

const KEK: &str = "a key-encryption key of 32 bytes or more";
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// A store, the settings, and the time.
struct Scene {
    store: Store,
    tokens: Tokens,
    clock: Clock,
    hand: Arc<AtomicI64>,
}

impl Scene {
    async fn set(place: &Place) -> Self {
        let (clock, hand) = Clock::manual(EARLIEST_UNIX_MS);
        let tokens = Tokens {
            key_encryption_key: Some(Secret::new(KEK)),
            key_directory: place.scratch.path("keys"),
            ..settings(Vec::new())
        };
        Self { store: place.open().await, tokens, clock, hand }
    }

    fn pass(&self, milliseconds: i64) {
        self.hand.fetch_add(milliseconds, Ordering::AcqRel);
    }

    /// The keys as a gateway that starts now has them.
    async fn ring(&self) -> KeyRing {
        KeyRing::open(&self.tokens, &self.store, &self.clock).await.unwrap()
    }

    async fn rotate(&self, wanted: Wanted) -> Result<Rotated, RotationError> {
        rotate(&self.store, &self.tokens, &wanted, &self.clock).await
    }

    async fn retire(&self, kid: &str) -> Result<(), RotationError> {
        retire(&self.store, &self.tokens, kid, &self.clock).await
    }
}

fn at_once() -> Wanted {
    Wanted { at_once: true, ..Wanted::default() }
}

fn states(ring: &KeyRing) -> Vec<State> {
    ring.keys().map(|key| ring.state(key)).collect()
}

/// The ids of the published keys.
fn published(ring: &KeyRing) -> Vec<String> {
    let set: serde_json::Value = serde_json::from_str(&ring.jwks_json()).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn the_next_key_is_published_then_signs_and_the_one_before_ends(place: Place) {
    let scene = Scene::set(&place).await;
    let first = scene.ring().await.signer().kid().to_owned();
    let rotated = scene.rotate(Wanted::default()).await.unwrap();
    let began_ms = scene.clock.now_unix_ms();
    assert_eq!(rotated.signs_at_ms, began_ms + 10 * MINUTE_MS);
    // Refresh tokens live a day, and clocks differ by a minute.
    let ends_ms = rotated.signs_at_ms + DAY_MS + MINUTE_MS;
    assert_eq!(rotated.before, Some((first.clone(), ends_ms)));
    let (next, both) = (rotated.kid.clone(), vec![first.clone(), rotated.kid]);
    // One ring lasts through all of it: nothing has to be read again for time to pass.
    let ring = scene.ring().await;
    let signed = ring.signer().sign(b"message").unwrap();
    assert_eq!((states(&ring), published(&ring)), (vec![State::Signing, State::Pending], both.clone()));
    scene.pass(10 * MINUTE_MS - 1);
    assert_eq!(ring.signer().kid(), first);
    scene.pass(1);
    assert_eq!(ring.signer().kid(), next);
    assert_eq!((states(&ring), published(&ring)), (vec![State::Verifying, State::Signing], both));
    assert!(ring.find(&first).unwrap().verifies(b"message", &signed));
    scene.pass(DAY_MS + MINUTE_MS - 1);
    assert_eq!(states(&ring), [State::Verifying, State::Signing]);
    scene.pass(1);
    assert_eq!((states(&ring), published(&ring)), (vec![State::Retired, State::Signing], vec![next.clone()]));
    // What starts now sees the same.
    assert_eq!(states(&scene.ring().await), [State::Retired, State::Signing]);
    // And later the row goes, when somebody rotates again.
    scene.pass(31 * DAY_MS);
    scene.rotate(Wanted::default()).await.unwrap();
    let kids: Vec<String> = scene.store.sealed_keys().await.unwrap().into_iter().map(|key| key.kid).collect();
    assert!(kids.len() == 2 && !kids.contains(&first), "{kids:?}");
}

async fn of_rotations_at_once_one_wins(place: Place) {
    let scene = Scene::set(&place).await;
    scene.ring().await;
    let other = Store::connect(&place.settings).await.unwrap();
    let wanted = Wanted::default();
    let rotate = |store: Store| {
        let (tokens, clock) = (&scene.tokens, &scene.clock);
        async move { super::rotate(&store, tokens, &wanted, clock).await }
    };
    let (one, two) = tokio::join!(rotate(scene.store.clone()), rotate(other));
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    let won = won.unwrap();
    let Err(RotationError::UnderWay { kid, signs_at_ms }) = lost else { panic!("{lost:?}") };
    assert_eq!((kid, signs_at_ms), (won.kid, won.signs_at_ms));
    assert_eq!(states(&scene.ring().await), [State::Signing, State::Pending]);
}

async fn gateways_that_start_together_make_one_key(place: Place) {
    let scene = Scene::set(&place).await;
    let other = Scene { store: Store::connect(&place.settings).await.unwrap(), ..Scene::set(&place).await };
    let (one, two) = tokio::join!(scene.ring(), other.ring());
    assert_eq!(one.signer().kid(), two.signer().kid());
    assert!(one.is_same(&two) && one.keys().count() == 1);
    assert!(!place.scratch.path("keys").exists(), "no file is made");
}

async fn in_need_the_next_key_signs_at_once_and_a_key_ends_now(place: Place) {
    let scene = Scene::set(&place).await;
    let first = scene.ring().await.signer().kid().to_owned();
    assert!(matches!(scene.retire(&first).await, Err(RotationError::Signs(kid)) if kid == first));
    assert!(matches!(scene.retire("nobody's").await, Err(RotationError::NoSuchKey(_))));
    let rotated = scene.rotate(at_once()).await.unwrap();
    let ring = scene.ring().await;
    // No two begin in the same millisecond.
    scene.pass(1);
    assert_eq!(ring.signer().kid(), rotated.kid);
    scene.retire(&first).await.unwrap();
    scene.retire(&first).await.unwrap();
    // Also by a clock that is late by half a minute.
    scene.pass(-MINUTE_MS / 2);
    let ring = scene.ring().await;
    assert_eq!(states(&ring), [State::Retired, State::Signing]);
    assert_eq!(published(&ring), [rotated.kid]);
}

async fn the_next_key_can_be_hastened_or_withdrawn(place: Place) {
    let scene = Scene::set(&place).await;
    let first = scene.ring().await.signer().kid().to_owned();
    let next = scene.rotate(Wanted::default()).await.unwrap().kid;
    scene.retire(&next).await.unwrap();
    let ring = scene.ring().await;
    assert_eq!(states(&ring), [State::Signing]);
    scene.pass(400 * DAY_MS);
    assert_eq!(states(&ring), [State::Signing], "the one before goes on");
    let next = scene.rotate(Wanted::default()).await.unwrap().kid;
    let other = Wanted { algorithm: Some(Algorithm::ES256), ..at_once() };
    assert!(matches!(scene.rotate(other).await, Err(RotationError::OtherAlgorithm { .. })));
    let hastened = scene.rotate(at_once()).await.unwrap();
    let now_ms = scene.clock.now_unix_ms();
    assert_eq!((&hastened.kid, hastened.signs_at_ms), (&next, now_ms));
    assert_eq!(hastened.before, Some((first, now_ms + DAY_MS + MINUTE_MS)));
    assert_eq!(states(&scene.ring().await), [State::Verifying, State::Signing]);
}

async fn every_algorithm_is_kept_and_shared_secrets_are_never_published(place: Place) {
    let scene = Scene::set(&place).await;
    for algorithm in [Algorithm::ES384, Algorithm::PS256, Algorithm::HS512] {
        let wanted = Wanted { algorithm: Some(algorithm), ..at_once() };
        let rotated = scene.rotate(wanted).await.unwrap();
        scene.pass(1);
        let ring = scene.ring().await;
        assert_eq!((ring.signer().kid(), ring.signer().algorithm()), (rotated.kid.as_str(), algorithm));
        let signature = ring.signer().sign(b"message").unwrap();
        assert!(scene.ring().await.signer().verifies(b"message", &signature));
        assert_eq!(published(&ring).contains(&rotated.kid), !algorithm.is_symmetric());
    }
    // The next one has the algorithm of the one that signs, unless upstreams verify what it signs.
    let wanted = Wanted { needs_pair: true, ..Wanted::default() };
    assert!(matches!(scene.rotate(wanted).await, Err(RotationError::Symmetric(Algorithm::HS512))));
    assert_eq!(scene.rotate(Wanted::default()).await.unwrap().algorithm, "HS512");
}

async fn a_key_of_the_configuration_signs_until_one_of_the_store_does(place: Place) {
    let mut scene = Scene::set(&place).await;
    scene.tokens.keys = vec![secret_key("file", Algorithm::HS256, &[7; 32])];
    let ring = scene.ring().await;
    assert_eq!((ring.signer().kid(), ring.keys().count()), ("file", 1));
    let rotated = scene.rotate(Wanted::default()).await.unwrap();
    assert_eq!((rotated.before, rotated.algorithm.as_str()), (None, "HS256"));
    let ring = ring.with_stored(&scene.tokens, &scene.store.sealed_keys().await.unwrap()).unwrap();
    assert_eq!(states(&ring), [State::Signing, State::Pending]);
    scene.pass(10 * MINUTE_MS);
    assert_eq!(states(&ring), [State::Verifying, State::Signing]);
    // From then on it may retire, and go.
    scene.tokens.keys[0].verify_until = Some(scene.clock.now_unix_seconds());
    assert_eq!(states(&scene.ring().await), [State::Retired, State::Signing]);
    scene.tokens.keys = vec![secret_key(&rotated.kid, Algorithm::HS256, &[7; 32])];
    let twice = KeyRing::open(&scene.tokens, &scene.store, &scene.clock).await;
    assert!(matches!(twice, Err(KeyError::Stored { fault: KeyFault::Twice, .. })), "{twice:?}");
}

async fn another_key_encryption_key_and_altered_rows_are_refused_by_name(place: Place) {
    let scene = Scene::set(&place).await;
    scene.ring().await;
    let other = Tokens {
        key_encryption_key: Some(Secret::new("another key-encryption key of 32 bytes")),
        ..scene.tokens.clone()
    };
    let refused = KeyRing::open(&other, &scene.store, &scene.clock).await.unwrap_err();
    assert!(matches!(&refused, KeyError::Stored { fault: KeyFault::OtherEncryptionKey, .. }), "{refused:?}");
    assert!(refused.to_string().contains("another key-encryption key"), "{refused}");
    let refused = rotate(&scene.store, &other, &at_once(), &scene.clock).await.unwrap_err();
    assert!(matches!(refused, RotationError::Keys(KeyError::Stored { .. })), "{refused:?}");
    let without = Tokens { key_encryption_key: None, ..scene.tokens.clone() };
    let refused = rotate(&scene.store, &without, &at_once(), &scene.clock).await.unwrap_err();
    assert!(matches!(refused, RotationError::NotInStore), "{refused:?}");
    assert_eq!(scene.store.sealed_keys().await.unwrap().len(), 1, "nothing was written");
    // A row that takes the place of another one, and one with another algorithm.
    for change in ["UPDATE token_keys SET kid = 'other'", "UPDATE token_keys SET alg = 'ES256'"] {
        scene.store.run(change).await.unwrap();
        let refused = KeyRing::open(&scene.tokens, &scene.store, &scene.clock).await.unwrap_err();
        assert!(matches!(refused, KeyError::Stored { fault: KeyFault::Altered, .. }), "{refused:?}");
    }
}

async fn keys_are_encrypted_with_another_key_encryption_key(place: Place) {
    let scene = Scene::set(&place).await;
    scene.rotate(at_once()).await.unwrap();
    scene.rotate(Wanted { algorithm: Some(Algorithm::HS256), ..Wanted::default() }).await.unwrap();
    let before = scene.ring().await;
    let new = Secret::new("another key-encryption key of 32 bytes");
    assert_eq!(rewrap(&scene.store, &scene.tokens, &new).await.unwrap(), 2);
    let with_new = Tokens { key_encryption_key: Some(new.clone()), ..scene.tokens.clone() };
    let after = KeyRing::open(&with_new, &scene.store, &scene.clock).await.unwrap();
    assert!(after.is_same(&before), "they are the same keys");
    // The old one opens nothing any more, and changes nothing.
    let refused = rewrap(&scene.store, &scene.tokens, &new).await.unwrap_err();
    assert!(matches!(refused, RotationError::Keys(KeyError::Stored { .. })), "{refused:?}");
    assert!(KeyRing::open(&with_new, &scene.store, &scene.clock).await.unwrap().is_same(&before));
}

async fn the_store_holds_no_key_that_can_be_read(place: Place) {
    let scene = Scene::set(&place).await;
    scene.ring().await;
    for algorithm in [Algorithm::ES256, Algorithm::HS256] {
        scene.rotate(Wanted { algorithm: Some(algorithm), ..at_once() }).await.unwrap();
        scene.pass(1);
    }
    let sealed = scene.store.sealed_keys().await.unwrap();
    let kek = Kek::of(&Secret::new(KEK)).unwrap();
    let mut secrets = vec![b"PRIVATE KEY".to_vec(), KEK.as_bytes().to_vec()];
    for key in &sealed {
        let (_, text) = key.text(&kek).unwrap();
        let longest = text.split(|byte| *byte == b'\n').max_by_key(|line| line.len()).unwrap();
        assert!(longest.len() >= 43);
        secrets.push(longest.to_vec());
    }
    let mut export = Vec::new();
    scene.store.export(&mut export).await.unwrap();
    assert!(String::from_utf8_lossy(&export).contains("token_keys"));
    let mut places = vec![export, format!("{sealed:?} {:?}", scene.ring().await).into_bytes()];
    let files = std::fs::read_dir(place.scratch.path("")).unwrap().map(|entry| entry.unwrap().path());
    places.extend(files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap()));
    for (number, bytes) in places.iter().enumerate() {
        for secret in &secrets {
            let found = memchr::memmem::find(bytes, secret).is_some();
            assert!(!found, "a key can be read in place {number}");
        }
    }
}

async fn changes_by_others_are_noticed_and_nothing_else_is(place: Place) {
    let scene = Scene::set(&place).await;
    let other = Store::connect(&place.settings).await.unwrap();
    let mut watch = KeyWatch::new(other);
    let News::Some(look) = watch.look().await.unwrap() else { panic!("it has seen nothing yet") };
    // Until it is settled it is told again.
    assert!(matches!(watch.look().await.unwrap(), News::Some(_)));
    watch.settle(look);
    assert_eq!(watch.look().await.unwrap(), News::None);
    scene.store.run("UPDATE revisions SET value = value + 1 WHERE topic = 'users'").await.unwrap();
    assert_eq!(watch.look().await.unwrap(), News::None);
    scene.ring().await;
    let News::Some(look) = watch.look().await.unwrap() else { panic!("a key was made") };
    watch.settle(look);
    scene.rotate(Wanted::default()).await.unwrap();
    assert!(matches!(watch.look().await.unwrap(), News::Some(_)));
}

on_both_stores!(
    the_next_key_is_published_then_signs_and_the_one_before_ends,
    of_rotations_at_once_one_wins,
    gateways_that_start_together_make_one_key,
    in_need_the_next_key_signs_at_once_and_a_key_ends_now,
    the_next_key_can_be_hastened_or_withdrawn,
    every_algorithm_is_kept_and_shared_secrets_are_never_published,
    a_key_of_the_configuration_signs_until_one_of_the_store_does,
    another_key_encryption_key_and_altered_rows_are_refused_by_name,
    keys_are_encrypted_with_another_key_encryption_key,
    the_store_holds_no_key_that_can_be_read,
    changes_by_others_are_noticed_and_nothing_else_is,
);

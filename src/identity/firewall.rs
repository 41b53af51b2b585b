//! Which header fields of a client never reach an upstream.
//!
//! Names are compared by their letters and digits alone. CGI and WSGI servers map every other byte to one and the same
//! character, so `X-User_Id`, `X.User.Id` and `X--User-Id` may all become the identity header; here they all are it.
//! The rule is stricter than it need be: a name that only resembles an owned one is removed as well.

use http::HeaderName;

use crate::base::field_list::FieldList;
use crate::base::fields::{FORWARDED, OWNED};
use crate::config::Config;
use crate::http::hop::Listed;
use crate::net::peer::Trust;

/// Longest owned name, in letters and digits: the longest that a configuration may have, with `http` in front of it. A
/// longer name is owned by no one.
const LONGEST: usize = 44;

/// Names up to so many bytes, as nearly all are, need no memory of their own to be looked at.
const USUAL: usize = 64;

/// What becomes of a client's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is removed, whoever sends it.
    Owned,
    /// It is removed, unless a trusted proxy sends it under this very name.
    Forwarded,
}

/// The names of all fields that the gateway removes, each once, as their owners write them, in lower case; also those in
/// which client certificates are told of, and those that are set for some upstream.
pub fn owned_names(config: &Config) -> Vec<(&str, Fate)> {
    let client_auth = config.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
    let certificates = client_auth.map(|auth| auth.headers.as_slice()).unwrap_or_default();
    let certificates = certificates.iter().map(|header| header.name.as_str());
    let told = config.upstreams.iter().flat_map(|upstream| upstream.identity.names());
    let configured = certificates.chain(told.map(HeaderName::as_str));
    let owned = configured.chain(OWNED.iter().copied()).map(|name| (name, Fate::Owned));
    let mut names: Vec<(&str, Fate)> = Vec::new();
    for (name, fate) in owned.chain(FORWARDED.iter().map(|name| (*name, Fate::Forwarded))) {
        // What is configured comes first, and is believed from nobody.
        if names.iter().all(|(other, _)| *other != name) {
            names.push((name, fate));
        }
    }
    names
}

/// The owned names, by how many letters and digits they have.
#[derive(Debug)]
pub struct Firewall {
    by_length: Vec<Vec<(Box<[u8]>, Fate)>>,
    /// How many the shortest of them has.
    shortest: usize,
}

impl Firewall {
    /// The firewall of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut by_length = vec![Vec::new(); LONGEST + 1];
        for (name, fate) in owned_names(config) {
            let plain: Vec<u8> = name.bytes().filter(u8::is_ascii_alphanumeric).collect();
            // A name that begins so itself is one with it and without it.
            let bare = plain.strip_prefix(b"http").map(<[u8]>::to_vec);
            for plain in [Some(plain), bare].into_iter().flatten() {
                if let Some(names) = by_length.get_mut(plain.len()) {
                    names.push((plain.into(), fate));
                }
            }
        }
        let shortest = by_length.iter().take_while(|names| names.is_empty()).count();
        Self { by_length, shortest }
    }

    /// One that does not know a name, which no gateway may start with.
    #[cfg(test)]
    pub(crate) fn ignorant_of(config: &Config, name: &str) -> Self {
        let mut firewall = Self::new(config);
        let plain: Vec<u8> = name.bytes().filter(u8::is_ascii_alphanumeric).collect();
        firewall.by_length[plain.len()].retain(|(other, _)| **other != *plain);
        firewall
    }

    /// Removes every field that the gateway owns, whatever its spelling, and all that `Connection` lists.
    pub fn clean(&self, headers: &mut FieldList, trust: Trust) {
        let listed = Listed::of(headers);
        headers.retain(|name| !self.removes(name, trust) && !listed.contains(name));
    }

    /// Whether a client's field of this name is removed.
    pub fn removes(&self, name: &HeaderName, trust: Trust) -> bool {
        match self.fate(name.as_str().as_bytes()) {
            Some(Fate::Owned) => true,
            Some(Fate::Forwarded) => trust == Trust::Untrusted || !is_plain(name),
            None => false,
        }
    }

    fn fate(&self, name: &[u8]) -> Option<Fate> {
        if name.len() < self.shortest {
            return None;
        }
        let (mut short, long);
        let mut letters = if name.len() <= USUAL {
            short = [0; USUAL];
            letters_of(name, &mut short)
        } else {
            long = name.iter().copied().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>();
            long.as_slice()
        };
        loop {
            if let Some(fate) = self.look_up(letters) {
                return Some(fate);
            }
            // CGI puts HTTP_ in front of the name of every field, and a second server may do so again.
            letters = letters.strip_prefix(b"http")?;
        }
    }

    fn look_up(&self, letters: &[u8]) -> Option<Fate> {
        let names = self.by_length.get(letters.len())?;
        names.iter().find(|(name, _)| **name == *letters).map(|(_, fate)| *fate)
    }
}

/// The letters and digits of a name, as far as there is room for them.
fn letters_of<'a>(name: &[u8], room: &'a mut [u8; USUAL]) -> &'a [u8] {
    let mut letters = 0;
    for (byte, place) in name.iter().filter(|byte| byte.is_ascii_alphanumeric()).zip(room.iter_mut()) {
        *place = *byte;
        letters += 1;
    }
    room.get(..letters).unwrap_or_default()
}

/// Whether a name is written with dashes alone, as its owner writes it.
fn is_plain(name: &HeaderName) -> bool {
    FORWARDED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::config;

    fn parsed(text: &str) -> Config {
        config::parse(text, "gateway.toml", Path::new(""), &config::Environment::default()).unwrap()
    }

    fn plain() -> Config {
        parsed(&upstream(""))
    }

    /// A configuration with these lines for its upstream.
    fn upstream(lines: &str) -> String {
        format!(
            "[upstreams.api]\ntargets = [\"http://127.0.0.1:9000\"]\n{lines}\n\
             [[routes]]\npath = \"/\"\nauth = \"required\"\nupstream = \"api\"\n"
        )
    }

    fn left(names: &[&str], trust: Trust) -> Vec<String> {
        let mut headers = FieldList::new();
        for name in names {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("admin"));
        }
        Firewall::new(&plain()).clean(&mut headers, trust);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn every_spelling_of_an_owned_name_is_removed_from_everybody() {
        for trust in [Trust::Untrusted, Trust::Trusted] {
            for name in [
                "x-user-id",
                "X-USER-ID",
                "X_User_Id",
                "X-User_Id",
                "X.User.Id",
                "X'User'Id",
                "X-User-Id-",
                "X--User-Id",
                "-x-user-id",
                "HTTP-X-User-Id",
                "HTTP_X_USER_ID",
                "x~user~id",
                "xuserid",
                "http_x_user-groups",
                "HTTP_HTTP_X_USER_ID",
                "HTTP_HTTP_HTTP_HTTP_HTTP_HTTP_HTTP_HTTP_HTTP_HTTP_HTTP_HTTP_X_USER_ID",
                "Remote-User",
                "remote_user",
                "X-WEBAUTH-USER",
                "X-Forwarded-User",
                "X_Forwarded_Email",
                "authorization",
                "Content_Length",
                "transfer.encoding",
                "Proxy-Authorization",
                "X-HTTP-Method-Override",
            ] {
                assert_eq!(left(&[name, "accept"], trust), ["accept"], "{name}");
            }
        }
    }

    #[test]
    fn other_names_stay() {
        let names = [
            "accept",
            "cookie",
            "x-user-identity",
            "x-user",
            "user-agent",
            "traceparent",
            "x-api-key",
            "http-x",
        ];
        assert_eq!(left(&names, Trust::Untrusted), names);
        assert_eq!(left(&[&"x".repeat(300)], Trust::Untrusted).len(), 1);
    }

    #[test]
    fn forwarding_headers_are_believed_from_trusted_proxies_only_and_only_in_their_own_spelling() {
        let names = ["x-forwarded-for", "forwarded", "x-real-ip", "x-request-id", "x-original-url"];
        assert!(left(&names, Trust::Untrusted).is_empty());
        assert_eq!(left(&names, Trust::Trusted), names);
        assert!(left(&["x_forwarded_for", "http-x-real-ip"], Trust::Trusted).is_empty());
    }

    #[test]
    fn what_connection_lists_is_removed() {
        let mut headers = FieldList::new();
        headers.append(HeaderName::from_static("connection"), HeaderValue::from_static("close, x-hop"));
        headers
            .append(HeaderName::from_static("connection"), HeaderValue::from_bytes(b"\xff, cookie").unwrap());
        for name in ["x-hop", "cookie", "accept"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        Firewall::new(&plain()).clean(&mut headers, Trust::Untrusted);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn what_certificates_are_told_in_is_owned_whatever_cgi_puts_in_front() {
        let long = "http-".to_owned() + &"a".repeat(40);
        let text = format!(
            r#"
            [[tls.certificates]]
            hosts = ["gw.test"]
            cert = "c.pem"
            key = "k.pem"
            [tls.client_auth]
            ca = "ca.pem"
            headers = {{ "X-Client-Subject" = "subject", "Http-Client-Serial" = "serial", "{long}" = "san_dns" }}
            [upstreams.api]
            targets = ["http://127.0.0.1:9000"]
            [[routes]]
            path = "/"
            auth = "required"
            upstream = "api"
        "#
        );
        let config =
            config::parse(&text, "gateway.toml", Path::new(""), &config::Environment::default()).unwrap();
        let firewall = Firewall::new(&config);
        for name in
            ["x-client-subject", "http-x_client-subject", "http-client-serial", "client-serial", &long]
        {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert!(firewall.removes(&name, Trust::Trusted), "{name}");
        }
    }

    #[test]
    fn what_any_upstream_is_told_is_owned_on_every_route() {
        let config = parsed(&upstream(
            r#"identity = { "X-Account" = "claim:account", "True-Client-Ip" = "user:id" }
               credentials = { header = "X-Backend-Key", value = "hunter2" }"#,
        ));
        let firewall = Firewall::new(&config);
        for name in ["x-account", "http_x.account", "x_backend-key", "xbackendkey", "true-client-ip"] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert!(firewall.removes(&name, Trust::Trusted), "{name}");
        }
        let names: Vec<&str> = owned_names(&config).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.iter().filter(|name| **name == "true-client-ip").count(), 1);
        assert!(
            left(&["x-account", "x-backend-key"], Trust::Trusted).len() == 2,
            "where nobody is told them"
        );
    }

    #[test]
    fn the_headers_of_every_preset_are_owned() {
        for (preset, headers) in config::PRESETS {
            for (name, _) in headers {
                assert!(OWNED.contains(name), "{name} of {preset}");
            }
        }
        assert!(OWNED.contains(&super::super::X_TOLLGATE_ASSERTION.as_str()));
    }

    #[test]
    fn more_owned_fields_than_fit_in_one_round_are_all_removed() {
        let names: Vec<String> = (0..60).map(|dashes| format!("x{}user-id", "-".repeat(dashes))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(left(&names, Trust::Untrusted).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_stands_between_the_letters_an_owned_name_is_removed(
            separators in prop::collection::vec("[-_.~!#$&'*+^`|]{0,3}", 4),
            prefix in prop::sample::select(vec!["", "http-", "HTTP_", "Http."]),
            owned in prop::sample::select(vec![["x", "user", "id"], ["x", "user", "groups"], ["x", "webauth", "user"]]),
        ) {
            let name = format!("{prefix}{}{}{}{}{}{}{}", separators[0], owned[0], separators[1], owned[1], separators[2], owned[2], separators[3]);
            prop_assert!(left(&[&name], Trust::Trusted).is_empty());
        }
    }
}

//! Who may ask the admin listener for what. A browser that somebody has lured to another page can reach it too, so a
//! request has to show that it comes from the page itself.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, HeaderName, Uri, header};

use crate::base::secret::Secret;
use crate::config::Server;

/// Set by the page, and by the command line. Another site's page can only set it when the listener agrees, which it never does (Fetch standard,
/// CORS preflight).
pub const FROM_PAGE: HeaderName = HeaderName::from_static("x-tollgate-admin");
/// Where a request of a browser comes from (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It names a host that is none of the listener's: its name may have been made to point here (DNS rebinding).
    Host,
    /// Another site's page has made it.
    Site,
    /// It has no token, or another one.
    Token,
}

/// Whose requests are answered.
pub(super) struct Guard {
    token: Option<Secret>,
    /// Host names, in lower case.
    hosts: Vec<String>,
}

impl Guard {
    /// The guard that a configuration asks for.
    pub(super) fn of(server: &Server) -> Self {
        Self::new(server.admin_token.clone(), server.admin_hosts.clone())
    }

    fn new(token: Option<Secret>, hosts: Vec<String>) -> Self {
        Self { token, hosts }
    }

    /// Whether there is a token, without which nobody sees or ends a session.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request that is no business of another site may be answered: probes and scrapers say nothing of a site,
    /// whatever they call the host; a browser has to be on the right one.
    pub(super) fn check_reader(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        if is_of_browser(headers) { self.check_page(uri, headers) } else { Ok(()) }
    }

    /// Whether a part of the page may be given out.
    pub(super) fn check_page(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        let host = self.host(uri, headers).ok_or(Denied::Host)?;
        let site = headers.get(SEC_FETCH_SITE).map(http::HeaderValue::as_bytes);
        // "none" is somebody who has typed the address.
        if !matches!(site, None | Some(b"same-origin" | b"none")) {
            return Err(Denied::Site);
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        if origin.is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host)) {
            Ok(())
        } else {
            Err(Denied::Site)
        }
    }

    /// Whether the page's own code asks, or the command line does, and for whom the token speaks, if there is one.
    pub(super) fn check_call(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        self.check_page(uri, headers)?;
        if !headers.contains_key(FROM_PAGE) {
            return Err(Denied::Site);
        }
        match &self.token {
            None => Ok(()),
            Some(token) => check_token(token, headers),
        }
    }

    /// The same where nothing goes without a token.
    pub(super) fn check_operator(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        if self.has_token() { self.check_call(uri, headers) } else { Err(Denied::Token) }
    }

    /// The host with its port, when it is one of the listener's: an address, `localhost`, or one that is configured.
    fn host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
        let mut named = headers.get_all(header::HOST).iter();
        let host = named.next()?.to_str().ok()?;
        if named.next().is_some() || uri.authority().is_some_and(|authority| authority.as_str() != host) {
            return None;
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) | None => host,
        };
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let own = bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
        own.then_some(host)
    }
}

/// Whether a browser has sent this, as far as it shows. Not every request of one says what site it comes from: one without
/// TLS to a name does not, which is what a name that points here has. No page can leave out all of these.
fn is_of_browser(headers: &HeaderMap) -> bool {
    let named = [SEC_FETCH_SITE, header::ORIGIN, header::ACCEPT_LANGUAGE, header::REFERER];
    let agent = headers.get(header::USER_AGENT).map_or(b"".as_slice(), http::HeaderValue::as_bytes);
    named.iter().any(|name| headers.contains_key(name)) || agent.starts_with(b"Mozilla/")
}

/// Compares in the same time wherever the first difference is.
fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), Denied> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return Err(Denied::Token) };
    let given = value.as_bytes().split_at_checked("bearer ".len());
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, given)| given);
    verify_slices_are_equal(given.unwrap_or_default(), token.expose()).map_err(|_| Denied::Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn guard() -> Guard {
        Guard::new(Some(Secret::new(TOKEN)), vec!["gate.internal".to_owned()])
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_name_that_is_not_the_listeners_is_refused() {
        let uri = Uri::from_static("/");
        for host in
            ["127.0.0.1:9911", "[::1]:9911", "10.0.0.7", "localhost:9911", "LocalHost", "gate.internal:80"]
        {
            assert_eq!(guard().check_page(&uri, &headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in
            ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test:9911", "gate.internal.evil.test", ""]
        {
            assert_eq!(guard().check_page(&uri, &headers(&[("host", host)])), Err(Denied::Host), "{host}");
        }
        assert_eq!(guard().check_page(&uri, &headers(&[])), Err(Denied::Host));
        let twice = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert_eq!(guard().check_page(&uri, &twice), Err(Denied::Host));
        let other = Uri::from_static("http://evil.test/");
        assert_eq!(guard().check_page(&other, &headers(&[("host", "localhost")])), Err(Denied::Host));
    }

    #[test]
    fn another_sites_page_is_refused_and_a_scraper_is_not() {
        let uri = Uri::from_static("/metrics");
        let asked = |fields: &[(&'static str, &'static str)]| guard().check_reader(&uri, &headers(fields));
        assert_eq!(asked(&[("host", "tollgate.monitoring.svc")]), Ok(()));
        for shown in [
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://evil.test"),
            ("accept-language", "de"),
            ("referer", "http://evil.test/"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ] {
            assert_eq!(asked(&[("host", "evil.test"), shown]), Err(Denied::Host), "{shown:?}");
        }
        assert_eq!(asked(&[("host", "evil.test"), ("user-agent", "Prometheus/3.7.0")]), Ok(()));
        assert_eq!(asked(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]), Err(Denied::Site));
        assert_eq!(asked(&[("host", "localhost"), ("sec-fetch-site", "same-site")]), Err(Denied::Site));
        assert_eq!(asked(&[("host", "localhost"), ("sec-fetch-site", "none")]), Ok(()));
        assert_eq!(asked(&[("host", "localhost:1"), ("origin", "http://localhost:1")]), Ok(()));
        assert_eq!(asked(&[("host", "localhost:1"), ("origin", "http://localhost:2")]), Err(Denied::Site));
        assert_eq!(asked(&[("host", "localhost"), ("origin", "null")]), Err(Denied::Site));
    }

    #[test]
    fn only_the_page_with_the_token_may_call() {
        let uri = Uri::from_static("/api/sessions");
        let call = |fields: &[(&'static str, &'static str)]| guard().check_operator(&uri, &headers(fields));
        let page = ("x-tollgate-admin", "1");
        let good = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");
        assert_eq!(call(&[("host", "localhost"), page, good]), Ok(()));
        assert_eq!(call(&[("host", "localhost"), page]), Err(Denied::Token));
        assert_eq!(call(&[("host", "localhost"), good]), Err(Denied::Site));
        assert_eq!(call(&[("host", "evil.test"), page, good]), Err(Denied::Host));
        assert_eq!(call(&[("host", "localhost"), page, good, good]), Err(Denied::Token));
        for other in [
            "Bearer ",
            "Bearer 0123456789abcdef0123456789abcdeF",
            "0123456789abcdef0123456789abcdef",
            "Basic x",
        ] {
            assert_eq!(
                call(&[("host", "localhost"), page, ("authorization", other)]),
                Err(Denied::Token),
                "{other}"
            );
        }
        let none = Guard::new(None, Vec::new());
        assert_eq!(none.check_operator(&uri, &headers(&[("host", "localhost"), page])), Err(Denied::Token));
        assert_eq!(none.check_call(&uri, &headers(&[("host", "localhost"), page])), Ok(()));
    }
}

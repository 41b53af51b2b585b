//! Where requests go: a URL with everything about it that is known before the first connection.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// An `http` or `https` URL without a fragment and without a user name or password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    secure: bool,
    authority: Authority,
    target: PathAndQuery,
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// It is no URL, or does not begin with `http://` or `https://`.
    NotUrl,
    /// It has a user name, and perhaps a password.
    Userinfo,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUrl => "a URL begins with http:// or https://, such as http://127.0.0.1:8080/things",
            Self::Userinfo => {
                "everybody on this machine can see a password in an argument: name users with --user or --users"
            }
        })
    }
}

impl std::error::Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let parts = text.parse::<Uri>().map_err(|_| EndpointError::NotUrl)?.into_parts();
        let secure = match parts.scheme {
            Some(scheme) if scheme == Scheme::HTTP => false,
            Some(scheme) if scheme == Scheme::HTTPS => true,
            Some(_) | None => return Err(EndpointError::NotUrl),
        };
        let authority = parts.authority.filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or(EndpointError::NotUrl)?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::Userinfo);
        }
        // A port that is none is not told apart from no port by the library.
        if authority.port_u16().is_none() && authority.as_str().len() != authority.host().len() {
            return Err(EndpointError::NotUrl);
        }
        let target = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { secure, authority, target })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.target)
    }
}

impl Endpoint {
    /// Another path of the same origin.
    #[must_use]
    pub fn at(&self, target: PathAndQuery) -> Self {
        Self { target, ..self.clone() }
    }

    /// The path below this one: `refresh/` below `/api/token/`. What follows a question mark goes.
    #[must_use]
    pub fn below(&self, segment: &str) -> Self {
        let path = format!("{}/{segment}", self.target.path().trim_end_matches('/'));
        // A path that was sound is so with a segment more.
        self.at(PathAndQuery::try_from(path).unwrap_or_else(|_| self.target.clone()))
    }

    /// Whether it is `https`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Host and port, as they stand in a request.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Path and query, as they stand in a request.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// The scheme of requests over HTTP/2.
    pub fn scheme(&self) -> Scheme {
        if self.secure { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// The addresses of the host. Blocks.
    ///
    /// # Errors
    ///
    /// When the host is not known, or has no address.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = (self.host(), self.port()).to_socket_addrs()?.collect();
        if found.is_empty() { Err(std::io::ErrorKind::AddrNotAvailable.into()) } else { Ok(found) }
    }

    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.secure { 443 } else { 80 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_host_and_no_password() {
        for (text, shown) in [
            ("http://a", "http://a/"),
            ("https://a:1/b?c=d", "https://a:1/b?c=d"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for text in ["", "a", "/a", "a:80", "ftp://a/", "http://", "http:///x", "http://a b/", "http://a:x/"]
        {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::NotUrl), "{text:?}");
        }
        for text in ["http://u@a/", "http://u:secret@a/"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error, EndpointError::Userinfo);
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn other_paths_stay_at_the_origin() {
        let url: Endpoint = "https://[::1]/things?page=2".parse().unwrap();
        let login = url.at(PathAndQuery::from_static("/api/token/"));
        assert_eq!(login.to_string(), "https://[::1]/api/token/");
        assert_eq!(login.below("refresh/").to_string(), "https://[::1]/api/token/refresh/");
        let bare: Endpoint = "http://a/login?next=x".parse().unwrap();
        assert_eq!(bare.below("refresh/").to_string(), "http://a/login/refresh/");
        assert_eq!((url.host(), url.port()), ("::1", 443));
    }
}

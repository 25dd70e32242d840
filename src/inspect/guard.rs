//! Who may ask what: token, session cookie, Host, Origin, and the headers of every answer.
//!
//! Machines where micrographs are processed are shared, so loopback alone protects nothing: every
//! request needs the token. Names that lead here by way of a foreign DNS entry, and pages of other
//! sites, are refused even if a browser would add the cookie.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What a page may load: files of this server, and nothing of any other.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// What a browser is told that has no session.
const NO_SESSION: &str =
    "This page needs the address that `picker inspect` printed, with its token.\n";

/// What a browser is told whose address has been used.
const USED: &str = "This address works only once, and it was already opened. The browser that \
                    opened it has a cookie; for another one, start `picker inspect` again.\n";

/// The secrets of one server and the names that it answers to.
#[derive(Debug)]
pub(super) struct Guard {
    /// In the address that is printed. It opens the page once.
    token: String,
    opened: AtomicBool,
    /// For scripts, as long as the server lives.
    script: String,
    /// In the cookie. Another secret, so that a cookie does not give away the address.
    session: String,
    cookie: String,
    bound: SocketAddr,
    hostname: String,
}

impl Guard {
    pub(super) fn new(bound: SocketAddr, hostname: String) -> Guard {
        Guard {
            token: secret(),
            opened: AtomicBool::new(false),
            script: secret(),
            session: secret(),
            // Cookies do not know ports: two servers of one host must not take each other's.
            cookie: format!("picker_{}", bound.port()),
            bound,
            hostname,
        }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn script_token(&self) -> &str {
        &self.script
    }

    /// Whether a name in `Host` is one of this server. The port is free, since a tunnel may have
    /// another one at its near end; what counts is that the name is no foreign one.
    fn is_own(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let bound = self.bound.ip();
        match address.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => true,
            Ok(ip) => !bound.is_loopback() && (bound.is_unspecified() || ip == bound),
            Err(_) => !bound.is_loopback() && name.eq_ignore_ascii_case(&self.hostname),
        }
    }

    fn has_session(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|line| line.split(';')).filter_map(|c| c.trim().split_once('='));
        pairs.any(|(name, value)| name == self.cookie && same(value, &self.session))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        given.and_then(|text| text.strip_prefix("Bearer ")).is_some_and(|given| {
            // That of the address ends with its one use.
            let unused = !self.opened.load(Ordering::SeqCst);
            same(given, &self.script) || (unused && same(given, &self.token))
        })
    }

    /// Why a request is refused, if it is.
    fn refuse(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        let headers = request.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(host) = text(HOST).filter(|host| self.is_own(host)) else {
            return Some((
                StatusCode::MISDIRECTED_REQUEST,
                "This server does not answer under this host name.\n",
            ));
        };
        let by_token = self.has_token(headers);
        if !by_token && !self.has_session(headers) {
            return Some((StatusCode::UNAUTHORIZED, NO_SESSION));
        }
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let foreign =
            Some((StatusCode::FORBIDDEN, "Changes are accepted only from picker's own page.\n"));
        match headers.get(ORIGIN).map(|value| value.to_str().unwrap_or_default()) {
            Some(origin) => {
                let own = |scheme: &str| origin.strip_prefix(scheme) == Some(host);
                if own("http://") || own("https://") { None } else { foreign }
            }
            // Browsers always send it with a change; a script has the token instead.
            None if by_token => None,
            None => foreign,
        }
    }
}

/// Looks at every request before anything else does, and completes every answer.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let enters = has_address(&guard, &request);
    let known = enters && guard.has_session(request.headers());
    let first = enters && !known && !guard.opened.swap(true, Ordering::SeqCst);
    let answer = if first {
        // The address with the token does not stay in the browser's history.
        let cookie =
            format!("{}={}; HttpOnly; SameSite=Strict; Path=/", guard.cookie, guard.session);
        let page = next.run(request).await;
        match HeaderValue::from_str(&cookie) {
            Ok(cookie) => ([(SET_COOKIE, cookie)], page).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    } else if enters && !known {
        (StatusCode::UNAUTHORIZED, USED).into_response()
    } else if let Some((status, why)) = guard.refuse(&request) {
        (status, why).into_response()
    } else {
        next.run(request).await
    };
    with_headers(answer)
}

/// Whether this is the page asked for with the right token in its address.
fn has_address(guard: &Guard, request: &Request) -> bool {
    let own = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let query = request.uri().query().unwrap_or_default();
    let token = query.split('&').find_map(|part| part.strip_prefix("token="));
    request.method() == Method::GET
        && request.uri().path() == "/"
        && own.is_some_and(|host| guard.is_own(host))
        && token.is_some_and(|token| same(token, &guard.token))
}

fn with_headers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let set = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// 256 random bits.
fn secret() -> String {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes);
    blake3::Hash::from_bytes(bytes).to_hex().to_string()
}

/// Compares in a time that does not depend on where two texts differ.
fn same(given: &str, own: &str) -> bool {
    blake3::hash(given.as_bytes()) == blake3::hash(own.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str) -> Guard {
        Guard::new(address.parse().unwrap(), "node7".into())
    }

    #[test]
    fn a_server_answers_to_its_own_names_only() {
        let loopback = bound("127.0.0.1:7878");
        for own in ["127.0.0.1:7878", "localhost:9000", "LOCALHOST", "[::1]:7878", "127.0.0.1"] {
            assert!(loopback.is_own(own), "{own}");
        }
        let foreign = [
            "evil.example",
            "evil.example:7878",
            "127.0.0.1.evil.example",
            "10.0.0.4",
            "",
            "node7",
            "localhost.evil.example:80",
            "localhost:80x",
        ];
        for name in foreign {
            assert!(!loopback.is_own(name), "{name}");
        }
        let open = bound("10.0.0.4:7878");
        assert!(open.is_own("10.0.0.4:7878") && open.is_own("node7:7878"));
        assert!(!open.is_own("10.0.0.5:7878") && !open.is_own("evil.example"));
        assert!(bound("0.0.0.0:7878").is_own("10.0.0.5:7878"));
        assert!(!bound("0.0.0.0:7878").is_own("evil.example:7878"));
    }

    #[test]
    fn secrets_differ_and_are_compared_whole() {
        let guard = bound("127.0.0.1:1");
        assert_ne!(guard.token, guard.session);
        assert_eq!(guard.token.len(), 64);
        assert!(same("ab", "ab") && !same("ab", "abc") && !same("", "ab"));
    }
}

//! Who may use the admin port: a caller with the token, the open paths apart; and never a web page of another site that a
//! browser on this machine happens to show (cross-site requests, and DNS rebinding, where the page's own host name leads
//! to the loopback address).

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::Shared;
use super::error::ApiError;
use super::listener::{Caller, Stage};
use super::routes::OPEN;
use crate::config::read_token;
use crate::observe::audit;
use crate::security::logins::Logins;

/// What the port asks of its callers.
#[derive(Debug)]
pub(super) struct Guard {
    pub on_loopback: bool,
    /// Names besides loopback's that a `Host` header may give.
    pub host_names: Vec<String>,
    /// Absolute, so that callers can be told.
    pub token_file: PathBuf,
    /// Where wrong tokens are counted.
    pub logins: Arc<Logins>,
}

/// The user that wrong tokens are counted for. No user of a listener has such a name.
const OPERATOR: &str = "\0admin token";

/// Stands before every path.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let open = OPEN.contains(&request.uri().path());
    let guard = &shared.guard;
    guard.same_site(request.headers(), open)?;
    if !open {
        let caller = request.extensions().get::<ConnectInfo<Caller>>();
        let caller = caller.map(|ConnectInfo(caller)| caller.clone());
        guard.token(request.headers(), caller.as_ref()).await?;
        if let Some(caller) = caller {
            caller.place.set(Stage::Trusted);
        }
    }
    Ok(next.run(request).await)
}

impl Guard {
    /// Whether the call carries the token, as it stands in its file now: a token is replaced without a restart.
    /// The right one is never held up: a token is too long to be guessed, and whoever tries only fills the log.
    async fn token(&self, headers: &HeaderMap, caller: Option<&Caller>) -> Result<(), ApiError> {
        let file = self.token_file.clone();
        let expected = tokio::task::spawn_blocking(move || read_token(&file))
            .await
            .map_err(ApiError::internal)?
            .map_err(|message| {
                tracing::error!(message, "the admin token cannot be read; calls are refused");
                ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no-token",
                    "the broker cannot read its token; its log says why",
                )
            })?;
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        match given {
            Some(given) if bool::from(given.ct_eq(expected.as_bytes())) => Ok(()),
            Some(_) => {
                if let Some(caller) = caller {
                    self.wrong_token(caller).await;
                }
                Err(self.unauthorized("this is not the admin token"))
            }
            None => Err(self.unauthorized("this call needs the admin token")),
        }
    }

    /// Tells the audit trail, and holds the answer up as listeners do after wrong passwords.
    async fn wrong_token(&self, caller: &Caller) {
        let address = caller.peer.ip();
        let line = match self.logins.admit(address, OPERATOR).await {
            Some(attempt) => attempt.failed(),
            None => self.logins.failed(address, OPERATOR),
        };
        if let Some(left_out) = line {
            audit::login_failed(&audit::FailedLogin {
                user: "",
                host: &address.to_canonical().to_string(),
                listener: "admin",
                mechanism: "token",
                reason: "this is not the admin token",
                left_out,
            });
        }
    }

    fn unauthorized(&self, detail: &str) -> ApiError {
        // Where it lies is no secret on this machine; a caller from elsewhere could not read it there.
        let lies_in = self
            .on_loopback
            .then(|| self.token_file.display().to_string());
        let detail = match &lies_in {
            Some(path) => format!("{detail}, which lies in {path}"),
            None => detail.to_owned(),
        };
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .fix("run the command as a user who may read that file, or pass --token-file FILE; other tools send the header Authorization: Bearer TOKEN")
            .token_file(lies_in)
    }

    /// Refuses what a browser sends on behalf of another site. Browsers always name a host: without one no page is behind the
    /// request, and what is open stays open to health checks that speak HTTP/1.0.
    fn same_site(&self, headers: &HeaderMap, open: bool) -> Result<(), ApiError> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if headers.get_all(header::HOST).iter().count() > 1 {
            return cross_site("the request names more than one host");
        }
        let host = text(header::HOST);
        match host {
            Some(host) if self.is_called(host) => {}
            Some(host) => {
                return cross_site(&format!(
                    "{host:?} is no name of the loopback address, and not in admin.host-names"
                ));
            }
            None if open && !headers.contains_key(header::HOST) => {}
            None => return cross_site("the request has no Host header"),
        }
        if headers.contains_key(header::ORIGIN) {
            let origin = text(header::ORIGIN).unwrap_or_default();
            let site = origin.split_once("://").map(|(_, authority)| authority);
            let own = site
                .zip(host)
                .is_some_and(|(site, host)| site.eq_ignore_ascii_case(host));
            if !own {
                return cross_site(&format!("the request comes from a page of {origin:?}"));
            }
        }
        if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
            && !["same-origin", "none"].contains(&site)
        {
            return cross_site("the request comes from a page of another site");
        }
        Ok(())
    }

    /// Whether the port may be reached by this name. No page has an address of another machine for its name.
    fn is_called(&self, host: &str) -> bool {
        let name = without_port(host);
        let mut names = self.host_names.iter();
        let elsewhere = !self.on_loopback && (self.host_names.is_empty() || is_address(name));
        elsewhere || is_loopback(name) || names.any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn cross_site(detail: &str) -> Result<(), ApiError> {
    Err(ApiError::new(StatusCode::FORBIDDEN, "cross-site", detail).fix(
        "call the port by its address, such as http://127.0.0.1:9644, and not from another site's page; admin.host-names allows more names",
    ))
}

/// A `Host` header's name, out of brackets.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name)
}

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Clock;

    fn allowed(guard: (bool, &[&str]), open: bool, pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        let guard = Guard {
            on_loopback: guard.0,
            host_names: guard.1.iter().map(ToString::to_string).collect(),
            token_file: PathBuf::new(),
            logins: Logins::new(Clock::system(), b""),
        };
        guard.same_site(&headers, open).is_ok()
    }

    #[test]
    fn another_sites_page_is_refused() {
        for (pairs, expected) in [
            (&[("host", "127.0.0.1:9644")][..], true),
            (&[("host", "localhost:9644")], true),
            (&[("host", "LOCALHOST")], true),
            (&[("host", "[::1]:9644")], true),
            (&[("host", "[::1]")], true),
            (&[], false),
            (&[("host", "evil.example:9644")], false),
            (&[("host", "")], false),
            (&[("origin", "http://evil.example")], false),
            (
                &[("host", "127.0.0.1:9644"), ("host", "evil.example")],
                false,
            ),
            (&[("host", "127.0.0.1.evil.example")], false),
            (&[("host", "localhost.evil.example:9644")], false),
            (&[("host", "10.0.0.1:9644")], false),
            (
                &[
                    ("host", "127.0.0.1:9644"),
                    ("origin", "http://127.0.0.1:9644"),
                ],
                true,
            ),
            (
                &[
                    ("host", "127.0.0.1:9644"),
                    ("origin", "http://evil.example"),
                ],
                false,
            ),
            (
                &[
                    ("host", "127.0.0.1:9644"),
                    ("origin", "http://127.0.0.1:80"),
                ],
                false,
            ),
            (&[("host", "127.0.0.1:9644"), ("origin", "null")], false),
            (
                &[("host", "127.0.0.1:9644"), ("sec-fetch-site", "cross-site")],
                false,
            ),
            (
                &[
                    ("host", "127.0.0.1:9644"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
        ] {
            // No Host at all is no browser's.
            let open = expected || pairs.is_empty();
            assert_eq!(allowed((true, &[]), false, pairs), expected, "{pairs:?}");
            assert_eq!(allowed((true, &[]), true, pairs), open, "{pairs:?}");
        }
    }

    #[test]
    fn a_port_takes_the_names_that_it_is_told() {
        let elsewhere = [("host", "broker.example:9644")];
        let page = [
            ("host", "broker.example:9644"),
            ("origin", "http://evil.example"),
        ];
        for open in [true, false] {
            assert!(allowed((false, &[]), open, &elsewhere));
            assert!(!allowed((false, &[]), open, &page));
            assert!(!allowed((false, &["other.example"]), open, &elsewhere));
            assert!(allowed((false, &["Broker.example"]), open, &elsewhere));
            assert!(allowed(
                (false, &["other.example"]),
                open,
                &[("host", "10.0.0.1:9644")]
            ));
            assert!(allowed((true, &["broker.example"]), open, &elsewhere));
            assert!(!allowed((true, &["broker.example"]), open, &page));
        }
    }
}

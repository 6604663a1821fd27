//! Who may use the operator's API: a caller with the token where there is one, and never a web page of another site that a
//! browser on this machine happens to show (cross-site requests, and DNS rebinding, where the page's own host name leads
//! to the loopback address).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::Shared;
use super::error::ApiError;
use crate::config::read_token;

pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let on_loopback = shared
        .config
        .bind
        .is_some_and(|bind| bind.ip().is_loopback());
    same_site(request.headers(), on_loopback)?;
    let Some(file) = shared.config.token_file.clone() else {
        if on_loopback {
            return Ok(next.run(request).await);
        }
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "no-token-configured",
            "this port can be reached from other machines and has no token: it shows metrics and health alone",
        )
        .fix("set admin.token-file, or bind the port to 127.0.0.1"));
    };
    // Read at each call, so that a token is replaced without a restart.
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
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if bool::from(given.ct_eq(expected.as_bytes())) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "this call needs the admin token",
    )
    .fix("send the header Authorization: Bearer TOKEN, with the text in admin.token-file; for the command line: --token-file FILE"))
}

/// Refuses what a browser sends on behalf of another site.
fn same_site(headers: &HeaderMap, on_loopback: bool) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let refuse = |detail: String| {
        Err(
            ApiError::new(StatusCode::FORBIDDEN, "cross-site", detail).fix(
                "call the port by its address, such as http://127.0.0.1:9644, and not from another site's page",
            ),
        )
    };
    let Some(host) = text(header::HOST) else {
        return refuse("the request has no Host header".to_owned());
    };
    if on_loopback && !is_loopback(host) {
        return refuse(format!("{host:?} is no name of the loopback address"));
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = text(header::ORIGIN).unwrap_or_default();
        let own = origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        if !own {
            return refuse(format!("the request comes from a page of {origin:?}"));
        }
    }
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && !["same-origin", "none"].contains(&site)
    {
        return refuse("the request comes from a page of another site".to_owned());
    }
    Ok(())
}

/// Whether a `Host` header names the loopback address, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(on_loopback: bool, pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().expect("a header value"));
        }
        same_site(&headers, on_loopback).is_ok()
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
            assert_eq!(allowed(true, pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_port_that_is_reached_by_name_takes_its_names() {
        assert!(allowed(false, &[("host", "broker.example:9644")]));
        assert!(!allowed(
            false,
            &[
                ("host", "broker.example:9644"),
                ("origin", "http://evil.example")
            ]
        ));
    }
}

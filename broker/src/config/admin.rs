//! `[admin]`: the HTTP port of metrics, health and the operator's API.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// `None`: no admin port.
    pub bind: Option<SocketAddr>,
    /// A file that holds the bearer token which changes (plugins, users) must carry. Required when `bind` is not loopback.
    pub token_file: Option<PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            bind: Some(([127, 0, 0, 1], 9644).into()),
            token_file: None,
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        admin.bind,
        "bind",
        Kind::Address,
        "Where /metrics, /healthz, /readyz and the operator's API listen, in plain HTTP. Empty: no such port. Anything but loopback needs token-file."
    ),
    setting!(admin.token_file, "token-file", Kind::Path,
        "A file that holds the bearer token which plugin and user calls must carry. It is read again at each call, so that a new token needs no restart. Make it readable for the broker alone.",
        example: "\"/etc/tidegate/admin.token\""),
];

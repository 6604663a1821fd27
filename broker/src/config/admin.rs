//! `[admin]`: the HTTP port of metrics, health and the operator's API.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// `None`: no admin port.
    pub bind: Option<SocketAddr>,
    /// A file that holds the bearer token of the operator's API. `None`: the broker makes one in its data folder.
    pub token_file: Option<PathBuf>,
    /// Names besides loopback's by which callers may reach the port.
    pub host_names: Vec<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            bind: Some(([127, 0, 0, 1], 9644).into()),
            token_file: None,
            host_names: Vec::new(),
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        admin.bind,
        "bind",
        Kind::Address,
        "Where /metrics, /healthz, /readyz and the operator's API listen, in plain HTTP. Empty: no such port. The three are open to whoever reaches the port; everything else needs the token."
    ),
    setting!(admin.token_file, "token-file", Kind::Path,
        "A file that holds the bearer token of the operator's API. It is read again at each call, so that a new token needs no restart. Make it readable for the broker and its operators alone. Without this setting the broker makes a token at its first start and keeps it in admin.token in its data folder, for its own user alone.",
        example: "\"/etc/tidegate/admin.token\""),
    setting!(admin.host_names, "host-names", Kind::List,
        "Names by which callers may reach the port, without port numbers. A request whose Host header is another name is refused, because a web page could have sent it through a browser (DNS rebinding). Addresses and names of loopback are always taken. Empty: on loopback no other name, elsewhere any.",
        example: "[\"broker.example.com\"]"),
];

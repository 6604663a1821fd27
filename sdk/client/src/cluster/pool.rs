//! One user's connections, one for each broker.
//!
//! A producer, a consumer's fetches, a consumer's group and the admin calls each have a set of their own, because a
//! broker answers a connection's requests in order: a long poll must not hold up a heartbeat. On QUIC the sets share one
//! connection as streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::net::connection::Connection;
use crate::net::sasl;
use crate::net::transport::{Dialer, lock};
use crate::options::{Endpoint, Options};

/// How connections are made.
#[derive(Debug)]
pub(crate) struct Link {
    pub options: Options,
    pub dialer: Dialer,
}

impl Link {
    /// Opens a connection that is ready for requests: versions known, logged in.
    async fn open(&self, endpoint: &Endpoint) -> Result<Connection> {
        let stream = self.dialer.open(endpoint).await?;
        let broker = self.dialer.name(endpoint);
        let connection = Connection::start_on(stream, broker, &self.options.client_id);
        let timeout = self.options.connect_timeout;
        connection.negotiate(timeout).await?;
        if let Some(sasl) = &self.options.sasl {
            sasl::authenticate(&connection, sasl, timeout).await?;
        }
        Ok(connection)
    }
}

/// A connection, or none yet; held locked while it is being opened, so that two callers open one.
type Slot = tokio::sync::Mutex<Option<Connection>>;

#[derive(Debug)]
pub(crate) struct Connections {
    link: Arc<Link>,
    slots: Mutex<HashMap<Endpoint, Arc<Slot>>>,
}

impl Connections {
    pub fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            slots: Mutex::default(),
        }
    }

    /// The connection to a broker, opened when there is none or when it has ended.
    pub async fn get(&self, endpoint: &Endpoint) -> Result<Connection> {
        let slot = lock(&self.slots)
            .entry(endpoint.clone())
            .or_default()
            .clone();
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|known| !known.is_ended()) {
            return Ok(connection.clone());
        }
        let connection = self.link.open(endpoint).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }
}

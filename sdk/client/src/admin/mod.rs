//! Administration: topics and configs ([`topics`]), groups and offsets ([`groups`]), permissions ([`acls`]),
//! transactions ([`transactions`]).

mod acls;
mod groups;
mod topics;
mod transactions;

use std::sync::Arc;

use kafka_protocol::messages::DescribeClusterRequest;

use crate::client::Client;
use crate::cluster::retry::Retry;
use crate::error::{Error, ErrorCode, Result, check};
use crate::net::api::Api;
use crate::net::connection::Connection;
use crate::options::Endpoint;
pub use acls::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermission, AclResourceType,
};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use topics::{ConfigChange, ConfigEntry, ConfigSource, NewTopic, TopicDescription};
pub use transactions::{PartitionProducer, TransactionDescription, TransactionFilter};

/// Admin calls; made by [`Client::admin`]. Each call is tried again after errors that may pass, within the client's
/// retry timeout.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// The cluster as its brokers tell it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterDescription {
    pub cluster_id: String,
    /// The node id of the broker that takes changes; `None` while there is none.
    pub controller: Option<i32>,
    pub brokers: Vec<(i32, Endpoint)>,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let request = DescribeClusterRequest::default();
        let (broker, response) = self.ask(Target::Any, &request).await?;
        let message = response.error_message.as_deref();
        check(
            response.error_code,
            &broker,
            DescribeClusterRequest::NAME,
            || "the cluster".into(),
            message,
        )?;
        let brokers = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            let host = broker.host.to_string();
            Some((broker.broker_id.0, Endpoint { host, port }))
        });
        Ok(ClusterDescription {
            cluster_id: response.cluster_id.to_string(),
            controller: (response.controller_id.0 >= 0).then_some(response.controller_id.0),
            brokers: brokers.collect(),
        })
    }

    /// Asks, and asks again while the connection fails. The answering broker's name comes with the answer.
    async fn ask<R: Api + Sync>(
        &self,
        target: Target<'_>,
        request: &R,
    ) -> Result<(Arc<str>, R::Response)> {
        let timeout = self.client.options().request_timeout;
        let mut retry = Retry::within(self.client.options().retry_timeout);
        loop {
            let answer = match self.connection(target).await {
                Ok(connection) => connection
                    .call(request, timeout)
                    .await
                    .map(|response| (connection.broker().clone(), response)),
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    async fn connection(&self, target: Target<'_>) -> Result<Connection> {
        match target {
            Target::Any => self.client.any_broker().await,
            Target::Controller => self.client.controller().await,
            Target::Broker(endpoint) => self.client.control(endpoint).await,
        }
    }
}

/// Who can answer.
#[derive(Clone, Copy)]
enum Target<'a> {
    Any,
    Controller,
    Broker(&'a Endpoint),
}

/// One thing's result in an answer about many.
struct Outcome<'a> {
    broker: &'a Arc<str>,
    api: &'static str,
}

impl Outcome<'_> {
    fn of(&self, subject: String, code: i16, message: Option<&str>) -> Result<()> {
        check(code, self.broker, self.api, || subject, message)
    }

    /// The answer does not speak of what was asked.
    fn missing(&self, subject: &str) -> Error {
        Error::Malformed {
            broker: self.broker.clone(),
            what: self.api,
            reason: format!("it says nothing of {subject}"),
        }
    }
}

/// Errors that a moved controller or coordinator causes; asking anew finds the new one.
fn has_moved(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::NotController
                | ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::LeaderNotAvailable
        )
    )
}

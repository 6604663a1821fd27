//! The [`Client`]: a cluster's address and what is known of the cluster. Producers, consumers and admin calls are made
//! from it and share its knowledge.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::admin::Admin;
use crate::cluster::metadata::{Metadata, TopicMetadata};
use crate::cluster::pool::{Connections, Link};
use crate::cluster::retry::Retry;
use crate::consumer::ConsumerBuilder;
use crate::error::{Error, ErrorCode, Result, check};
use crate::net::api::Api;
use crate::net::connection::Connection;
use crate::net::transport::Dialer;
use crate::options::{Bootstrap, Endpoint, Options, SaslOptions, TlsOptions};
use crate::producer::ProducerBuilder;

/// How long a topic that the cluster does not know is asked for again: it may just have been created.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(5);
/// What a coordinator is asked for, by the protocol's numbers.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// A cheap handle on a cluster.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    link: Arc<Link>,
    control: Connections,
    metadata: RwLock<Arc<Metadata>>,
}

/// Options of a [`Client`]; made by [`Client::builder`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    bootstrap: String,
    tls: TlsOptions,
    sasl: Option<SaslOptions>,
    client_id: String,
    connect_timeout: Duration,
    request_timeout: Duration,
    retry_timeout: Duration,
    metadata_max_age: Duration,
}

impl ClientBuilder {
    /// Where to ask first; see [`Bootstrap`]. Default `tcp://localhost:9092`.
    pub fn bootstrap(mut self, address: impl Into<String>) -> Self {
        self.bootstrap = address.into();
        self
    }

    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self
    }

    pub fn sasl(mut self, options: SaslOptions) -> Self {
        self.sasl = Some(options);
        self
    }

    /// What the broker's logs, quotas and metrics call this client. Default `tidegate-client`.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// For dialling, the TLS or QUIC handshake and the login, each. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// For one request's answer. Default 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long an operation is tried again after errors that may pass. Default 30 s. A producer's records have their own
    /// deadline, [`ProducerBuilder::delivery_timeout`].
    pub fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.retry_timeout = timeout;
        self
    }

    /// Topics are asked for anew when what is known of them is older; new partitions are seen by then. Default 5 minutes.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.metadata_max_age = age;
        self
    }

    /// Connects to the first bootstrap address that answers, without trying again: a wrong address, certificate or
    /// password shows here.
    pub async fn connect(self) -> Result<Client> {
        let options = Options {
            bootstrap: self.bootstrap.parse::<Bootstrap>()?,
            tls: self.tls,
            sasl: self.sasl,
            client_id: self.client_id,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            retry_timeout: self.retry_timeout,
            metadata_max_age: self.metadata_max_age,
        };
        let dialer = Dialer::new(
            options.bootstrap.transport,
            options.tls.clone(),
            options.connect_timeout,
        )?;
        let link = Arc::new(Link { options, dialer });
        let client = Client {
            inner: Arc::new(Inner {
                control: Connections::new(link.clone()),
                link,
                metadata: RwLock::default(),
            }),
        };
        client.refresh(Some(&[]), false).await?;
        Ok(client)
    }
}

impl Client {
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            bootstrap: "tcp://localhost:9092".into(),
            tls: TlsOptions::default(),
            sasl: None,
            client_id: "tidegate-client".into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(30),
            metadata_max_age: Duration::from_secs(300),
        }
    }

    /// A producer's options; `build` makes it.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }

    /// A consumer's options; `build` makes it.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone())
    }

    /// Topics, configs, groups, ACLs.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// What is known of a topic; asked for when unknown or too old. `create`: the broker may create it, if it is
    /// configured to.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Arc<TopicMetadata>> {
        if let Some(topic) = self.cached_topic(name) {
            return Ok(topic);
        }
        let patience = self.options().retry_timeout.min(UNKNOWN_TOPIC_PATIENCE);
        let mut unknown = Retry::within(patience);
        let mut retry = Retry::within(self.options().retry_timeout);
        loop {
            let error = match self.refresh(Some(&[name]), create).await {
                Ok(broker) => match self.checked_topic(name, &broker) {
                    Ok(topic) => return Ok(topic),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::UnknownTopicOrPartition) {
                unknown.after(error).await?;
            } else {
                retry.after(error).await?;
            }
        }
    }

    /// A topic that is known well enough to send to, without waiting.
    pub(crate) fn cached_topic(&self, name: &str) -> Option<Arc<TopicMetadata>> {
        let metadata = self.metadata();
        let topic = metadata.topics.get(name)?;
        let usable = topic.error.is_none()
            && !topic.partitions.is_empty()
            && !topic.is_older_than(self.options().metadata_max_age);
        usable.then(|| topic.clone())
    }

    fn checked_topic(&self, name: &str, broker: &Arc<str>) -> Result<Arc<TopicMetadata>> {
        let metadata = self.metadata();
        let topic = metadata.topics.get(name);
        let code = match topic {
            None => ErrorCode::UnknownTopicOrPartition.code(),
            Some(topic) => match topic.error {
                Some(error) => error.code(),
                None if topic.partitions.is_empty() => ErrorCode::LeaderNotAvailable.code(),
                None => 0,
            },
        };
        check(
            code,
            broker,
            MetadataRequest::NAME,
            || format!("topic {name}"),
            None,
        )?;
        topic.cloned().ok_or(Error::Closed)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.link.options
    }

    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        self.inner
            .metadata
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A set of connections for a new user of this client.
    pub(crate) fn connections(&self) -> Connections {
        Connections::new(self.inner.link.clone())
    }

    /// Asks for topics (`None`: all) and merges the answer. The answering broker's name is returned.
    pub(crate) async fn refresh(&self, topics: Option<&[&str]>, create: bool) -> Result<Arc<str>> {
        let (broker, response) = self.fetch_metadata(topics, create).await?;
        let mut current = self
            .inner
            .metadata
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(current.merged(&response, Instant::now()));
        Ok(broker)
    }

    pub(crate) async fn fetch_metadata(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<(Arc<str>, MetadataResponse)> {
        let connection = self.any_broker().await?;
        let topics = topics.map(|names| {
            let one =
                |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            names.iter().map(one).collect()
        });
        let request = MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(create);
        let response = connection
            .call(&request, self.options().request_timeout)
            .await?;
        Ok((connection.broker().clone(), response))
    }

    /// A connection to whichever broker answers: those known from the cluster first, then the bootstrap addresses.
    pub(crate) async fn any_broker(&self) -> Result<Connection> {
        let metadata = self.metadata();
        let bootstrap = &self.options().bootstrap.endpoints;
        let mut last = Error::Closed;
        for endpoint in metadata.brokers.values().chain(bootstrap) {
            match self.inner.control.get(endpoint).await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.is_retriable() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// A connection to the controller, which takes the requests that change the cluster.
    pub(crate) async fn controller(&self) -> Result<Connection> {
        let metadata = self.metadata();
        let endpoint = metadata
            .controller
            .and_then(|controller| metadata.brokers.get(&controller));
        match endpoint {
            Some(endpoint) => self.inner.control.get(endpoint).await,
            None => self.any_broker().await,
        }
    }

    /// A connection for admin calls to one broker.
    pub(crate) async fn control(&self, endpoint: &Endpoint) -> Result<Connection> {
        self.inner.control.get(endpoint).await
    }

    /// The leader's address, from what is known. `None` asks for a refresh.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<Endpoint> {
        let metadata = self.metadata();
        let leader = metadata.topics.get(topic)?.partition(partition)?.leader?;
        metadata.brokers.get(&leader).cloned()
    }

    /// The leader's address; asked for when unknown.
    pub(crate) async fn find_leader(&self, topic: &str, partition: i32) -> Result<Endpoint> {
        let mut retry = Retry::within(self.options().retry_timeout);
        loop {
            let known = self.topic(topic, false).await?;
            if known.partition(partition).is_none() {
                let count = known.partitions.len();
                return Err(Error::InvalidInput(format!(
                    "topic {topic} has no partition {partition}: it has {count}, from 0"
                )));
            }
            if let Some(endpoint) = self.leader(topic, partition) {
                return Ok(endpoint);
            }
            let broker = self.refresh(Some(&[topic]), false).await?;
            if let Some(endpoint) = self.leader(topic, partition) {
                return Ok(endpoint);
            }
            let leaderless = Error::Broker {
                broker,
                api: MetadataRequest::NAME,
                subject: format!("{topic}-{partition}"),
                code: ErrorCode::LeaderNotAvailable,
                message: None,
            };
            retry.after(leaderless).await?;
        }
    }

    /// The broker that coordinates a group.
    pub(crate) async fn find_coordinator(&self, group: &str) -> Result<Endpoint> {
        self.coordinator(GROUP, group).await
    }

    /// The broker that coordinates a transactional id.
    pub(crate) async fn find_transaction_coordinator(&self, id: &str) -> Result<Endpoint> {
        self.coordinator(TRANSACTION, id).await
    }

    async fn coordinator(&self, kind: i8, key: &str) -> Result<Endpoint> {
        let mut retry = Retry::within(self.options().retry_timeout);
        loop {
            match self.ask_coordinator(kind, key).await {
                Ok(endpoint) => return Ok(endpoint),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    async fn ask_coordinator(&self, kind: i8, key: &str) -> Result<Endpoint> {
        let connection = self.any_broker().await?;
        let request = FindCoordinatorRequest::default()
            .with_key(str_bytes(key))
            .with_key_type(kind);
        let response = connection
            .call(&request, self.options().request_timeout)
            .await?;
        check(
            response.error_code,
            connection.broker(),
            FindCoordinatorRequest::NAME,
            || match kind {
                GROUP => format!("group {key}"),
                _ => format!("transactional id {key}"),
            },
            response.error_message.as_deref(),
        )?;
        let port = u16::try_from(response.port).map_err(|_| Error::Malformed {
            broker: connection.broker().clone(),
            what: FindCoordinatorRequest::NAME,
            reason: format!("port {} is impossible", response.port),
        })?;
        let host = response.host.to_string();
        Ok(Endpoint { host, port })
    }
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(str_bytes(name))
}

pub(crate) fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

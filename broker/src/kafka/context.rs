//! What a handler may touch: the broker's parts, the session, and one place for names and for permission.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::bounds::Bounds;
use super::lists::Asked;
use super::long;
use super::room::{self, Room};
use super::session::Session;
use super::topics::Topics;
use super::{namespace, permission};
use crate::catalog::{Catalog, Operation, ResourceType};
use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::coordinator::shares::Holder;
use crate::coordinator::transaction::Transactions;
use crate::env::Clock;
use crate::env::budget::{Memory, Owner, Party};
use crate::log::LogSet;
use crate::observe::Metrics;
use crate::plugin::PluginHost;
use crate::security::authorize::Authorizer;
use crate::security::logins::Logins;
use crate::types::Principal;

/// The one resource of the cluster type, by the name that Kafka gives it.
pub const CLUSTER: &str = "kafka-cluster";

/// The parts that every request shares.
#[derive(Debug)]
pub struct Services {
    pub config: Config,
    pub catalog: Arc<Catalog>,
    pub logs: Arc<LogSet>,
    pub topics: Topics,
    pub coordinator: Arc<Coordinator>,
    pub transactions: Arc<Transactions>,
    pub plugins: Arc<PluginHost>,
    pub authorizer: Authorizer,
    pub logins: Arc<Logins>,
    pub metrics: Arc<Metrics>,
    pub bounds: Bounds,
    pub clock: Clock,
    pub memory: Memory,
}

/// One request's surroundings.
#[derive(Clone, Debug)]
pub struct Context {
    pub services: Arc<Services>,
    pub session: Arc<Session>,
    pub version: i16,
    pub client_id: Option<StrBytes>,
    /// How much the request asks for.
    pub asked: Asked,
    /// What its answer may still take.
    pub room: Room,
}

impl Context {
    pub fn new(
        services: Arc<Services>,
        session: Arc<Session>,
        version: i16,
        client_id: Option<StrBytes>,
    ) -> Self {
        let room = Room::new(services.config.broker.max_answer_bytes);
        Self {
            services,
            session,
            version,
            client_id,
            asked: Asked::default(),
            room,
        }
    }

    /// Whether the request asks for much, or for everything.
    pub fn is_long(&self) -> bool {
        long::is_long(self.asked)
    }

    /// Takes room in the answer for a part of it, before the part is made.
    ///
    /// # Errors
    /// `PolicyViolation` in the part's place when the answer would be too large: asking again would not help, asking for
    /// less at once does.
    pub fn take_room(&self, bytes: usize) -> Result<(), ResponseError> {
        self.room.take(bytes).map_err(|full| {
            if full.is_first {
                self.services.metrics.bounded(room::SETTING);
            }
            ResponseError::PolicyViolation
        })
    }

    /// Who is asking. Handlers run only after authentication (the dispatcher sees to it), SASL's own apart.
    pub fn principal(&self) -> Principal {
        self.session
            .principal
            .load()
            .as_ref()
            .clone()
            .unwrap_or_else(Principal::anonymous)
    }

    /// Who groups and transactional ids count for that this request brings into being.
    pub fn holder(&self) -> Holder {
        Holder::of(&self.principal(), &self.session.host)
    }

    /// Whose what this request holds in memory is: the principal's, or of those that nobody has authenticated the address's.
    pub fn party(&self) -> Party {
        let party = Party::of_peer(self.session.info.peer);
        match self.session.owner() {
            Some(principal) => party.owned_by(&Owner::Principal(principal)),
            None => party,
        }
    }

    /// May the session's principal do this? The one place where ACLs, super users and authorizer plugins decide.
    /// `name` is the broker's name (after `topic_in` and its like); the cluster is named `kafka-cluster`.
    pub fn authorize(&self, operation: Operation, resource_type: ResourceType, name: &str) -> bool {
        self.authorize_each(operation, resource_type, &[name])[0]
    }

    /// As `authorize`, for several resources with one call of each authorizer plugin. One answer for each name.
    pub fn authorize_each(
        &self,
        operation: Operation,
        resource_type: ResourceType,
        names: &[&str],
    ) -> Vec<bool> {
        permission::decide(self, operation, resource_type, names)
    }

    /// Whether nothing is ever denied to the principal.
    pub fn is_always_allowed(&self) -> bool {
        let authorizer = &self.services.authorizer;
        authorizer.is_always_allowed(&self.principal())
    }

    /// Whether one more topic may be created now because the principal named it.
    pub fn may_auto_create_now(&self) -> bool {
        let services = &self.services;
        let may = services
            .bounds
            .may_auto_create(self.session.share(), Instant::now());
        if !may {
            services
                .metrics
                .bounded("broker.auto-create-topics-per-minute");
        }
        may
    }

    pub fn authorize_cluster(&self, operation: Operation) -> bool {
        self.authorize(operation, ResourceType::Cluster, CLUSTER)
    }

    /// Whether the principal may do this on at least one resource of the type. Authorizer plugins cannot be asked about
    /// resources without a name, so the ACLs alone decide.
    pub fn authorize_any(&self, operation: Operation, resource_type: ResourceType) -> bool {
        self.services.authorizer.any_resource(
            &self.principal(),
            &self.session.host,
            operation,
            resource_type,
        )
    }

    /// The broker's name of a topic that the client named: where a tenant's session maps it. Errs on an illegal name.
    pub fn topic_in(&self, name: &str) -> Result<String, ResponseError> {
        namespace::topic_in(name)
    }

    /// As `topic_in`, for the beginning of topics' names.
    pub fn topic_prefix_in(&self, prefix: &str) -> Result<String, ResponseError> {
        namespace::topic_prefix_in(prefix)
    }

    /// The client's name of a topic, `None` when it lies outside the session's namespace.
    pub fn topic_out(&self, name: &str) -> Option<StrBytes> {
        namespace::out(name)
    }

    pub fn group_in(&self, name: &str) -> Result<String, ResponseError> {
        namespace::group_in(name)
    }

    pub fn group_out(&self, name: &str) -> Option<StrBytes> {
        namespace::out(name)
    }

    pub fn transactional_id_in(&self, name: &str) -> Result<String, ResponseError> {
        namespace::transactional_id_in(name)
    }

    pub fn transactional_id_out(&self, name: &str) -> Option<StrBytes> {
        namespace::out(name)
    }
}

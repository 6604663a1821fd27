//! Every list of every request, reduced to its distinct items before a handler sees it: a resource named a thousand times is
//! looked up, checked and answered once, so that an answer grows with what there is and not with what was written.
//!
//! An *item* has a *key*, which says what it names. Of items with one key the first keeps its place, and the table says what
//! becomes of those that come *again*:
//!
//! - `first`: they are dropped, for they say nothing new.
//! - `last`: the last one's fields hold, as where Kafka's broker reads a list into a map.
//! - `join`: their own lists are joined, as when a topic comes twice with different partitions.
//! - `twice`: one more is kept, so that the handler sees it and refuses what Kafka refuses (`INVALID_REQUEST`).
//! - a closure: something of its own.
//!
//! *Positional* lists are answered by position, so that nothing can be dropped; they are bounded in length instead.
//!
//! Two tables follow: `items!` for what lists hold, `requests!` for the requests. A row of `apis.rs` whose request is not in the
//! second does not compile. Ordinary requests pay next to nothing: a list of one item is not looked at, a short or sorted one
//! is compared in place, and only longer ones are hashed (keyed, so that nobody can choose names that collide).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use kafka_protocol::messages::{self as wire, GroupId, ProducerId, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::guard::MAX_ITEMS;

/// Up to here items are compared one with another: no allocation, and quicker than hashing.
const COMPARED: usize = 8;

/// The longest positional list; Kafka's controller takes no more ACLs at once either.
pub const MAX_POSITIONAL: usize = 10_000;

/// How much a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Asked {
    /// Items of all its lists, nested ones included.
    pub items: usize,
    /// A list was left out, or the request has none: the answer is as long as what the broker holds.
    pub everything: bool,
}

impl Asked {
    fn and(self, other: Self) -> Self {
        Self {
            items: self.items.saturating_add(other.items),
            everything: self.everything || other.everything,
        }
    }
}

/// A request asks for more than is answered at once.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the request's {list} are {length}; at most {bound} are taken at once: send several requests"
)]
pub struct TooLong {
    list: &'static str,
    length: usize,
    bound: usize,
}

/// A request that knows its lists.
pub trait Distinct {
    /// Reduces every list to its distinct items, and says how much is left.
    ///
    /// # Errors
    /// When a positional list is too long.
    fn reduce(&mut self) -> Result<Asked, TooLong>;

    /// As `reduce`, for requests that came from outside.
    ///
    /// # Errors
    /// When what is left is more than any request may ask for.
    fn distinct(&mut self) -> Result<Asked, TooLong> {
        let asked = self.reduce()?;
        within("items", asked.items, MAX_ITEMS)?;
        Ok(asked)
    }
}

/// What lists hold.
trait Item: Sized {
    type Key<'a>: Hash + Ord
    where
        Self: 'a;

    /// Items of one key that are left.
    const KEPT: u8 = 1;

    fn key(&self) -> Self::Key<'_>;

    /// Another item of the same key came.
    fn again(&mut self, _other: Self) {}

    /// Reduces the item's own lists.
    fn reduce(&mut self) -> Asked {
        Asked::default()
    }
}

trait List {
    fn reduce(&mut self) -> Asked;
    /// What both name.
    fn join(&mut self, other: Self);
}

impl<T: Item> List for Vec<T> {
    fn reduce(&mut self) -> Asked {
        if let Some(places) = places(self) {
            drop_repeated(self, &places);
        }
        let asked = Asked {
            items: self.len(),
            everything: false,
        };
        self.iter_mut().map(Item::reduce).fold(asked, Asked::and)
    }

    fn join(&mut self, other: Self) {
        self.extend(other);
    }
}

/// A list that is left out (null) stands for everything.
impl<T: Item> List for Option<Vec<T>> {
    fn reduce(&mut self) -> Asked {
        match self {
            Some(items) => items.reduce(),
            None => Asked {
                items: 0,
                everything: true,
            },
        }
    }

    fn join(&mut self, other: Self) {
        match (self.as_mut(), other) {
            (Some(items), Some(other)) => items.extend(other),
            _ => *self = None,
        }
    }
}

/// For each item the position of the first of its key; `None` when all keys differ.
fn places<T: Item>(items: &[T]) -> Option<Vec<usize>> {
    if items.len() <= 1 || items.is_sorted_by(|one, next| one.key() < next.key()) {
        return None;
    }
    if items.len() <= COMPARED {
        let mut positions = 0..items.len();
        return positions
            .any(|position| first_of_its_key(items, position) != position)
            .then(|| {
                let positions = 0..items.len();
                positions
                    .map(|position| first_of_its_key(items, position))
                    .collect()
            });
    }
    let mut seen: HashMap<T::Key<'_>, usize> = HashMap::with_capacity(items.len());
    let mut places = Vec::with_capacity(items.len());
    let mut is_repeated = false;
    for (position, item) in items.iter().enumerate() {
        places.push(match seen.entry(item.key()) {
            Entry::Occupied(first) => {
                is_repeated = true;
                *first.get()
            }
            Entry::Vacant(vacant) => *vacant.insert(position),
        });
    }
    is_repeated.then_some(places)
}

fn first_of_its_key<T: Item>(items: &[T], position: usize) -> usize {
    let key = items[position].key();
    let mut earlier = items[..position].iter();
    earlier
        .position(|item| item.key() == key)
        .unwrap_or(position)
}

fn drop_repeated<T: Item>(items: &mut Vec<T>, places: &[usize]) {
    /// Where an item went, and how many of its key are kept.
    type Moved = Option<(usize, u8)>;
    let mut moved: Vec<Moved> = vec![None; items.len()];
    let mut kept: Vec<T> = Vec::new();
    for (item, first) in std::mem::take(items).into_iter().zip(places) {
        match &mut moved[*first] {
            Some((place, count)) if *count >= T::KEPT => kept[*place].again(item),
            Some((_, count)) => {
                *count += 1;
                kept.push(item);
            }
            nowhere => {
                *nowhere = Some((kept.len(), 1));
                kept.push(item);
            }
        }
    }
    *items = kept;
}

/// Items that are their own key.
macro_rules! names {
    ($($name:ty),*) => {
        $(impl Item for $name {
            type Key<'a> = &'a Self;

            fn key(&self) -> &Self {
                self
            }
        })*
    };
}

/// One row for each type of item: its key, what becomes of one that comes again, and its own lists.
macro_rules! items {
    ($($module:ident :: $item:ident ($key:ty) |$i:ident| $of:expr, $again:tt $($list:ident)*;)*) => {
        $(impl Item for wire::$module::$item {
            type Key<'a> = $key;

            const KEPT: u8 = items!(@kept $again);

            fn key(&self) -> Self::Key<'_> {
                let $i = self;
                $of
            }

            items!(@again $again $($list)*);

            fn reduce(&mut self) -> Asked {
                let asked = Asked::default();
                $(let asked = asked.and(List::reduce(&mut self.$list));)*
                asked
            }
        })*
    };
    (@kept twice) => { 2 };
    (@kept $again:tt) => { 1 };
    (@again first $($list:ident)*) => {};
    (@again twice $($list:ident)*) => {};
    (@again last $($list:ident)*) => {
        fn again(&mut self, other: Self) {
            *self = other;
        }
    };
    (@again join $($list:ident)*) => {
        fn again(&mut self, other: Self) {
            $(List::join(&mut self.$list, other.$list);)*
        }
    };
    (@again (|$i:ident, $o:ident| $effect:expr) $($list:ident)*) => {
        fn again(&mut self, $o: Self) {
            let $i = self;
            $effect
        }
    };
}

/// One row for each request: its lists, or `everything` when it has none and its answer is a list all the same.
macro_rules! requests {
    ($($request:ident $($list:ident)* $(, positional $positional:ident)? $(, everything $($when:ident)?)?;)*) => {
        $(impl Distinct for wire::$request {
            fn reduce(&mut self) -> Result<Asked, TooLong> {
                let asked = Asked::default();
                $(let asked = asked.and(List::reduce(&mut self.$list));)*
                $(let asked = asked.and(positional(stringify!($positional), self.$positional.len())?);)?
                $(let asked = asked.and(Asked { items: 0, everything: requests!(@everything self $($when)?) });)?
                Ok(asked)
            }
        })*
    };
    (@everything $request:ident) => { true };
    (@everything $request:ident $when:ident) => { $request.$when.as_ref().is_none_or(Vec::is_empty) };
}

fn positional(list: &'static str, length: usize) -> Result<Asked, TooLong> {
    within(list, length, MAX_POSITIONAL)?;
    Ok(Asked {
        items: length,
        everything: false,
    })
}

fn within(list: &'static str, length: usize, bound: usize) -> Result<(), TooLong> {
    match length <= bound {
        true => Ok(()),
        false => Err(TooLong {
            list,
            length,
            bound,
        }),
    }
}

names!(
    i32,
    StrBytes,
    GroupId,
    ProducerId,
    TopicName,
    TransactionalId
);

/// A topic by its name, or by its id where a version has no name.
type TopicKey<'a> = (&'a TopicName, uuid::Uuid);

items! {
    // Kafka reads the partitions of a Produce into a map, so that the records of the first are lost without a word. Here both
    // are refused: a partition without records is INVALID_RECORD.
    produce_request::TopicProduceData(TopicKey<'a>) |i| (&i.name, i.topic_id), join partition_data;
    produce_request::PartitionProduceData(i32) |i| i.index, (|i, _other| i.records = None);
    fetch_request::FetchTopic(TopicKey<'a>) |i| (&i.topic, i.topic_id), join partitions;
    fetch_request::FetchPartition(i32) |i| i.partition, last;
    fetch_request::ForgottenTopic(TopicKey<'a>) |i| (&i.topic, i.topic_id), join partitions;
    list_offsets_request::ListOffsetsTopic(&'a TopicName) |i| &i.name, join partitions;
    // Kafka refuses a partition that comes twice: no timestamp has this value.
    list_offsets_request::ListOffsetsPartition(i32) |i| i.partition_index, (|i, _other| i.timestamp = i64::MIN);
    metadata_request::MetadataRequestTopic((Option<&'a TopicName>, uuid::Uuid)) |i| (i.name.as_ref(), i.topic_id), first;
    offset_commit_request::OffsetCommitRequestTopic(TopicKey<'a>) |i| (&i.name, i.topic_id), join partitions;
    offset_commit_request::OffsetCommitRequestPartition(i32) |i| i.partition_index, last;
    offset_fetch_request::OffsetFetchRequestTopic(&'a TopicName) |i| &i.name, join partition_indexes;
    offset_fetch_request::OffsetFetchRequestTopics(TopicKey<'a>) |i| (&i.name, i.topic_id), join partition_indexes;
    offset_fetch_request::OffsetFetchRequestGroup(&'a GroupId) |i| &i.group_id, join topics;
    offset_delete_request::OffsetDeleteRequestTopic(&'a TopicName) |i| &i.name, join partitions;
    offset_delete_request::OffsetDeleteRequestPartition(i32) |i| i.partition_index, first;
    join_group_request::JoinGroupRequestProtocol(&'a StrBytes) |i| &i.name, first;
    leave_group_request::MemberIdentity((&'a StrBytes, Option<&'a StrBytes>)) |i| (&i.member_id, i.group_instance_id.as_ref()), first;
    sync_group_request::SyncGroupRequestAssignment(&'a StrBytes) |i| &i.member_id, last;
    create_topics_request::CreatableTopic(&'a TopicName) |i| &i.name, twice assignments configs;
    create_topics_request::CreatableReplicaAssignment(i32) |i| i.partition_index, twice;
    create_topics_request::CreatableTopicConfig(&'a StrBytes) |i| &i.name, last;
    create_partitions_request::CreatePartitionsTopic(&'a TopicName) |i| &i.name, twice;
    delete_topics_request::DeleteTopicState((Option<&'a TopicName>, uuid::Uuid)) |i| (i.name.as_ref(), i.topic_id), twice;
    delete_records_request::DeleteRecordsTopic(&'a TopicName) |i| &i.name, join partitions;
    delete_records_request::DeleteRecordsPartition(i32) |i| i.partition_index, last;
    add_partitions_to_txn_request::AddPartitionsToTxnTransaction((&'a TransactionalId, ProducerId, i16, bool))
        |i| (&i.transactional_id, i.producer_id, i.producer_epoch, i.verify_only), join topics;
    add_partitions_to_txn_request::AddPartitionsToTxnTopic(&'a TopicName) |i| &i.name, join partitions;
    write_txn_markers_request::WritableTxnMarker((ProducerId, i16, bool, i32))
        |i| (i.producer_id, i.producer_epoch, i.transaction_result, i.coordinator_epoch), join topics;
    write_txn_markers_request::WritableTxnMarkerTopic(&'a TopicName) |i| &i.name, join partition_indexes;
    txn_offset_commit_request::TxnOffsetCommitRequestTopic(&'a TopicName) |i| &i.name, join partitions;
    txn_offset_commit_request::TxnOffsetCommitRequestPartition(i32) |i| i.partition_index, last;
    describe_configs_request::DescribeConfigsResource((i8, &'a StrBytes)) |i| (i.resource_type, &i.resource_name),
        (|i, other| join_keys(&mut i.configuration_keys, other.configuration_keys)) configuration_keys;
    alter_configs_request::AlterConfigsResource((i8, &'a StrBytes)) |i| (i.resource_type, &i.resource_name), twice configs;
    alter_configs_request::AlterableConfig(&'a StrBytes) |i| &i.name, twice;
    incremental_alter_configs_request::AlterConfigsResource((i8, &'a StrBytes))
        |i| (i.resource_type, &i.resource_name), twice configs;
    incremental_alter_configs_request::AlterableConfig(&'a StrBytes) |i| &i.name, twice;
    describe_log_dirs_request::DescribableLogDirTopic(&'a TopicName) |i| &i.topic, join partitions;
    describe_producers_request::TopicRequest(&'a TopicName) |i| &i.name, join partition_indexes;
}

/// As null, no keys at all mean every key.
fn join_keys(keys: &mut Option<Vec<StrBytes>>, other: Option<Vec<StrBytes>>) {
    let named = |keys: Option<Vec<StrBytes>>| keys.filter(|keys| !keys.is_empty());
    *keys = named(keys.take());
    keys.join(named(other));
}

requests! {
    ProduceRequest topic_data;
    FetchRequest topics forgotten_topics_data;
    ListOffsetsRequest topics;
    // Version 0 takes an empty list for all topics.
    MetadataRequest topics, everything topics;
    OffsetCommitRequest topics;
    OffsetFetchRequest topics groups;
    FindCoordinatorRequest coordinator_keys;
    JoinGroupRequest protocols;
    HeartbeatRequest;
    LeaveGroupRequest members;
    SyncGroupRequest assignments;
    DescribeGroupsRequest groups;
    ListGroupsRequest states_filter types_filter, everything;
    SaslHandshakeRequest;
    ApiVersionsRequest;
    CreateTopicsRequest topics;
    DeleteTopicsRequest topics topic_names;
    DeleteRecordsRequest topics;
    InitProducerIdRequest;
    AddPartitionsToTxnRequest transactions v3_and_below_topics;
    AddOffsetsToTxnRequest;
    EndTxnRequest;
    WriteTxnMarkersRequest markers;
    TxnOffsetCommitRequest topics;
    DescribeAclsRequest, everything;
    CreateAclsRequest, positional creations;
    DeleteAclsRequest, positional filters;
    DescribeConfigsRequest resources;
    AlterConfigsRequest resources;
    DescribeLogDirsRequest topics;
    SaslAuthenticateRequest;
    CreatePartitionsRequest topics;
    DeleteGroupsRequest groups_names;
    IncrementalAlterConfigsRequest resources;
    DescribeClusterRequest;
    DescribeProducersRequest topics, everything;
    DescribeTransactionsRequest transactional_ids;
    ListTransactionsRequest state_filters producer_id_filters, everything;
    OffsetDeleteRequest topics;
}

#[cfg(test)]
mod tests;

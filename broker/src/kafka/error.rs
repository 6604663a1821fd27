//! From a domain's outcome to Kafka's error code, in one place; and the bound on messages that go with codes.

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use crate::catalog::CatalogError;
use crate::coordinator::GroupError;
use crate::coordinator::transaction::{Refusal, TransactionError};
use crate::log::{AppendError, ReadError};
use crate::plugin::FailureKind;

/// The longest message that an answer carries, in bytes. Names from the request come back in messages; a string of an old
/// version holds 32,767 bytes, and an answer that cannot be written would cost the client its connection.
const MAX_MESSAGE: usize = 1_000;

/// A message as responses carry it.
pub fn message(text: impl Into<String>) -> Option<StrBytes> {
    let mut text = text.into();
    if text.len() > MAX_MESSAGE {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        text.push('…');
    }
    Some(StrBytes::from_string(text))
}

/// The protocol's code for a refused append. Retriable codes are given only where the same bytes may succeed later.
pub fn append_code(error: &AppendError) -> ResponseError {
    match error {
        AppendError::Corrupt(_) => ResponseError::CorruptMessage,
        AppendError::Invalid(_) => ResponseError::InvalidRecord,
        AppendError::Records(records) if records.has_wrong_time => ResponseError::InvalidTimestamp,
        AppendError::Records(_) => ResponseError::InvalidRecord,
        // Producers split a batch on this code.
        AppendError::TooLarge { .. } | AppendError::InflatedTooFar { .. } => {
            ResponseError::MessageTooLarge
        }
        AppendError::Busy => ResponseError::NotEnoughReplicas,
        AppendError::InvalidTimestamp(_) => ResponseError::InvalidTimestamp,
        AppendError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        AppendError::DuplicateSequence { .. } => ResponseError::DuplicateSequenceNumber,
        AppendError::FencedEpoch { .. } => ResponseError::InvalidProducerEpoch,
        AppendError::InvalidTransactionState { .. } => ResponseError::InvalidTxnState,
        AppendError::FencedCoordinator { .. } => ResponseError::TransactionCoordinatorFenced,
        AppendError::Storage(_) | AppendError::Stopped(_) => ResponseError::KafkaStorageError,
        AppendError::Deleted => ResponseError::UnknownTopicOrPartition,
    }
}

/// The code of a plugin that gave no answer. What passes is NOT_ENOUGH_REPLICAS: of the retriable codes the one on which Java,
/// librdkafka, franz-go and Sarama all send the same batch again (Sarama gives up at KAFKA_STORAGE_ERROR), and it says the
/// truth that nothing was appended. What the plugin or the host refuses for good is an error for good.
pub fn plugin_code(failure: &FailureKind) -> ResponseError {
    match failure {
        FailureKind::Rejected(_) | FailureKind::Input(_) => ResponseError::InvalidRecord,
        FailureKind::Refused(_) => ResponseError::PolicyViolation,
        FailureKind::NotDeployed
        | FailureKind::WrongWorld(_)
        | FailureKind::Trap(_)
        | FailureKind::Deadline(_)
        | FailureKind::Memory(_)
        | FailureKind::BadOutput(_)
        | FailureKind::CallError(_)
        | FailureKind::Suspended
        | FailureKind::Unavailable(_)
        | FailureKind::Overloaded(_)
        | FailureKind::NotQuick => ResponseError::NotEnoughReplicas,
    }
}

pub fn read_code(error: &ReadError) -> ResponseError {
    match error {
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Corrupt { .. } => ResponseError::CorruptMessage,
        // Who asks for less than a batch makes room and asks again.
        ReadError::Storage(_) | ReadError::Larger { .. } => ResponseError::KafkaStorageError,
        ReadError::Deleted => ResponseError::UnknownTopicOrPartition,
    }
}

/// The protocol's name of an error code for metric labels; `None` for success.
pub fn code_name(code: i16) -> Option<&'static str> {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    // The crate's names are not to be had as static strings: each is made once. Codes come from the broker alone, so the
    // table cannot grow past the protocol's list.
    static NAMES: Mutex<BTreeMap<i16, &'static str>> = Mutex::new(BTreeMap::new());
    let error = ResponseError::try_from_code(code)?;
    Some(
        NAMES
            .lock()
            .entry(code)
            .or_insert_with(|| Box::leak(error.to_string().into_boxed_str())),
    )
}

/// The code of an outcome; 0 when there was no error.
pub fn code_of<T>(outcome: &Result<T, ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(0, ResponseError::code)
}

/// The code of a coordinator's refusal, one to one.
pub fn group_code(error: &GroupError) -> ResponseError {
    match error {
        GroupError::Loading => ResponseError::CoordinatorLoadInProgress,
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::MemberIdRequired(_) => ResponseError::MemberIdRequired,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::FencedInstanceId => ResponseError::FencedInstanceId,
        GroupError::GroupMaxSize => ResponseError::GroupMaxSizeReached,
        GroupError::NonEmptyGroup => ResponseError::NonEmptyGroup,
        GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
        GroupError::OffsetMetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
        // Clients look for the coordinator and try again, as they do in Kafka when its offsets topic cannot be written.
        GroupError::Storage(_) => ResponseError::CoordinatorNotAvailable,
        // Trying again would not help, and every client takes this code for final.
        GroupError::TooManyGroups(_) => ResponseError::PolicyViolation,
        // As above: it may pass, and every client comes again.
        GroupError::Busy(_) => ResponseError::CoordinatorNotAvailable,
    }
}

/// The code of a transaction's refusal, one to one, as the newest version of every API knows it.
pub fn transaction_code(error: &TransactionError) -> ResponseError {
    match error {
        TransactionError::Refused(refusal) => match refusal {
            Refusal::ProducerIdMapping => ResponseError::InvalidProducerIdMapping,
            Refusal::Fenced => ResponseError::ProducerFenced,
            Refusal::Concurrent => ResponseError::ConcurrentTransactions,
            Refusal::State(_) => ResponseError::InvalidTxnState,
            Refusal::NotInTransaction => ResponseError::TransactionAbortable,
            Refusal::TooManyPartitions => ResponseError::PolicyViolation,
        },
        TransactionError::InvalidId => ResponseError::InvalidRequest,
        TransactionError::InvalidTimeout => ResponseError::InvalidTransactionTimeout,
        // Trying again would not help, and every client takes this code for final.
        TransactionError::TooManyIds(_) => ResponseError::PolicyViolation,
        // Every client comes again, and none that has no transactional id looks for a coordinator first.
        TransactionError::Busy(_) => ResponseError::CoordinatorLoadInProgress,
        TransactionError::Storage(_) => ResponseError::CoordinatorNotAvailable,
    }
}

/// Versions below `from` know fencing by another code (KIP-588).
pub fn fenced_before(from: i16, version: i16, code: ResponseError) -> ResponseError {
    match code {
        ResponseError::ProducerFenced if version < from => ResponseError::InvalidProducerEpoch,
        code => code,
    }
}

/// The code of a refusal by the catalog, where no API has a better one of its own.
pub fn catalog_code(error: &CatalogError) -> ResponseError {
    match error {
        CatalogError::Exists(_) => ResponseError::DuplicateResource,
        CatalogError::Missing(_) => ResponseError::ResourceNotFound,
        CatalogError::Invalid(_) => ResponseError::InvalidRequest,
        CatalogError::Store(_) => ResponseError::KafkaStorageError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::transaction::State;

    #[test]
    fn a_plugins_passing_failure_is_tried_again_and_a_decision_is_not() {
        let text = || "why".to_owned();
        let passing = [
            FailureKind::NotDeployed,
            FailureKind::WrongWorld(text()),
            FailureKind::Trap(text()),
            FailureKind::Deadline(20),
            FailureKind::Memory(1),
            FailureKind::BadOutput(text()),
            FailureKind::CallError(text()),
            FailureKind::Suspended,
            FailureKind::Unavailable(text()),
            FailureKind::Overloaded(text()),
            FailureKind::NotQuick,
        ];
        for failure in passing {
            let code = plugin_code(&failure);
            assert!(code.is_retriable() && code.code() == 19, "{failure}");
        }
        let decisions = [
            (FailureKind::Rejected(Vec::new()), 87),
            (FailureKind::Input(text()), 87),
            (FailureKind::Refused(text()), 44),
        ];
        for (failure, expected) in decisions {
            let code = plugin_code(&failure);
            assert!(!code.is_retriable() && code.code() == expected, "{failure}");
        }
    }

    #[test]
    fn every_refusal_of_a_transaction_has_the_code_that_clients_act_on() {
        let table = [
            (Refusal::ProducerIdMapping.into(), 49),
            (Refusal::Fenced.into(), 90),
            (Refusal::Concurrent.into(), 51),
            (Refusal::State(State::Empty).into(), 48),
            (Refusal::NotInTransaction.into(), 120),
            (Refusal::TooManyPartitions.into(), 44),
            (TransactionError::InvalidId, 42),
            (TransactionError::InvalidTimeout, 50),
            (TransactionError::TooManyIds("transactions.max-ids"), 44),
            (TransactionError::Busy("transactions.max-bytes"), 14),
            (TransactionError::Storage("full".into()), 15),
        ];
        for (error, code) in table {
            assert_eq!(transaction_code(&error).code(), code, "{error}");
        }
        assert_eq!(
            fenced_before(2, 1, ResponseError::ProducerFenced).code(),
            47
        );
        assert_eq!(
            fenced_before(2, 2, ResponseError::ProducerFenced).code(),
            90
        );
    }

    #[test]
    fn every_refusal_of_the_coordinator_has_the_code_that_clients_act_on() {
        let table = [
            (GroupError::Loading, 14),
            (GroupError::InvalidGroupId, 24),
            (GroupError::UnknownMember, 25),
            (GroupError::MemberIdRequired("m".into()), 79),
            (GroupError::IllegalGeneration, 22),
            (GroupError::InconsistentProtocol, 23),
            (GroupError::InvalidSessionTimeout, 26),
            (GroupError::RebalanceInProgress, 27),
            (GroupError::FencedInstanceId, 82),
            (GroupError::GroupMaxSize, 81),
            (GroupError::NonEmptyGroup, 68),
            (GroupError::GroupIdNotFound, 69),
            (GroupError::OffsetMetadataTooLarge, 12),
            (GroupError::Storage("full".into()), 15),
            (GroupError::TooManyGroups("groups.max-groups"), 44),
            (GroupError::Busy("groups.max-bytes"), 15),
        ];
        for (error, code) in table {
            assert_eq!(group_code(&error).code(), code, "{error}");
        }
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = "é".repeat(20_000);
        let cut = message(long).expect("there is a message");
        assert!(cut.len() <= MAX_MESSAGE + '…'.len_utf8());
        assert!(cut.ends_with("é…"));
        assert_eq!(message("short").as_deref(), Some("short"));
    }
}

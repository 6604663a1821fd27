//! The APIs that this client speaks: one row each, with the oldest and newest version whose meaning the code knows.
//!
//! The version used is the highest that broker and row share. Rows stop below a version when it changes what the
//! client would have to do (topic ids in place of names in Produce 13 and Fetch 13; several groups in one OffsetFetch 8). They begin where the
//! fields that the client sets exist: with Apache Kafka 0.11, for DescribeConfigs with 2.6.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, VersionRange};

pub(crate) trait Api: Request {
    const NAME: &'static str;
    const VERSIONS_SPOKEN: VersionRange;
}

macro_rules! apis {
    ($($request:ident $name:literal $oldest:literal to $newest:literal;)*) => {
        $(impl Api for $request {
            const NAME: &'static str = $name;
            const VERSIONS_SPOKEN: VersionRange = VersionRange {
                min: $oldest,
                max: $newest,
            };
        })*
    };
}

apis! {
    ProduceRequest "Produce" 3 to 12;
    FetchRequest "Fetch" 4 to 12;
    ListOffsetsRequest "ListOffsets" 2 to 8;
    MetadataRequest "Metadata" 4 to 12;
    OffsetCommitRequest "OffsetCommit" 2 to 8;
    OffsetFetchRequest "OffsetFetch" 1 to 7;
    FindCoordinatorRequest "FindCoordinator" 0 to 3;
    JoinGroupRequest "JoinGroup" 1 to 9;
    HeartbeatRequest "Heartbeat" 0 to 4;
    LeaveGroupRequest "LeaveGroup" 0 to 5;
    SyncGroupRequest "SyncGroup" 0 to 5;
    DescribeGroupsRequest "DescribeGroups" 0 to 5;
    ListGroupsRequest "ListGroups" 0 to 4;
    SaslHandshakeRequest "SaslHandshake" 0 to 1;
    ApiVersionsRequest "ApiVersions" 0 to 3;
    CreateTopicsRequest "CreateTopics" 2 to 7;
    DeleteTopicsRequest "DeleteTopics" 1 to 5;
    DeleteRecordsRequest "DeleteRecords" 0 to 2;
    InitProducerIdRequest "InitProducerId" 0 to 4;
    WriteTxnMarkersRequest "WriteTxnMarkers" 1 to 1;
    DescribeAclsRequest "DescribeAcls" 1 to 3;
    CreateAclsRequest "CreateAcls" 1 to 3;
    DeleteAclsRequest "DeleteAcls" 1 to 3;
    DescribeConfigsRequest "DescribeConfigs" 3 to 4;
    SaslAuthenticateRequest "SaslAuthenticate" 0 to 2;
    CreatePartitionsRequest "CreatePartitions" 0 to 3;
    DeleteGroupsRequest "DeleteGroups" 0 to 2;
    IncrementalAlterConfigsRequest "IncrementalAlterConfigs" 0 to 1;
    OffsetDeleteRequest "OffsetDelete" 0 to 0;
    DescribeClusterRequest "DescribeCluster" 0 to 1;
    DescribeProducersRequest "DescribeProducers" 0 to 0;
    DescribeTransactionsRequest "DescribeTransactions" 0 to 0;
    ListTransactionsRequest "ListTransactions" 0 to 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::protocol::Message;

    fn check<R: Api>() {
        let (spoken, known) = (R::VERSIONS_SPOKEN, <R as Message>::VERSIONS);
        assert_eq!(spoken.intersect(&known), spoken, "{}", R::NAME);
    }

    #[test]
    fn every_row_stays_within_what_can_be_encoded() {
        check::<ProduceRequest>();
        check::<FetchRequest>();
        check::<MetadataRequest>();
        check::<ListOffsetsRequest>();
        check::<OffsetFetchRequest>();
        check::<JoinGroupRequest>();
        check::<ApiVersionsRequest>();
        check::<DescribeConfigsRequest>();
        check::<IncrementalAlterConfigsRequest>();
    }
}

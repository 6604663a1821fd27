//! The APIs that this client speaks: one row each, with the newest version whose meaning the code knows.
//!
//! The version used is the highest that broker and row share. Rows stop below a version when it changes what the
//! client would have to do (topic ids in place of names in Produce 13 and Fetch 13; several groups in one OffsetFetch 8).

use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Message, Request, VersionRange};

pub(crate) trait Api: Request {
    const NAME: &'static str;
    const VERSIONS_SPOKEN: VersionRange;
}

macro_rules! apis {
    ($($request:ident $name:literal up to $newest:literal;)*) => {
        $(impl Api for $request {
            const NAME: &'static str = $name;
            const VERSIONS_SPOKEN: VersionRange = VersionRange {
                min: <$request as Message>::VERSIONS.min,
                max: $newest,
            };
        })*
    };
}

apis! {
    ProduceRequest "Produce" up to 12;
    FetchRequest "Fetch" up to 12;
    ListOffsetsRequest "ListOffsets" up to 8;
    MetadataRequest "Metadata" up to 12;
    OffsetCommitRequest "OffsetCommit" up to 8;
    OffsetFetchRequest "OffsetFetch" up to 7;
    FindCoordinatorRequest "FindCoordinator" up to 3;
    JoinGroupRequest "JoinGroup" up to 9;
    HeartbeatRequest "Heartbeat" up to 4;
    LeaveGroupRequest "LeaveGroup" up to 5;
    SyncGroupRequest "SyncGroup" up to 5;
    DescribeGroupsRequest "DescribeGroups" up to 5;
    ListGroupsRequest "ListGroups" up to 4;
    SaslHandshakeRequest "SaslHandshake" up to 1;
    ApiVersionsRequest "ApiVersions" up to 3;
    CreateTopicsRequest "CreateTopics" up to 7;
    DeleteTopicsRequest "DeleteTopics" up to 5;
    InitProducerIdRequest "InitProducerId" up to 4;
    DescribeAclsRequest "DescribeAcls" up to 3;
    CreateAclsRequest "CreateAcls" up to 3;
    DeleteAclsRequest "DeleteAcls" up to 3;
    DescribeConfigsRequest "DescribeConfigs" up to 4;
    SaslAuthenticateRequest "SaslAuthenticate" up to 2;
    CreatePartitionsRequest "CreatePartitions" up to 3;
    DeleteGroupsRequest "DeleteGroups" up to 2;
    IncrementalAlterConfigsRequest "IncrementalAlterConfigs" up to 1;
    OffsetDeleteRequest "OffsetDelete" up to 0;
    DescribeClusterRequest "DescribeCluster" up to 1;
}

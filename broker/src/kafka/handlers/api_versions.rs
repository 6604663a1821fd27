//! ApiVersions (KIP-35, KIP-511): versions 0 to 4. Advertises the table's rows and nothing else; a version it does not know
//! is answered in version 0 with UNSUPPORTED_VERSION and the whole list, so that the client can ask again.
//!
//! Left out: supported and finalized features (none exist), and a client's software name is taken as it comes.

use std::ops::RangeInclusive;

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::kafka::ResponseError;
use crate::kafka::apis::APIS;
use crate::kafka::context::Context;

pub const VERSIONS: RangeInclusive<i16> = 0..=4;

pub async fn handle(_: &Context, _: ApiVersionsRequest) -> ApiVersionsResponse {
    response()
}

/// The answer to a version that is not served, to be encoded as version 0.
pub fn unsupported() -> ApiVersionsResponse {
    response().with_error_code(ResponseError::UnsupportedVersion.code())
}

fn response() -> ApiVersionsResponse {
    let row = |api: &crate::kafka::apis::Api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.advertised_min)
            .with_max_version(*api.versions.end())
    };
    ApiVersionsResponse::default().with_api_keys(APIS.iter().map(row).collect())
}

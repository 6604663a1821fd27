//! ApiVersions (KIP-35, KIP-511): versions 0 to 4. Advertises the table's rows and nothing else; a version it does not know
//! is answered in version 0 with UNSUPPORTED_VERSION and the whole list, so that the client can ask again.
//!
//! Tells the one feature that there is (KIP-584): `transaction.version`, supported up to 2 and finalized at 2, by which producers
//! know that they may use transaction version 2 (KIP-890). Before version 4 a feature's lowest version cannot be 0 (KAFKA-17011).
//!
//! A client's software name is taken as it comes.

use std::ops::RangeInclusive;

use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::ResponseError;
use crate::kafka::apis::APIS;
use crate::kafka::context::Context;

pub const VERSIONS: RangeInclusive<i16> = 0..=4;

/// From here on the lowest version of a feature may be 0.
const FEATURE_ZERO_FROM: i16 = 4;
/// From here on there are features.
const FEATURES_FROM: i16 = 3;

const TRANSACTION_VERSION: &str = "transaction.version";
const LATEST_TRANSACTION_VERSION: i16 = 2;

pub async fn handle(context: &Context, _: ApiVersionsRequest) -> ApiVersionsResponse {
    with_features(response(), context.version)
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

fn with_features(response: ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
    if version < FEATURES_FROM {
        return response;
    }
    let name = StrBytes::from_static_str(TRANSACTION_VERSION);
    let supported = SupportedFeatureKey::default()
        .with_name(name.clone())
        .with_min_version(i16::from(version < FEATURE_ZERO_FROM))
        .with_max_version(LATEST_TRANSACTION_VERSION);
    let finalized = FinalizedFeatureKey::default()
        .with_name(name)
        .with_min_version_level(LATEST_TRANSACTION_VERSION)
        .with_max_version_level(LATEST_TRANSACTION_VERSION);
    response
        .with_supported_features(vec![supported])
        .with_finalized_features_epoch(0)
        .with_finalized_features(vec![finalized])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn the_transaction_version_is_told_where_the_version_has_room_for_it() {
        for version in VERSIONS {
            let seen = encodes(version, &with_features(response(), version));
            let supported: Vec<_> = seen
                .supported_features
                .iter()
                .map(|feature| {
                    (
                        feature.name.as_str(),
                        feature.min_version,
                        feature.max_version,
                    )
                })
                .collect();
            let finalized: Vec<_> = seen
                .finalized_features
                .iter()
                .map(|feature| (feature.name.as_str(), feature.max_version_level))
                .collect();
            match version {
                0..FEATURES_FROM => assert_eq!((supported.len(), finalized.len()), (0, 0)),
                _ => {
                    let least = i16::from(version < FEATURE_ZERO_FROM);
                    assert_eq!(supported, [(TRANSACTION_VERSION, least, 2)]);
                    assert_eq!(finalized, [(TRANSACTION_VERSION, 2)]);
                    assert_eq!(seen.finalized_features_epoch, 0);
                }
            }
        }
    }
}

//! ApiVersions: the table's rows, and an answer even to a version from the future.

use harness::Broker;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tidegate::kafka::apis::APIS;

fn request() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("tests"))
        .with_client_software_version(StrBytes::from_static_str("1"))
}

#[test]
fn every_version_lists_exactly_the_table() {
    let broker = Broker::start();
    let mut client = broker.connect();
    for version in 0..=4 {
        let response = client.request(version, &request()).expect("an answer");
        assert_eq!(response.error_code, 0, "version {version}");
        let listed: Vec<_> = response
            .api_keys
            .iter()
            .map(|row| (row.api_key, row.min_version, row.max_version))
            .collect();
        let table: Vec<_> = APIS
            .iter()
            .map(|api| (api.key as i16, api.advertised_min, *api.versions.end()))
            .collect();
        assert_eq!(listed, table, "version {version}");
    }
}

#[test]
fn produce_is_advertised_from_zero_so_that_old_librdkafka_compresses() {
    let broker = Broker::start();
    let response = broker.connect().request(3, &request()).expect("an answer");
    let produce = response
        .api_keys
        .iter()
        .find(|row| row.api_key == ApiKey::Produce as i16)
        .expect("a row");
    assert_eq!(produce.min_version, 0);
}

#[test]
fn an_unknown_version_is_answered_in_version_zero() {
    let broker = Broker::start();
    let mut client = broker.connect();
    // API key 18, version 99, correlation id 7, null client id, no tagged fields.
    client
        .send_raw(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0])
        .expect("sent");
    let mut answer = client.receive_raw().expect("an answer");
    let header = ResponseHeader::decode(&mut answer, 0).expect("a header");
    assert_eq!(header.correlation_id, 7);
    let response = ApiVersionsResponse::decode(&mut answer, 0).expect("version 0");
    assert_eq!(response.error_code, 35, "UNSUPPORTED_VERSION");
    assert_eq!(response.api_keys.len(), APIS.len());
    // The connection goes on.
    assert_eq!(
        client.request(3, &request()).expect("an answer").error_code,
        0
    );
}

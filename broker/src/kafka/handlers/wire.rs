//! For the handlers' tests: an answer must encode in the version that was asked, and read back as it was meant.

use std::fmt::Debug;

use bytes::BytesMut;
use kafka_protocol::protocol::{Decodable, Encodable};

/// Encodes a response, decodes it, and returns what a client of that version sees.
///
/// # Panics
/// When the response has a field that the version lacks, or a null that it does not know.
pub fn encodes<T: Encodable + Decodable + Debug>(version: i16, response: &T) -> T {
    let mut frame = BytesMut::new();
    response
        .encode(&mut frame, version)
        .unwrap_or_else(|error| panic!("version {version}: {error}: {response:?}"));
    assert_eq!(
        response.compute_size(version).ok(),
        Some(frame.len()),
        "version {version}"
    );
    let mut bytes = frame.freeze();
    let seen = T::decode(&mut bytes, version)
        .unwrap_or_else(|error| panic!("version {version}: {error}: {response:?}"));
    assert!(
        bytes.is_empty(),
        "version {version}: {} bytes left",
        bytes.len()
    );
    seen
}

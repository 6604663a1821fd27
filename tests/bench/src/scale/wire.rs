//! One TCP connection that speaks Kafka frames and nothing else: no metadata, no retries, no task of its own. Thousands of
//! them cost the measuring side little.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// The largest answer that is taken, in bytes: Metadata of ten thousand topics is below.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection. Answers come in the order of the requests; the caller remembers what was asked.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    sent: i32,
    received: i32,
}

impl Wire {
    pub fn open(address: &str) -> Result<Self> {
        let opened = TcpStream::connect(address);
        let stream = opened.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            sent: 0,
            received: 0,
        })
    }

    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        let frame = frame(request, version, self.sent)?;
        self.sent += 1;
        Ok(self.stream.write_all(&frame)?)
    }

    /// The answer to the oldest request that has none.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let mut bytes = self.receive_bytes()?;
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut bytes, header_version)?;
        ensure!(
            header.correlation_id == self.received,
            "an answer came out of its turn"
        );
        self.received += 1;
        R::Response::decode(&mut bytes, version)
    }

    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    fn receive_bytes(&mut self) -> Result<Bytes> {
        let mut length = [0; 4];
        let read = self.stream.read_exact(&mut length);
        read.context("no answer from the broker")?;
        let length = (&length[..]).get_u32() as usize;
        if !(4..=MAX_ANSWER_BYTES).contains(&length) {
            bail!("an answer of {length} bytes");
        }
        let mut bytes = BytesMut::zeroed(length);
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes.freeze())
    }
}

/// A request on the wire.
fn frame<R: Request>(request: &R, version: i16, correlation_id: i32) -> Result<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    let mut bytes = BytesMut::zeroed(4);
    header.encode(&mut bytes, R::header_version(version))?;
    request.encode(&mut bytes, version)?;
    let length = u32::try_from(bytes.len() - 4).context("a request is too long")?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

//! One logical connection: requests out, answers in, many in flight.
//!
//! A *frame* is a length-prefixed message. The broker answers in the order of the requests, so the answers that are
//! *pending* form a queue; the correlation id of each answer is checked against its head. One task a connection reads
//! and writes. Whatever ends the connection (an error, the peer, a request that got no answer in time) fails every
//! pending answer with the same reason; a connection is never used again after that.

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::api::Api;
use super::transport::{Reader, Writer, lock};
use crate::error::{Error, ErrorCode, Result};

/// The largest answer that is accepted. A fetch asks for less; a broker that sends more is broken or hostile.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Chunks below this are copied together into one write; larger ones are written from where they are.
const COALESCE_BELOW: usize = 16 << 10;
/// What the reader asks of the socket at once when it does not know how much is coming.
const READ_BYTES: usize = 64 << 10;

/// A cheap handle; the connection ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Arc<str>,
    client_id: StrBytes,
    pending: Arc<Mutex<Pending>>,
    versions: OnceLock<HashMap<i16, VersionRange>>,
    task: tokio::task::AbortHandle,
}

struct Pending {
    next_correlation: i32,
    waiting: VecDeque<(i32, oneshot::Sender<Result<Bytes>>)>,
    /// `None` once the connection has ended.
    outgoing: Option<mpsc::UnboundedSender<Frame>>,
    ended: Option<Error>,
}

/// What goes out for one request: its length prefix and header, then its body as it lies in memory.
struct Frame {
    chunks: Vec<Bytes>,
    /// Told when the frame was handed to the operating system; only requests without an answer ask.
    written: Option<oneshot::Sender<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection")
            .field(&self.shared.broker)
            .finish()
    }
}

/// An answer that is still to come.
#[must_use = "the answer says whether the request succeeded"]
pub(crate) struct Answer<R> {
    connection: Connection,
    version: i16,
    receiver: oneshot::Receiver<Result<Bytes>>,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Starts the connection's task on a fresh stream.
    pub fn start_on(stream: (Reader, Writer), broker: Arc<str>, client_id: &str) -> Self {
        let (outgoing, frames) = mpsc::unbounded_channel();
        let pending = Arc::new(Mutex::new(Pending {
            next_correlation: 0,
            waiting: VecDeque::new(),
            outgoing: Some(outgoing),
            ended: None,
        }));
        let guard = EndOnDrop {
            pending: pending.clone(),
            broker: broker.clone(),
        };
        let task = tokio::spawn(run(stream, frames, guard)).abort_handle();
        Self {
            shared: Arc::new(Shared {
                broker,
                client_id: StrBytes::from_string(client_id.to_owned()),
                pending,
                versions: OnceLock::new(),
                task,
            }),
        }
    }

    pub fn broker(&self) -> &Arc<str> {
        &self.shared.broker
    }

    pub fn is_ended(&self) -> bool {
        lock(&self.shared.pending).ended.is_some()
    }

    /// Ends the connection; every pending answer fails with this reason.
    pub fn end(&self, reason: &str) {
        end(&self.shared.pending, &self.shared.broker, reason);
        self.shared.task.abort();
    }

    /// Learns which versions the broker speaks. Comes first on every connection.
    pub async fn negotiate(&self, timeout: Duration) -> Result<()> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tidegate-client"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let newest = <ApiVersionsRequest as Api>::VERSIONS_SPOKEN.max;
        let mut response = self
            .within(
                timeout,
                "ApiVersions",
                self.start_at(&request, newest)?.wait(),
            )
            .await?;
        if response.error_code == ErrorCode::UnsupportedVersion.code() {
            response = self
                .within(timeout, "ApiVersions", self.start_at(&request, 0)?.wait())
                .await?;
        }
        crate::error::check(
            response.error_code,
            self.broker(),
            "ApiVersions",
            || "itself".into(),
            None,
        )?;
        let versions = response
            .api_keys
            .iter()
            .map(|api| {
                let range = VersionRange {
                    min: api.min_version,
                    max: api.max_version,
                };
                (api.api_key, range)
            })
            .collect();
        // A second negotiation on one connection would tell the same.
        let _ = self.shared.versions.set(versions);
        Ok(())
    }

    /// The newest version of an API that both sides speak.
    pub fn version<R: Api>(&self) -> Result<i16> {
        let known = self.shared.versions.get();
        let offered = known.and_then(|versions| versions.get(&R::KEY));
        let shared = offered.map(|offered| offered.intersect(&R::VERSIONS_SPOKEN));
        match shared {
            Some(range) if !range.is_empty() => Ok(range.max),
            _ => Err(Error::UnsupportedVersion {
                broker: self.broker().clone(),
                api: R::NAME,
            }),
        }
    }

    /// Sends a request and waits for its answer. A connection whose answer stays out ends: what follows on it would
    /// stay out as well.
    pub async fn call<R: Api>(&self, request: &R, timeout: Duration) -> Result<R::Response> {
        let answer = self.start(request)?;
        self.within(timeout, R::NAME, answer.wait()).await
    }

    /// Waits for one of this connection's answers and ends the connection when it stays out.
    pub async fn within<T>(
        &self,
        timeout: Duration,
        api: &'static str,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(timeout, answer).await {
            Ok(result) => result,
            Err(_) => {
                self.end(&format!("{api} got no answer within {timeout:?}"));
                Err(Error::Timeout {
                    what: format!("{api} at {}", self.broker()),
                    after: timeout,
                })
            }
        }
    }

    /// Queues a request; requests go out in the order of these calls.
    pub fn start<R: Api>(&self, request: &R) -> Result<Answer<R>> {
        self.start_at(request, self.version::<R>()?)
    }

    fn start_at<R: Api>(&self, request: &R, version: i16) -> Result<Answer<R>> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|error| {
            Error::InvalidInput(format!("{} cannot be encoded: {error}", R::NAME))
        })?;
        self.start_encoded(version, vec![body.freeze()])
    }

    /// Queues a request whose body was encoded already, in `version`.
    pub fn start_encoded<R: Api>(&self, version: i16, body: Vec<Bytes>) -> Result<Answer<R>> {
        let (sender, receiver) = oneshot::channel();
        self.queue::<R>(version, body, Some(sender), None)?;
        Ok(Answer {
            connection: self.clone(),
            version,
            receiver,
            request: PhantomData,
        })
    }

    /// Queues a request that the protocol leaves unanswered. What it returns resolves when the request was written, or
    /// errs when the connection ended before.
    pub fn start_unanswered<R: Api>(
        &self,
        version: i16,
        body: Vec<Bytes>,
    ) -> Result<oneshot::Receiver<()>> {
        let (written, receiver) = oneshot::channel();
        self.queue::<R>(version, body, None, Some(written))?;
        Ok(receiver)
    }

    fn queue<R: Api>(
        &self,
        version: i16,
        body: Vec<Bytes>,
        answer: Option<oneshot::Sender<Result<Bytes>>>,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<()> {
        let mut pending = lock(&self.shared.pending);
        let correlation = pending.next_correlation;
        pending.next_correlation = correlation.wrapping_add(1);
        let chunks = self.frame::<R>(version, correlation, body)?;
        let sent = match &pending.outgoing {
            Some(outgoing) => outgoing.send(Frame { chunks, written }).is_ok(),
            None => false,
        };
        if !sent {
            return Err(pending.ended.clone().unwrap_or(Error::Closed));
        }
        if let Some(answer) = answer {
            pending.waiting.push_back((correlation, answer));
        }
        Ok(())
    }

    fn frame<R: Api>(
        &self,
        version: i16,
        correlation: i32,
        body: Vec<Bytes>,
    ) -> Result<Vec<Bytes>> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.shared.client_id.clone()));
        let mut start = BytesMut::with_capacity(64);
        start.put_i32(0);
        header
            .encode(&mut start, <R as HeaderVersion>::header_version(version))
            .map_err(|error| {
                Error::InvalidInput(format!("{} cannot be encoded: {error}", R::NAME))
            })?;
        let length = start.len() - 4 + body.iter().map(Bytes::len).sum::<usize>();
        let length = i32::try_from(length)
            .map_err(|_| Error::InvalidInput(format!("a {} request exceeds 2 GiB", R::NAME)))?;
        start[..4].copy_from_slice(&length.to_be_bytes());
        let mut chunks = Vec::with_capacity(1 + body.len());
        chunks.push(start.freeze());
        chunks.extend(body);
        Ok(chunks)
    }
}

impl<R: Api> Answer<R> {
    pub async fn wait(self) -> Result<R::Response> {
        let mut bytes = match self.receiver.await {
            Ok(result) => result?,
            Err(_) => return Err(Error::Closed),
        };
        let broker = self.connection.broker();
        let malformed = |reason: String| Error::Malformed {
            broker: broker.clone(),
            what: R::NAME,
            reason,
        };
        // An ApiVersions answer to a version that the broker does not know comes in version 0, and so says its code.
        let mut version = self.version;
        if R::KEY == ApiVersionsRequest::KEY
            && bytes.get(4..6) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes()[..])
        {
            version = 0;
        }
        let header = <R::Response as HeaderVersion>::header_version(version);
        ResponseHeader::decode(&mut bytes, header).map_err(|error| malformed(error.to_string()))?;
        debug_assert!(version <= <R::Response as Message>::VERSIONS.max);
        R::Response::decode(&mut bytes, version).map_err(|error| malformed(error.to_string()))
    }
}

/// Fails what is pending when the connection's task ends, however it ends.
struct EndOnDrop {
    pending: Arc<Mutex<Pending>>,
    broker: Arc<str>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        end(&self.pending, &self.broker, "it was closed");
    }
}

/// The first reason stays.
fn end(pending: &Mutex<Pending>, broker: &Arc<str>, reason: &str) {
    let (error, waiting) = {
        let mut pending = lock(pending);
        pending.outgoing = None;
        let error = pending.ended.get_or_insert_with(|| Error::Disconnected {
            broker: broker.clone(),
            reason: reason.to_owned(),
        });
        (error.clone(), std::mem::take(&mut pending.waiting))
    };
    for (_, answer) in waiting {
        // A caller that no longer waits needs no answer.
        let _ = answer.send(Err(error.clone()));
    }
}

async fn run(
    (reader, writer): (Reader, Writer),
    frames: mpsc::UnboundedReceiver<Frame>,
    guard: EndOnDrop,
) {
    let reason = tokio::select! {
        reason = read_answers(reader, &guard.pending) => reason,
        result = write_frames(writer, frames) => match result {
            Ok(()) => "it was closed".to_owned(),
            Err(error) => error.to_string(),
        },
    };
    tracing::debug!(broker = %guard.broker, %reason, "connection ended");
    end(&guard.pending, &guard.broker, &reason);
}

async fn write_frames(
    mut writer: Writer,
    mut frames: mpsc::UnboundedReceiver<Frame>,
) -> std::io::Result<()> {
    let mut small = BytesMut::with_capacity(COALESCE_BELOW);
    let mut written = Vec::new();
    while let Some(first) = frames.recv().await {
        let mut next = Some(first);
        while let Some(frame) = next {
            for chunk in frame.chunks {
                if chunk.len() < COALESCE_BELOW {
                    small.extend_from_slice(&chunk);
                    continue;
                }
                if !small.is_empty() {
                    writer.write_all(&small).await?;
                    small.clear();
                }
                writer.write_all(&chunk).await?;
            }
            written.extend(frame.written);
            next = frames.try_recv().ok();
        }
        if !small.is_empty() {
            writer.write_all(&small).await?;
            small.clear();
        }
        writer.flush().await?;
        for told in written.drain(..) {
            // A sender that no longer waits needs no word.
            let _: Result<(), ()> = told.send(());
        }
    }
    writer.shutdown().await
}

/// Reads until the connection fails, and says why it did.
async fn read_answers(mut reader: Reader, pending: &Mutex<Pending>) -> String {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        loop {
            match split_frame(&mut buffer) {
                Ok(Some(frame)) => {
                    if let Err(reason) = deliver(frame, pending) {
                        return reason;
                    }
                }
                Ok(None) => break,
                Err(reason) => return reason,
            }
        }
        let wanted = wanted_bytes(&buffer);
        buffer.reserve(wanted);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return "the broker closed it".into(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

fn deliver(frame: Bytes, pending: &Mutex<Pending>) -> Result<(), String> {
    let correlation = match frame.first_chunk::<4>() {
        Some(bytes) => i32::from_be_bytes(*bytes),
        None => return Err(format!("an answer of {} bytes has no header", frame.len())),
    };
    let head = lock(pending).waiting.pop_front();
    match head {
        Some((expected, answer)) if expected == correlation => {
            // A caller that no longer waits needs no answer.
            let _ = answer.send(Ok(frame));
            Ok(())
        }
        Some((expected, answer)) => {
            let reason = format!("answer {correlation} came where {expected} was due");
            lock(pending).waiting.push_front((expected, answer));
            Err(reason)
        }
        None => Err(format!("answer {correlation} came to no request")),
    }
}

/// Takes one whole frame, without its length, off the front.
fn split_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let length = match frame_length(buffer) {
        None => return Ok(None),
        Some(length) => length,
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_ANSWER_BYTES)
        .ok_or_else(|| {
            format!("an answer claims {length} bytes; at most {MAX_ANSWER_BYTES} are accepted")
        })?;
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn frame_length(buffer: &BytesMut) -> Option<i32> {
    buffer
        .first_chunk::<4>()
        .map(|bytes| i32::from_be_bytes(*bytes))
}

/// How much to make room for: the rest of the frame that has begun, or a first read.
fn wanted_bytes(buffer: &BytesMut) -> usize {
    let rest = frame_length(buffer)
        .and_then(|length| usize::try_from(length).ok())
        .map(|length| (4 + length).saturating_sub(buffer.len()))
        .unwrap_or_default();
    rest.max(READ_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::HeartbeatRequest;
    use tokio::io::{DuplexStream, duplex};

    fn connected() -> (Connection, DuplexStream) {
        let (near, far) = duplex(1 << 16);
        let (reader, writer) = tokio::io::split(near);
        let stream = (Box::new(reader) as Reader, Box::new(writer) as Writer);
        (Connection::start_on(stream, "test".into(), "me"), far)
    }

    fn started(connection: &Connection) -> Answer<HeartbeatRequest> {
        connection
            .start_encoded(0, vec![Bytes::from_static(b"body")])
            .unwrap()
    }

    async fn request(far: &mut DuplexStream) -> i32 {
        let length = far.read_i32().await.unwrap();
        let mut frame = vec![0; length as usize];
        far.read_exact(&mut frame).await.unwrap();
        assert!(frame.ends_with(b"body"));
        i32::from_be_bytes(frame[4..8].try_into().unwrap())
    }

    async fn answer(far: &mut DuplexStream, correlation: i32, code: i16) {
        let mut frame = correlation.to_be_bytes().to_vec();
        frame.extend(code.to_be_bytes());
        far.write_i32(frame.len() as i32).await.unwrap();
        far.write_all(&frame).await.unwrap();
    }

    #[tokio::test]
    async fn answers_reach_their_requests_when_many_are_in_flight() {
        let (connection, mut far) = connected();
        let first = started(&connection);
        let second = started(&connection);
        let ids = [request(&mut far).await, request(&mut far).await];
        answer(&mut far, ids[0], 1).await;
        answer(&mut far, ids[1], 2).await;
        assert_eq!(second.wait().await.unwrap().error_code, 2);
        assert_eq!(first.wait().await.unwrap().error_code, 1);
    }

    #[tokio::test]
    async fn a_wrong_correlation_id_ends_the_connection() {
        let (connection, mut far) = connected();
        let pending = started(&connection);
        let id = request(&mut far).await;
        answer(&mut far, id + 7, 0).await;
        let error = pending.wait().await.unwrap_err().to_string();
        assert!(error.contains("was due"), "{error}");
        assert!(connection.is_ended());
    }

    #[tokio::test]
    async fn every_pending_answer_fails_when_the_peer_closes() {
        let (connection, mut far) = connected();
        let (first, second) = (started(&connection), started(&connection));
        request(&mut far).await;
        drop(far);
        for pending in [first, second] {
            let error = pending.wait().await.unwrap_err();
            assert!(error.is_retriable(), "{error}");
        }
        let refused = connection.start_encoded::<HeartbeatRequest>(0, vec![]);
        assert!(refused.is_err());
    }

    #[test]
    fn splits_frames_and_refuses_impossible_lengths() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 2, 7, 8, 0, 0][..]);
        assert_eq!(split_frame(&mut buffer).unwrap().unwrap(), &[7, 8][..]);
        assert_eq!(split_frame(&mut buffer).unwrap(), None);
        for bytes in [[0xff; 4], [0x7f, 0xff, 0xff, 0xff]] {
            let mut buffer = BytesMut::from(&bytes[..]);
            assert!(split_frame(&mut buffer).unwrap_err().contains("claims"));
        }
    }

    #[test]
    fn makes_room_for_the_rest_of_a_frame() {
        let mut buffer = BytesMut::from(&(1i32 << 20).to_be_bytes()[..]);
        buffer.extend_from_slice(&[0; 96]);
        assert_eq!(wanted_bytes(&buffer), 4 + (1 << 20) - 100);
        assert_eq!(wanted_bytes(&BytesMut::new()), READ_BYTES);
    }
}

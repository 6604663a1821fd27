//! The loop of one connection: requests in, answers out in the same order.
//!
//! Requests that have arrived together are handled together and answered by one write; with syncs, after one sync. In between,
//! the loop waits in one place only: for the next request, or in a fetch for something to read.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use kafka_protocol::messages::ApiKey;

use crate::input::{Input, Wait};
use crate::log::Log;
use crate::stream::Stream;
use crate::topics::Topics;
use crate::wire::{Fields, Header};
use crate::{control, fetch, produce};

/// Answers do not wait for more requests than these bytes.
const MOST_AT_ONCE: usize = 64 << 20;

pub struct Connection {
    stream: Stream,
    input: Input,
    topics: Arc<Topics>,
    /// Where this client found us: what it is told when it asks for brokers.
    local: SocketAddr,
    out: Output,
}

/// Answers that are not sent yet, and what they wait for.
#[derive(Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    /// Logs that must be committed before.
    pub uncommitted: Vec<Arc<Log>>,
    /// The size of the requests.
    received: usize,
}

impl Output {
    /// Commits, then sends.
    pub fn send(&mut self, stream: &mut Stream) -> Result<()> {
        for log in self.uncommitted.drain(..) {
            log.commit()?;
        }
        self.received = 0;
        if !self.bytes.is_empty() {
            stream.write(&self.bytes, false)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

impl Connection {
    pub fn open(stream: Stream, topics: Arc<Topics>) -> Result<Self> {
        Ok(Self {
            local: stream.local_address()?,
            stream,
            input: Input::default(),
            topics,
            out: Output::default(),
        })
    }

    /// Serves until the client leaves.
    pub fn serve(mut self) -> Result<()> {
        let together = if self.topics.mode().syncs() {
            Wait::Arrived
        } else {
            Wait::Buffered
        };
        while self.step(Wait::Long)? {
            while self.out.received < MOST_AT_ONCE && self.step(together)? {}
            self.out.send(&mut self.stream)?;
        }
        Ok(())
    }

    /// Handles one request; `false` when there is none.
    fn step(&mut self, wait: Wait) -> Result<bool> {
        let Some(frame) = self.input.next(&mut self.stream, wait)? else {
            return Ok(false);
        };
        self.out.received += frame.len();
        let mut fields = Fields::new(frame);
        let header = Header::read(&mut fields)?;
        let api = ApiKey::try_from(header.api)
            .ok()
            .with_context(|| format!("API {} is not known", header.api))?;
        control::check_version(api, header.version)?;
        fields.flexible = api.request_header_version(header.version) >= 2;
        fields.tags()?;
        let (body, flexible) = (fields.position(), fields.flexible);
        let request = Request {
            header,
            flexible,
            topics: &self.topics,
        };
        match api {
            ApiKey::Produce => produce::handle(request, &mut frame[body..], &mut self.out)?,
            ApiKey::Fetch => {
                let fetch = fetch::Fetch::read(request, &frame[body..])?;
                self.out.send(&mut self.stream)?;
                fetch.answer(&mut self.stream)?;
            }
            _ => control::handle(
                request,
                api,
                &frame[body..],
                self.local,
                &mut self.out.bytes,
            )?,
        }
        Ok(true)
    }
}

/// What a handler knows besides the body.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    pub header: Header,
    pub flexible: bool,
    pub topics: &'r Topics,
}

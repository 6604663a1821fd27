//! Connections and the requests on their way: answers come in the order of the requests of a connection, or not at all.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tidegate::kafka::dispatch::KafkaConnection;
use tidegate::net::{Finished, FrameHandler, Reply, Started};

use crate::broker::Broker;
use crate::shadow::Shadow;

/// What an answer, or never getting one (`None`), means. `Err` tells a violation.
pub type Settle = Box<dyn FnOnce(&mut Shadow, Option<Bytes>) -> Result<(), String>>;

/// A request ready to be sent.
pub struct Request {
    /// For the trace.
    pub label: String,
    /// Requests of one line keep their order and break together.
    pub line: usize,
    pub frame: Bytes,
    pub settle: Settle,
}

enum Progress {
    Waiting(Pin<Box<dyn Future<Output = Finished> + Send>>),
    Answered(Option<Bytes>),
}

struct Flight {
    label: String,
    line: usize,
    progress: Progress,
    settle: Settle,
}

/// All connections of one life of the broker.
#[derive(Default)]
pub struct Network {
    connections: BTreeMap<usize, KafkaConnection>,
    flights: Vec<Flight>,
}

fn joined(reply: Reply) -> Bytes {
    let mut bytes = BytesMut::new();
    for part in reply {
        bytes.extend_from_slice(&part);
    }
    bytes.freeze()
}

fn answered(finished: Finished) -> Result<Option<Bytes>, String> {
    match finished {
        Finished::Reply(reply) => Ok(Some(joined(reply))),
        Finished::Silent => Ok(None),
        Finished::Close { reason, .. } => Err(format!("the broker closed a connection: {reason}")),
    }
}

impl Network {
    /// Requests on their way.
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Sends a request: its ordered part has run when this returns. The broker may close the connection of one that failed
    /// and has no answer.
    pub async fn send(
        &mut self,
        broker: &Broker,
        shadow: &mut Shadow,
        request: Request,
    ) -> Result<(), String> {
        let connection = self
            .connections
            .entry(request.line)
            .or_insert_with(|| broker.connect());
        let progress = match connection.start(request.frame).await {
            Started::Ready(reply) => Progress::Answered(Some(joined(reply))),
            Started::Silent => Progress::Answered(None),
            Started::Later(future) => Progress::Waiting(future),
            // Nothing of the line is waited for here: its turn has come.
            Started::InTurn(mut future) => match futures_util::poll!(&mut future) {
                Poll::Ready(finished) => Progress::Answered(answered(finished)?),
                Poll::Pending => Progress::Waiting(future),
            },
            Started::Close { .. } if shadow.had_fault => {
                (request.settle)(shadow, None)?;
                return self.break_line(shadow, request.line);
            }
            Started::Close { reason, .. } => {
                return Err(format!("the broker closed a connection: {reason}"));
            }
        };
        self.flights.push(Flight {
            label: request.label,
            line: request.line,
            progress,
            settle: request.settle,
        });
        Ok(())
    }

    /// Lets every request go on.
    pub async fn poll(&mut self) -> Result<(), String> {
        for flight in &mut self.flights {
            if let Progress::Waiting(future) = &mut flight.progress
                && let Poll::Ready(finished) = futures_util::poll!(future)
            {
                flight.progress = Progress::Answered(answered(finished)?);
            }
        }
        Ok(())
    }

    /// Requests whose answer could be delivered now, by their places.
    fn deliverable(&self) -> Vec<usize> {
        let mut seen = std::collections::BTreeSet::new();
        let mut ready = Vec::new();
        for (place, flight) in self.flights.iter().enumerate() {
            let is_first = seen.insert(flight.line);
            if is_first && matches!(flight.progress, Progress::Answered(_)) {
                ready.push(place);
            }
        }
        ready
    }

    /// Delivers the answer that `choose` picks of so many; its label, when there was one.
    pub fn deliver(
        &mut self,
        shadow: &mut Shadow,
        choose: impl FnOnce(usize) -> usize,
    ) -> Result<Option<String>, String> {
        let ready = self.deliverable();
        let Some(place) = ready.get(choose(ready.len())) else {
            return Ok(None);
        };
        let flight = self.flights.remove(*place);
        let Progress::Answered(answer) = flight.progress else {
            return Ok(None);
        };
        (flight.settle)(shadow, answer).map_err(|error| format!("{}: {error}", flight.label))?;
        Ok(Some(flight.label))
    }

    /// Breaks a connection: what was on its way on it is never answered, and the broker drops what it still waits for.
    pub fn break_line(&mut self, shadow: &mut Shadow, line: usize) -> Result<(), String> {
        self.connections.remove(&line);
        let (broken, kept) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| flight.line == line);
        self.flights = kept;
        let broken: Vec<Flight> = broken;
        for flight in broken {
            drop(flight.progress);
            (flight.settle)(shadow, None).map_err(|error| format!("{}: {error}", flight.label))?;
        }
        Ok(())
    }

    /// Lines with a connection.
    pub fn lines(&self) -> Vec<usize> {
        self.connections.keys().copied().collect()
    }

    /// Breaks every connection.
    pub fn break_all(&mut self, shadow: &mut Shadow) -> Result<(), String> {
        for line in self.lines() {
            self.break_line(shadow, line)?;
        }
        Ok(())
    }
}

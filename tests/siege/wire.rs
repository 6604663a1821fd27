//! The attacker's side of the wire: connections from an address of its own, which is not the honest client's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use kafka_protocol::protocol::Request;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Another of loopback's addresses.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The attacker is patient with writes that the broker does not take, and no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection of the attacker.
pub fn attacker(address: SocketAddr) -> Result<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddr::from((ATTACKER, 0)))?;
    connect(&fd, &address)?;
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a request; whether the broker took it.
pub fn send<R: Request>(stream: &mut TcpStream, version: i16, request: &R) -> Result<()> {
    let frame = harness::encode(1, version, request)?;
    Ok(stream.write_all(&frame)?)
}

/// Reads one answer and lets it go; its length.
pub fn skip_answer(stream: &mut TcpStream) -> Result<u64> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let length = u64::from(u32::from_be_bytes(prefix));
    std::io::copy(&mut stream.take(length), &mut std::io::sink())?;
    Ok(length)
}

/// Sends a request and lets its answer go; the answer's length.
pub fn ask<R: Request>(stream: &mut TcpStream, version: i16, request: &R) -> Result<u64> {
    send(stream, version, request)?;
    skip_answer(stream)
}

//! A connection's bytes, over TCP or TLS.

use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What is read from a file at once to be encrypted, and what is encrypted before it is sent.
const PIECE: usize = 256 << 10;

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Encrypted>),
}

pub struct Encrypted {
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// A part of a file on its way to be encrypted.
    piece: Vec<u8>,
}

impl Stream {
    /// With `tls`, the handshake happens with the first read.
    pub fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        stream.set_nodelay(true)?;
        let Some(config) = tls else {
            return Ok(Self::Plain(stream));
        };
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(PIECE));
        Ok(Self::Tls(Box::new(Encrypted {
            stream: StreamOwned::new(connection, stream),
            piece: Vec::new(),
        })))
    }

    pub fn local_address(&self) -> Result<SocketAddr> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.stream.sock,
        };
        Ok(stream.local_addr()?)
    }

    /// Waits for bytes; none at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.stream.read(buffer),
        };
        Ok(ended(read)?)
    }

    /// Bytes that have arrived already; `None` while there are none.
    pub fn read_arrived(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        let read = match self {
            Self::Plain(stream) => Arrived(stream).read(buffer),
            Self::Tls(tls) => tls.read_arrived(buffer),
        };
        match ended(read) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes everything; with `more` to come at once, the kernel may hold it back to fill a packet.
    pub fn write(&mut self, mut bytes: &[u8], more: bool) -> Result<()> {
        match self {
            Self::Plain(stream) if more => {
                while !bytes.is_empty() {
                    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                    let sent = rustix::net::send(&*stream, bytes, flags)?;
                    bytes = &bytes[sent..];
                }
            }
            Self::Plain(stream) => stream.write_all(bytes)?,
            Self::Tls(tls) => tls.stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// Writes a part of a file. Over TCP it never comes to user space.
    pub fn write_file(&mut self, file: &File, position: u64, length: usize) -> Result<()> {
        match self {
            Self::Plain(stream) => send_file(stream, file, position, length),
            Self::Tls(tls) => tls.write_file(file, position, length),
        }
    }
}

/// The end of a connection of whom TLS was not told is an end as well: clients close so.
fn ended(read: std::io::Result<usize>) -> std::io::Result<usize> {
    match read {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
        other => other,
    }
}

fn send_file(stream: &TcpStream, file: &File, position: u64, length: usize) -> Result<()> {
    let (mut at, end) = (position, position + length as u64);
    while at < end {
        let rest = (end - at) as usize;
        match rustix::fs::sendfile(stream, file, Some(&mut at), rest) {
            Ok(0) => bail!("a log file is shorter than its log"),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("sendfile"),
        }
    }
    Ok(())
}

impl Encrypted {
    fn read_arrived(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let StreamOwned { conn, sock } = &mut self.stream;
        loop {
            match conn.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            conn.read_tls(&mut Arrived(sock))?;
            conn.process_new_packets()
                .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    fn write_file(&mut self, file: &File, position: u64, length: usize) -> Result<()> {
        self.piece.resize(PIECE, 0);
        let (mut at, end) = (position, position + length as u64);
        while at < end {
            let rest = ((end - at) as usize).min(PIECE);
            file.read_exact_at(&mut self.piece[..rest], at)?;
            self.stream.write_all(&self.piece[..rest])?;
            at += rest as u64;
        }
        Ok(())
    }
}

/// Reads what the socket holds, without waiting.
struct Arrived<'s>(&'s TcpStream);

impl Read for Arrived<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match rustix::net::recv(self.0, buffer, RecvFlags::DONTWAIT) {
            Ok((bytes, _)) => Ok(bytes),
            Err(Errno::INTR) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

//! A connection's bytes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

pub enum Stream {
    Plain(TcpStream),
}

impl Stream {
    pub fn plain(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Plain(stream))
    }

    pub fn local_address(&self) -> Result<SocketAddr> {
        match self {
            Self::Plain(stream) => Ok(stream.local_addr()?),
        }
    }

    /// Waits for bytes; none at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => Ok(stream.read(buffer)?),
        }
    }

    /// Bytes that have arrived already; `None` while there are none.
    pub fn read_arrived(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        let Self::Plain(stream) = self;
        match rustix::net::recv(&*stream, buffer, RecvFlags::DONTWAIT) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes everything; with `more` to come at once, the kernel may hold it back to fill a packet.
    pub fn write(&mut self, mut bytes: &[u8], more: bool) -> Result<()> {
        match self {
            Self::Plain(stream) if more => {
                while !bytes.is_empty() {
                    let sent =
                        rustix::net::send(&*stream, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?;
                    bytes = &bytes[sent..];
                }
            }
            Self::Plain(stream) => stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// Writes a part of a file, which never comes to user space.
    pub fn write_file(&mut self, file: &File, position: u64, length: usize) -> Result<()> {
        let Self::Plain(stream) = self;
        let (mut at, end) = (position, position + length as u64);
        while at < end {
            let rest = (end - at) as usize;
            match rustix::fs::sendfile(&*stream, file, Some(&mut at), rest) {
                Ok(0) => bail!("a log file is shorter than its log"),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("sendfile"),
            }
        }
        Ok(())
    }
}

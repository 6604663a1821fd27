//! QUIC with nothing above it: bytes come in and are counted, or go out, over one stream. What Kafka over QUIC can reach is
//! measured against this, with the same library and its defaults on both ends.
//!
//! A stream begins with a direction and a number of bytes (`u64`). Of bytes that come in, the answer is how many there were.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, RecvStream, SendStream, ServerConfig};

/// What both ends name as their protocol.
const ALPN: &[u8] = b"bare";
/// Bytes that go out at once.
const PIECE: usize = 256 << 10;

/// Listens on threads of its own; the address.
pub fn start(address: SocketAddr, mut tls: rustls::ServerConfig) -> Result<SocketAddr> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls)?;
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let endpoint = Endpoint::server(config, address);
            let endpoint = endpoint.with_context(|| format!("--quic {address}"));
            let opened = endpoint.and_then(|open| Ok((open.local_addr()?, open)));
            match opened {
                Ok((address, endpoint)) => {
                    tell.send(Ok(address))?;
                    accept(endpoint).await;
                }
                Err(error) => tell.send(Err(error))?,
            }
            anyhow::Ok(())
        })
    });
    told.recv().context("the QUIC thread ended")?
}

async fn accept(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            if let Err(error) = connection(incoming).await {
                eprintln!("a QUIC connection ended: {error:#}");
            }
        });
    }
}

async fn connection(incoming: quinn::Incoming) -> Result<()> {
    let connection = incoming.await?;
    loop {
        match connection.accept_bi().await {
            Ok((send, receive)) => serve(send, receive).await?,
            Err(quinn::ConnectionError::ApplicationClosed(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn serve(mut send: SendStream, mut receive: RecvStream) -> Result<()> {
    let mut head = [0; 9];
    receive.read_exact(&mut head).await?;
    let bytes = u64::from_be_bytes(head[1..].try_into()?);
    match head[0] {
        b'i' => {
            let mut counted: u64 = 0;
            while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
                counted += chunk.bytes.len() as u64;
            }
            send.write_all(&counted.to_be_bytes()).await?;
        }
        b'o' => {
            let piece = vec![b'x'; PIECE];
            let mut left = bytes;
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                send.write_all(&piece[..now]).await?;
                left -= now as u64;
            }
        }
        other => bail!("direction {other} is neither i nor o"),
    }
    send.finish()?;
    // The last bytes must be taken before the connection may be forgotten.
    send.stopped().await?;
    Ok(())
}

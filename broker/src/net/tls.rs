//! TLS above an accepted TCP connection: handshake within its deadline, the peer's certificate, then the frames.

use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Service;
use super::certificate::Certificates;
use super::connection::{self, Carrier};
use super::listener::Listener;
use super::read_ahead::ReadAhead;
use super::tcp::Peer;

pub(super) async fn serve<S: Service>(
    listener: &Listener<S>,
    stream: TcpStream,
    peer: Peer,
    certificates: &std::sync::Arc<Certificates<rustls::ServerConfig>>,
    authenticate_by: Instant,
) {
    let Peer {
        address: peer,
        seat,
    } = peer;
    let local = stream.local_addr().ok().map(|local| local.ip());
    let acceptor = TlsAcceptor::from(certificates.current().await);
    let stream = match timeout_at(authenticate_by, acceptor.accept(ReadAhead::new(stream))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(fault)) => {
            let message = format_args!("TLS handshake failed: {fault}{}", hint(&fault));
            listener.refuse(peer, "handshake-failed", &message);
            return;
        }
        Err(_) => {
            let message = "TLS handshake not finished within net.handshake_timeout";
            listener.refuse(peer, "handshake-timeout", &message);
            return;
        }
    };
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let Ok(principal) = listener.principal(peer, leaf.map(AsRef::as_ref)) else {
        return;
    };
    let info = listener.info(peer, local, principal);
    let (reader, writer) = tokio::io::split(stream);
    let carrier = Carrier {
        reader,
        writer,
        info,
        authenticate_by,
        on_authenticated: None,
        seat,
    };
    connection::serve(listener, carrier).await;
}

/// What is most often behind a handshake that failed so.
fn hint(fault: &io::Error) -> &'static str {
    let inner = fault.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => {
            " (the peer does not speak TLS: is its security.protocol that of a plain listener?)"
        }
        Some(rustls::Error::AlertReceived(_)) => {
            " (the peer refuses this certificate: does it trust the CA, and is the name it called in the certificate?)"
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            " (this listener requires a client certificate)"
        }
        _ => "",
    }
}

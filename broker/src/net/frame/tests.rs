use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;

use tokio::io::ReadBuf;

use super::*;
use crate::net::testing::frame;

/// Gives its pieces one read at a time, then the end.
struct Pieces(VecDeque<Vec<u8>>);

impl Pieces {
    fn cut(bytes: &[u8], size: usize) -> Self {
        Self(bytes.chunks(size).map(<[u8]>::to_vec).collect())
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

async fn next(reader: &mut FrameReader<Pieces>) -> io::Result<Option<Bytes>> {
    let Some(length) = poll_fn(|cx| reader.poll_length(cx)).await? else {
        return Ok(None);
    };
    reader.begin(usize::try_from(length).unwrap());
    loop {
        match poll_fn(|cx| reader.poll_body(cx)).await? {
            Arrival::Whole(frame) => return Ok(Some(frame)),
            Arrival::Needs(total) => reader.paid(total),
        }
    }
}

#[tokio::test]
async fn frames_come_out_whole_however_the_bytes_arrive() {
    let payloads: Vec<Vec<u8>> = [8, 9, 100, 5000, 40_000, 8, 3 << 20, 12, 70_000]
        .iter()
        .enumerate()
        .map(|(at, &length)| vec![at as u8 + 1; length])
        .collect();
    let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
    for size in [37, 4095, 4096, 65_536, bytes.len()] {
        let mut reader = FrameReader::new(Pieces::cut(&bytes, size));
        for payload in &payloads {
            let got = next(&mut reader).await.unwrap().unwrap();
            assert!(
                got == payload,
                "pieces of {size}: frame of {}",
                payload.len()
            );
        }
        assert!(next(&mut reader).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn small_frames_survive_every_cut() {
    let bytes = [frame(b"first---"), frame(b"second---"), frame(b"third---")].concat();
    for size in 1..bytes.len() {
        let mut reader = FrameReader::new(Pieces::cut(&bytes, size));
        for expected in [&b"first---"[..], b"second---", b"third---"] {
            assert_eq!(next(&mut reader).await.unwrap().unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn an_end_inside_a_frame_is_an_error() {
    let whole = frame(&[7; 100]);
    for kept in 1..whole.len() {
        let mut reader = FrameReader::new(Pieces::cut(&whole[..kept], 10));
        let fault = next(&mut reader).await.unwrap_err();
        assert_eq!(fault.kind(), io::ErrorKind::UnexpectedEof, "{kept} bytes");
    }
}

#[tokio::test]
async fn a_large_frame_pays_for_what_has_arrived_and_not_for_what_was_announced() {
    let payload = vec![7; 5 << 20];
    let bytes = frame(&payload);
    for (arrived, paid) in [
        (4, 0),
        (FRONT_BYTES - 1, 0),
        (FRONT_BYTES + 4, FIRST_PAYMENT_BYTES),
        (FIRST_PAYMENT_BYTES + 3, FIRST_PAYMENT_BYTES),
        (FIRST_PAYMENT_BYTES + 4, 2 * FIRST_PAYMENT_BYTES),
        (3 << 20, 4 << 20),
        (bytes.len(), 5 << 20),
    ] {
        let mut reader = FrameReader::new(Pieces::cut(&bytes[..arrived], 4096));
        let length = poll_fn(|cx| reader.poll_length(cx)).await.unwrap().unwrap();
        reader.begin(usize::try_from(length).unwrap());
        let mut total = 0;
        loop {
            match poll_fn(|cx| reader.poll_body(cx)).await {
                Ok(Arrival::Needs(more)) => {
                    assert!(more > total, "{arrived}: {more} after {total}");
                    total = more;
                    reader.paid(total);
                }
                Ok(Arrival::Whole(frame)) => {
                    assert!(frame == payload);
                    break;
                }
                Err(fault) => {
                    assert_eq!(fault.kind(), io::ErrorKind::UnexpectedEof);
                    break;
                }
            }
        }
        assert_eq!(total, paid, "{arrived} bytes arrived");
    }
}

#[tokio::test]
async fn frames_that_arrived_together_are_seen_without_a_read() {
    let bytes = [frame(b"12345678"), frame(b"abcdefgh"), vec![0, 0]].concat();
    let mut reader = FrameReader::new(Pieces::cut(&bytes, bytes.len()));
    assert!(!reader.has_frame());
    next(&mut reader).await.unwrap();
    assert!(reader.has_frame());
    next(&mut reader).await.unwrap();
    assert!(!reader.has_frame());
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    for (bytes, expected) in [
        (*b"GET ", Some("HTTP")),
        (*b"POST", Some("HTTP")),
        (*b"PRI ", Some("HTTP")),
        ([0x16, 0x03, 0x01, 0x02], Some("TLS")),
        (*b"SSH-", Some("SSH")),
        ([0x00, 0x00, 0x00, 0x20], None),
        ([0xff, 0xff, 0xff, 0xff], None),
    ] {
        assert_eq!(greeting(i32::from_be_bytes(bytes)), expected, "{bytes:?}");
    }
}

//! The PROXY header of a connection, taken from its socket byte for byte before TLS or HTTP see any.
use super::waiting::Waiting;
use decide::proxy_protocol::{Header, MAX_V2, Source, read};
use decide::refusal::{Code, Refusal};
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Bytes looked at together: more than the longest header that is not full of extensions.
const PIECE: usize = 512;

/// Why a connection was not introduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unproxied {
    /// It ended, or said nothing until the deadline: nothing to record.
    Silent,
    /// Its place was needed for newer connections.
    Displaced,
    /// This is wrong with it.
    Refused(Refusal),
}

/// Reads the header, no byte more, until `deadline` and for as long as there is room to wait.
pub(crate) async fn introduced(tcp: &mut TcpStream, waiting: &Waiting, deadline: Instant) -> Result<Source, Unproxied> {
    let mut taken = Vec::new();
    let outcome = tokio::select! {
        biased;
        outcome = timeout_at(deadline, take(tcp, &mut taken)) => outcome,
        () = waiting.displaced() => return Err(Unproxied::Displaced),
    };
    match outcome {
        Ok(Ok(Ok(source))) => Ok(source),
        Ok(Ok(Err(refusal))) => Err(Unproxied::Refused(refusal)),
        // The balancer has gone away, or never spoke; many probe a port in this way.
        Ok(Err(_)) => Err(Unproxied::Silent),
        Err(_) if taken.is_empty() => Err(Unproxied::Silent),
        Err(_) => {
            let refusal = Refusal::new(Code::RequestTimeout, "the PROXY header was not complete in time");
            Err(Unproxied::Refused(refusal))
        }
    }
}

/// Looks at what has come, and takes only what belongs to the header: while it is incomplete, that is all of it.
async fn take(tcp: &mut TcpStream, taken: &mut Vec<u8>) -> io::Result<Result<Source, Refusal>> {
    let mut piece = [0; PIECE];
    loop {
        let seen = tcp.peek(&mut piece).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = taken.len();
        taken.extend_from_slice(piece.get(..seen).unwrap_or_default());
        let (length, source) = match read(taken) {
            Ok(Some(Header { source, length })) => (length, Some(source)),
            Ok(None) => (taken.len(), None),
            Err(defect) => return Ok(Err(Refusal::new(Code::RequestMalformed, defect.cause()))),
        };
        // What a complete header is followed by stays in the socket.
        taken.truncate(length.min(MAX_V2));
        if let Some(own) = taken.get_mut(before..) {
            tcp.read_exact(own).await?;
        }
        if let Some(source) = source {
            return Ok(Ok(source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::waiting::WaitingRoom;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 10.0.0.1 12345 443\r\n";

    async fn pair() -> (TcpStream, TcpStream) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, socket.accept().await.unwrap().0)
    }

    fn binary(extensions: usize) -> Vec<u8> {
        let length = u16::try_from(12 + extensions).unwrap().to_be_bytes();
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        header.extend(length);
        header.extend([198, 51, 100, 7, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);
        if let Some(value) = extensions.checked_sub(3) {
            header.push(4);
            header.extend(u16::try_from(value).unwrap().to_be_bytes());
            header.extend(vec![0; value]);
        }
        header
    }

    async fn introduce(tcp: &mut TcpStream, patience: Duration) -> Result<Source, Unproxied> {
        let waiting = Arc::new(WaitingRoom::default()).enter(1, 1);
        introduced(tcp, &waiting, Instant::now() + patience).await
    }

    /// Header and what follows, in one segment and in two of every size: what follows is all there, and only that.
    #[tokio::test]
    async fn exactly_the_header_is_taken() {
        for header in [LINE.to_vec(), binary(0), binary(1000), binary(4084)] {
            let all = [header.as_slice(), b"\x16\x03\x01 what follows"].concat();
            let cuts: Vec<usize> =
                if header.len() < 100 { (1..=all.len()).collect() } else { vec![1, 16, 511, 512, 513, all.len()] };
            for cut in cuts {
                let (mut client, mut server) = pair().await;
                client.write_all(&all[..cut]).await.unwrap();
                let reading = tokio::spawn(async move {
                    let source = introduce(&mut server, Duration::from_secs(20)).await;
                    (source, server)
                });
                tokio::task::yield_now().await;
                client.write_all(&all[cut..]).await.unwrap();
                let (source, mut server) = reading.await.unwrap();
                assert!(
                    matches!(source, Ok(Source::Client { client, .. }) if client.to_string() == "198.51.100.7:12345")
                );
                drop(client);
                let mut rest = String::new();
                server.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "\x16\x03\x01 what follows", "cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn silence_is_not_recorded_and_half_a_header_is() {
        let (_client, mut server) = pair().await;
        assert_eq!(introduce(&mut server, Duration::ZERO).await, Err(Unproxied::Silent));
        let (client, mut server) = pair().await;
        drop(client);
        assert_eq!(introduce(&mut server, Duration::from_secs(20)).await, Err(Unproxied::Silent));
        let (mut client, mut server) = pair().await;
        client.write_all(&LINE[..10]).await.unwrap();
        let late = introduce(&mut server, Duration::from_millis(100)).await;
        assert!(matches!(late, Err(Unproxied::Refused(refusal)) if refusal.code == Code::RequestTimeout));
        let (mut client, mut server) = pair().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let bare = introduce(&mut server, Duration::from_secs(20)).await;
        assert!(matches!(bare, Err(Unproxied::Refused(refusal)) if refusal.code == Code::RequestMalformed));
    }

    #[tokio::test]
    async fn whoever_is_displaced_waits_no_longer() {
        let (_client, mut server) = pair().await;
        let room = Arc::new(WaitingRoom::default());
        let longest = room.enter(0, 1);
        let _others: Vec<Waiting> = (1..65).map(|id| room.enter(id, 1)).collect();
        let outcome = introduced(&mut server, &longest, Instant::now() + Duration::from_secs(600)).await;
        assert_eq!(outcome, Err(Unproxied::Displaced));
    }
}

//! Requests whose body is held back.
use super::gateway::Gateway;
use super::scripted::read_until;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A request whose head has been read and whose body is missing.
pub struct Withheld {
    stream: TlsStream<TcpStream>,
    body: String,
}

impl Gateway {
    /// Sends the head of a POST to `acme.localhost` with this form, and returns when it has been read. `lines` are those that
    /// it has besides, each with its end.
    pub async fn withhold(&self, path: &str, lines: &str, body: &str) -> Withheld {
        let mut stream = self.tls("acme.localhost", &[b"http/1.1"]).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n{lines}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").await.contains(" 100 "), "the body is asked for");
        Withheld { stream, body: body.to_owned() }
    }
}

impl Withheld {
    /// Sends the body, and returns the answer up to the end of its first object.
    pub async fn answer(mut self) -> String {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        read_until(&mut self.stream, "}").await
    }

    /// Sends the body, and returns the code of the refusal.
    pub async fn refused(self) -> String {
        let answer = self.answer().await;
        let code = answer.split_once("\"code\":\"").unwrap_or_else(|| panic!("{answer}")).1;
        code.split('"').next().unwrap().to_owned()
    }
}

//! An application that answers as it is told: what a hostile one would send, and, to everybody else, their own token.
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What has to become of a hostile answer, for a client of HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The client gets a refusal, and nothing of it.
    Refused,
    /// It is well-formed after all: this is its body.
    Passed(String),
    /// Its head went out; then it is cut off, so that it does not look whole.
    Cut,
    /// Whatever is safe.
    Safe,
}

/// A hostile answer.
#[derive(Clone, Debug)]
pub struct Hostile {
    pub class: &'static str,
    pub name: String,
    pub method: &'static str,
    pub bytes: Vec<u8>,
    /// Whether the application closes behind it; otherwise it waits for the next request.
    pub closes: bool,
    pub wants: Wanted,
}

pub struct Application {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Application {
    /// Answers `/t/NNNN` with the case of this number.
    pub async fn start(cases: Vec<Hostile>) -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cases = Arc::new(cases);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(converse(stream, cases.clone()));
            }
        });
        Application { address, task }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, cases: Arc<Vec<Hostile>>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend(&piece[..count]),
            }
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        // Bodies are not read: whatever they hold is the next request, as it is for careless applications.
        bytes.drain(..end + 4);
        let target = head.split(' ').nth(1).unwrap_or_default();
        let case = target.strip_prefix("/t/").and_then(|rest| rest.get(..4)?.parse::<usize>().ok());
        let (answer, closes) = match case {
            Some(number) => (cases[number].bytes.clone(), cases[number].closes),
            None => (own(&head).into_bytes(), false),
        };
        if stream.write_all(&answer).await.is_err() || closes {
            return;
        }
    }
}

/// The answer that is the asker's: tenant and token, as the request says them.
fn own(head: &str) -> String {
    let value = |name: &str| {
        let line = head.split("\r\n").find(|line| line.split(':').next().unwrap().eq_ignore_ascii_case(name));
        line.and_then(|line| line.split_once(": ")).map_or("none", |(_, value)| value).to_owned()
    };
    let body = format!("{} {}", value("x-tenant-id"), value("x-token"));
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Seen: yes\r\n\r\n{body}", body.len())
}

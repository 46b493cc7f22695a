//! Hostile answers over HTTP/2: frames put between an application and the gateway, and clients of others beside them.
use super::stage::{Doors, answers, bundle};
use crate::harness::Gateway;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals that nobody is to remember (RFC 7541, 6.2.2), so that both sides' tables stay as they are.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(text.len() as u8);
            bytes.extend(text.bytes());
        }
    }
    bytes
}

fn head(stream: u32, fields: &[(&str, &str)], more: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | more, stream, &block(fields))
}

const OK: (&str, &str) = (":status", "200");
const PLANTED: (&str, &str) = ("x-planted", "yes");

/// Makes the frames for the stream of a request.
type Make = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

fn cases() -> Vec<(String, Make)> {
    let mut all: Vec<(String, Make)> = Vec::new();
    let mut fields = |name: &str, list: &'static [(&'static str, &'static str)]| {
        all.push((name.to_owned(), Box::new(move |stream| head(stream, list, END_STREAM))));
    };
    fields("CR and LF in a value", &[OK, ("x", "a\r\nx-planted: yes")]);
    fields("LF in a value", &[OK, ("x", "a\nx-planted: yes")]);
    fields("CR in a value", &[OK, ("x", "a\rb")]);
    fields("NUL in a value", &[OK, ("x", "a\0b")]);
    fields("CR and LF in a name", &[OK, ("x\r\nx-planted", "yes")]);
    fields("a capital in a name", &[OK, ("X-Planted", "yes")]);
    fields("a space in a name", &[OK, ("x planted", "yes")]);
    fields("a colon in a name", &[OK, ("x:y", "z")]);
    fields("an empty name", &[OK, ("", "y")]);
    fields("Connection", &[OK, ("connection", "close")]);
    fields("Connection that names a field", &[OK, ("connection", "strict-transport-security")]);
    fields("Keep-Alive", &[OK, ("keep-alive", "1")]);
    fields("Transfer-Encoding", &[OK, ("transfer-encoding", "chunked")]);
    fields("Upgrade", &[OK, ("upgrade", "h2c")]);
    fields("no status", &[("x", "y")]);
    fields("two statuses", &[OK, (":status", "201")]);
    fields("a status behind a field", &[("x", "y"), OK]);
    fields("a status of two digits", &[(":status", "20")]);
    fields("a status of four digits", &[(":status", "2000")]);
    fields("a status with a letter", &[(":status", "2x0")]);
    fields("status 099", &[(":status", "099")]);
    fields("status 999", &[(":status", "999")]);
    fields("status 101", &[(":status", "101"), ("upgrade", "websocket")]);
    fields("an interim answer that ends the stream", &[(":status", "103")]);
    fields("a pseudo-field of requests", &[OK, (":path", "/")]);
    fields("a pseudo-field of nobody", &[OK, (":planted", "yes")]);
    fields("two lengths", &[OK, ("content-length", "0"), ("content-length", "5")]);
    fields("a list of lengths", &[OK, ("content-length", "0, 0")]);
    fields("a length with a sign", &[OK, ("content-length", "+0")]);
    fields("a length that overflows", &[OK, ("content-length", "18446744073709551616")]);
    fields("a length without a body", &[OK, ("content-length", "5")]);
    let mut add = |name: &str, make: Make| all.push((name.to_owned(), make));
    let with_length = |length: &'static str, body: &'static [u8]| -> Make {
        Box::new(move |stream| {
            [head(stream, &[OK, ("content-length", length)], 0), frame(DATA, END_STREAM, stream, body)].concat()
        })
    };
    add("less than the length", with_length("5", b"abc"));
    add("more than the length", with_length("3", b"abcde"));
    add("data before a head", Box::new(|stream| frame(DATA, END_STREAM, stream, b"planted")));
    add("a stream that nobody opened", Box::new(|stream| head(stream + 2000, &[OK, PLANTED], END_STREAM)));
    add("a stream of the server", Box::new(|_| head(2, &[OK, PLANTED], END_STREAM)));
    add("stream zero", Box::new(|_| head(0, &[OK, PLANTED], END_STREAM)));
    add(
        "a promise",
        Box::new(|stream| {
            let promised = [
                2u32.to_be_bytes().to_vec(),
                block(&[(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]),
            ];
            frame(5, END_HEADERS, stream, &promised.concat())
        }),
    );
    add(
        "two final answers",
        Box::new(|stream| {
            [head(stream, &[OK], 0), head(stream, &[OK, PLANTED], 0), frame(DATA, END_STREAM, stream, b"planted")]
                .concat()
        }),
    );
    add(
        "an answer behind the end",
        Box::new(|stream| [head(stream, &[OK], END_STREAM), head(stream, &[OK, PLANTED], END_STREAM)].concat()),
    );
    add(
        "data behind the end",
        Box::new(|stream| [head(stream, &[OK], END_STREAM), frame(DATA, END_STREAM, stream, b"planted")].concat()),
    );
    add(
        "a pseudo-field in the trailers",
        Box::new(|stream| {
            [head(stream, &[OK], 0), frame(DATA, 0, stream, b"abc"), head(stream, &[OK, PLANTED], END_STREAM)].concat()
        }),
    );
    add(
        "trailers that name",
        Box::new(|stream| {
            let trailers = [("set-cookie", "planted=1"), ("content-length", "9")];
            [head(stream, &[OK], 0), frame(DATA, 0, stream, b"abc"), head(stream, &trailers, END_STREAM)].concat()
        }),
    );
    add("hints without end", Box::new(|stream| head(stream, &[(":status", "103"), ("link", "</a>")], 0).repeat(2000)));
    add("100 without end", Box::new(|stream| head(stream, &[(":status", "100")], 0).repeat(2000)));
    add(
        "a continuation of nothing",
        Box::new(|stream| frame(CONTINUATION, END_HEADERS, stream, &block(&[OK, PLANTED]))),
    );
    add(
        "continuations without end",
        Box::new(|stream| {
            let field = block(&[("x", &"y".repeat(120))]).repeat(100);
            [frame(HEADERS, 0, stream, &block(&[OK])), frame(CONTINUATION, 0, stream, &field).repeat(100)].concat()
        }),
    );
    add(
        "a frame between head and continuation",
        Box::new(|stream| {
            [frame(HEADERS, 0, stream, &block(&[OK])), frame(DATA, END_STREAM, stream, b"planted")].concat()
        }),
    );
    add(
        "fields that no table holds",
        Box::new(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0xff, 0xff, 0xff, 0x7f])),
    );
    add("a frame that is too large", Box::new(|stream| frame(DATA, END_STREAM, stream, &[b'p'; 20_000])));
    add("more padding than frame", Box::new(|stream| frame(DATA, END_STREAM | 8, stream, b"\xffplanted")));
    add("a reset", Box::new(|stream| frame(3, 0, stream, &[0, 0, 0, 2])));
    add(
        "a reset behind half an answer",
        Box::new(|stream| {
            [
                head(stream, &[OK, ("content-length", "9")], 0),
                frame(DATA, 0, stream, b"abc"),
                frame(3, 0, stream, &[0, 0, 0, 2]),
            ]
            .concat()
        }),
    );
    add("goodbye", Box::new(|_| frame(7, 0, 0, &[0; 8])));
    add("a window that overflows", Box::new(|stream| frame(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff]).repeat(3)));
    add("settings that cannot be", Box::new(|_| frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])));
    add("a length of zero that has a body", with_length("0", b"abc"));
    add(
        "204 with a body",
        Box::new(|stream| [head(stream, &[(":status", "204")], 0), frame(DATA, END_STREAM, stream, b"abc")].concat()),
    );
    all
}

/// Passes frames on; where a request's body is `attack-NN`, the frames of that case go out in place of the answer.
struct Between {
    address: SocketAddr,
}

impl Between {
    async fn start(application: SocketAddr, cases: Vec<(String, Make)>) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cases = Arc::new(cases);
        tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                let (from_gateway, to_gateway) = gateway.into_split();
                let (from_app, to_app) = TcpStream::connect(application).await.unwrap().into_split();
                let attacked = Arc::new(Mutex::new((to_gateway, Vec::new())));
                tokio::spawn(upwards(from_gateway, to_app, attacked.clone(), cases.clone()));
                tokio::spawn(downwards(from_app, attacked));
            }
        });
        Between { address }
    }
}

/// The way to the gateway, and the streams that have their answer.
type Down = Arc<Mutex<(OwnedWriteHalf, Vec<u32>)>>;

async fn next(from: &mut OwnedReadHalf) -> Option<(Vec<u8>, u32)> {
    let mut bytes = vec![0; 9];
    from.read_exact(&mut bytes).await.ok()?;
    let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
    let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
    bytes.resize(9 + length, 0);
    from.read_exact(&mut bytes[9..]).await.ok()?;
    Some((bytes, stream))
}

async fn upwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, down: Down, cases: Arc<Vec<(String, Make)>>) {
    let mut preface = [0; 24];
    if from.read_exact(&mut preface).await.is_err() || to.write_all(&preface).await.is_err() {
        return;
    }
    while let Some((bytes, stream)) = next(&mut from).await {
        let word = bytes.get(9..).and_then(|data| data.strip_prefix(b"attack-"));
        let case = word.filter(|_| bytes[3] == DATA).and_then(|word| str::from_utf8(word).ok()?.parse::<usize>().ok());
        if let Some((_, make)) = case.and_then(|number| cases.get(number)) {
            let mut down = down.lock().await;
            down.1.push(stream);
            let _ = down.0.write_all(&make(stream)).await;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn downwards(mut from: OwnedReadHalf, down: Down) {
    while let Some((bytes, stream)) = next(&mut from).await {
        let mut down = down.lock().await;
        let answered = matches!(bytes[3], DATA | HEADERS) && down.1.contains(&stream);
        if !answered && down.0.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Answers with tenant and token of the asker, once it has the whole body.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = hyper::service::service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let value = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
        let own = format!("{} {}", value("x-tenant-id"), value("x-token"));
        let _ = body.collect().await;
        Ok::<_, Infallible>(Response::builder().header("x-seen", "yes").body(Full::<Bytes>::from(own)).unwrap())
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// What is wrong with what one client got: its own answer, a refusal or nothing are right.
async fn victim(doors: &Doors, tenant: &str, number: usize, round: usize) -> Result<bool, String> {
    let token = format!("{tenant}-{number}-{round}");
    let request =
        format!("GET /u/v HTTP/1.1\r\nHost: {tenant}.localhost\r\nX-Token: {token}\r\nConnection: close\r\n\r\n");
    let came = doors.send(false, &[request.as_bytes()]).await.map_err(|_| "the connection stays open")?;
    // Cut off with its application's connection.
    let Ok(all) = answers(&came) else { return Ok(false) };
    match &all[..] {
        [] => Ok(false),
        [one] if one.status == 200 && one.body == format!("{tenant} {token}") => Ok(true),
        [one] if matches!(one.status, 502..=504) && one.code().is_some() => Ok(false),
        other => Err(format!("{tenant} got {other:?} instead of {token}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_frames_of_an_application_reach_their_asker_or_nobody() {
    let all = cases();
    let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    let between = Between::start(application().await, all).await;
    let bundle = bundle(between.address, between.address);
    bundle.replace(
        "idle_timeout: 1s, total_timeout: 20s, version: h2}",
        "idle_timeout: 1s, total_timeout: 3s, version: h2}",
    );
    let gateway = Gateway::start(bundle).await;
    let doors = Doors::of(&gateway);
    let (mut wrong, mut own, mut asked) = (Vec::new(), 0, 0);
    for (number, name) in names.iter().enumerate() {
        let body = format!("attack-{number}");
        let attack = format!(
            "POST /u/t HTTP/1.1\r\nHost: acme.localhost\r\nX-Token: attacker\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let segments = [attack.as_bytes()];
        let (came, first, second) = tokio::join!(
            doors.send(false, &segments),
            victim(&doors, "globex", number, 0),
            victim(&doors, "acme", number, 1)
        );
        let third = victim(&doors, "globex", number, 2).await;
        for got in [first, second, third] {
            asked += 1;
            match got {
                Ok(served) => own += usize::from(served),
                Err(why) => wrong.push(format!("{name}: {why}")),
            }
        }
        match came {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).to_lowercase();
                if text.contains("x-planted") || text.contains("planted=1") {
                    wrong.push(format!("{name}: the asker got {text}"));
                }
            }
            Err(_) => wrong.push(format!("{name}: the asker's connection stays open")),
        }
    }
    println!(
        "{} hostile answers over HTTP/2; {own} of {asked} others got their own answer, the rest a refusal",
        names.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(own * 2 > asked, "{own} of {asked}");
}

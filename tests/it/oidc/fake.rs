//! A provider that says whatever a test wants, and a client that is browser and provider in one: it reads the address that
//! the gateway sends a browser to, and comes back as it likes.
use crate::harness::secure::Authority;
use crate::harness::{Bundle, Gateway, Reply, Token, TokenKey, Upstream, now};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Whole answers of the token endpoint, from the form that came.
type Script = Box<dyn Fn(&HashMap<String, String>) -> Answer + Send>;

/// Head and form of a request.
type Asked = (String, HashMap<String, String>);

/// What the token endpoint does.
pub enum Answer {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends nothing for as long as the test lives.
    Stall,
}

/// An answer in JSON.
pub fn json_answer(status: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    Answer::Bytes(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

pub struct Provider {
    pub issuer: String,
    pub key: Arc<TokenKey>,
    pub authority: Authority,
    script: Arc<Mutex<Option<Script>>>,
    /// Heads and forms that reached the token endpoint.
    pub asked: Arc<Mutex<Vec<Asked>>>,
    /// Its keys.
    pub keys: Arc<Keys>,
    task: JoinHandle<()>,
}

/// The keys of a provider, as they can be had.
#[derive(Default)]
pub struct Keys {
    /// Whether they cannot.
    pub away: AtomicBool,
    /// How often somebody wanted them.
    pub wanted: AtomicUsize,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// One whose document says, or does not, that it names itself in its answers.
    pub async fn start(names_itself: bool) -> Provider {
        Provider::with(names_itself, Keys::default()).await
    }

    /// The same with keys that cannot be had.
    pub async fn without_keys() -> Provider {
        Provider::with(false, Keys { away: true.into(), ..Keys::default() }).await
    }

    async fn with(names_itself: bool, at_hand: Keys) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let authority = Authority::new();
        let acceptor = TlsAcceptor::from(Arc::new(authority.good("localhost").server(&["http/1.1"], None)));
        let key = Arc::new(TokenKey::new("op-1"));
        let document = json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/jwks"),
            "authorization_endpoint": format!("{issuer}/auth?audience=1"), "token_endpoint": format!("{issuer}/token"),
            "end_session_endpoint": format!("{issuer}/out"),
            "authorization_response_iss_parameter_supported": names_itself,
        });
        let keys = TokenKey::set(&[&key]);
        let (script, asked) = (Arc::new(Mutex::new(None::<Script>)), Arc::default());
        let at_hand = Arc::new(at_hand);
        let offered = at_hand.clone();
        let (scripted, seen): (_, Arc<Mutex<Vec<_>>>) = (script.clone(), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, document, keys) = (acceptor.clone(), document.clone(), keys.clone());
                let (script, seen, offered) = (scripted.clone(), seen.clone(), offered.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                    let Some((head, body)) = read_request(&mut stream).await else { return };
                    let keys = || serde_json::from_str(&keys).unwrap();
                    let answer = match head.split(' ').nth(1).unwrap() {
                        "/.well-known/openid-configuration" => json_answer("200 OK", &document),
                        "/jwks" => {
                            offered.wanted.fetch_add(1, Ordering::SeqCst);
                            let away = offered.away.load(Ordering::SeqCst);
                            json_answer(if away { "503 Service Unavailable" } else { "200 OK" }, &keys())
                        }
                        "/token" => {
                            let form = form(&body);
                            seen.lock().unwrap().push((head.clone(), form.clone()));
                            match &*script.lock().unwrap() {
                                Some(script) => script(&form),
                                None => json_answer("400 Bad Request", &json!({"error": "invalid_grant"})),
                            }
                        }
                        other => panic!("the gateway asked for {other}"),
                    };
                    match answer {
                        // The gateway may have enough before all of it is out.
                        Answer::Bytes(bytes) => drop((stream.write_all(&bytes).await, stream.shutdown().await)),
                        Answer::Stall => drop(stream.read(&mut [0]).await),
                    }
                });
            }
        });
        Provider { issuer, key, authority, script, asked, keys: at_hand, task }
    }

    /// What the token endpoint does from now on.
    pub fn answers(&self, script: impl Fn(&HashMap<String, String>) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Some(Box::new(script));
    }

    /// The token endpoint gives this ID token from now on.
    pub fn gives(&self, id_token: String) {
        self.answers(move |_| {
            json_answer(
                "200 OK",
                &json!({"token_type": "Bearer", "access_token": "access-1", "refresh_token": "refresh-1", "id_token": id_token}),
            )
        });
    }

    /// An ID token as it should be, for this flow.
    pub fn id_token(&self, begun: &Begun) -> Token {
        let now = now();
        let claims = json!({
            "iss": self.issuer, "aud": "moat", "sub": "ada", "nonce": begun.asked["nonce"], "iat": now, "exp": now + 300,
            "auth_time": now, "org_id": "acme", "roles": ["viewer"], "sid": "op-session-1",
        });
        Token { header: object(json!({"alg": "ES256", "typ": "JWT"})), claims: object(claims) }
    }

    /// A logout token as it should be.
    pub fn logout_token(&self) -> Token {
        let now = now();
        let claims = json!({
            "iss": self.issuer, "aud": "moat", "iat": now, "exp": now + 120, "jti": format!("logout-{:?}", std::time::Instant::now()),
            "sub": "ada", "sid": "op-session-1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        Token { header: object(json!({"alg": "ES256", "typ": "logout+jwt"})), claims: object(claims) }
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(String, String)> {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
        }
        let so_far = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}

/// Names and values of a form or query.
pub fn form(text: &str) -> HashMap<String, String> {
    decide::sign_in::pairs(text).unwrap().into_iter().collect()
}

/// A gateway whose browsers sign in with this provider, on `/board` of every tenant.
pub async fn gateway(provider: &Provider) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    configure(&bundle, provider);
    (Gateway::start(bundle).await, upstream)
}

/// The same, not started.
pub fn configure(bundle: &Bundle, provider: &Provider) {
    bundle.write("op-ca.crt", &provider.authority.pem());
    bundle.write("client-secret", "s3cret/+ with space\n");
    let issuer = format!(
        "issuers:\n  people:\n    issuer: {}\n    algorithms: [ES256]\n    claims: {{tenant: org_id}}\n    ca: op-ca.crt\n    \
         client: {{id: moat, secret: {{file: client-secret}}}}\n",
        provider.issuer
    );
    bundle.replace("issuers:\n", &issuer);
    bundle.replace("sessions:\n", "sessions:\n  browser: {}\n");
    crate::sessions::unhurried(bundle);
    for (name, paths, require) in [
        ("board", "[/board, \"/board/{id}\"]", "{session: any}"),
        ("fresh", "[/fresh]", "{session: any, step_up: recent-mfa}"),
    ] {
        bundle.route(&format!(
            "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: {paths}, methods: [GET, POST]}}\n    upstream: app\n    \
             auth: {{session: browser, on_missing: login}}\n    require: {require}\n    headers: api-json"
        ));
    }
}

/// A flow that a browser has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Name and value of its cookie.
    pub cookie: String,
    /// What the gateway asks the provider for.
    pub asked: HashMap<String, String>,
}

/// Begins a flow as a browser does that wants this page.
pub async fn begin(gateway: &Gateway, host: &str, login: &str) -> Begun {
    let reply = gateway.get(&format!("https://{host}{login}")).send().await;
    assert_eq!(reply.status, 303, "{reply:?}");
    let (_, query) =
        reply.header("location").unwrap().split_once('?').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let cookie = reply.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"), "{cookie}");
    Begun { cookie: cookie.split(';').next().unwrap().to_owned(), asked: form(&query) }
}

/// Comes back with this query.
pub async fn come_back(gateway: &Gateway, host: &str, cookie: &str, query: &str) -> Reply {
    gateway.get(&format!("https://{host}/.moat/callback?{query}")).header("cookie", cookie).send().await
}

/// The value of the session cookie that an answer sets.
pub fn session(reply: &Reply) -> Option<String> {
    let set = reply.header("set-cookie")?;
    let value = set.split('|').find_map(|line| line.strip_prefix("__Host-session="))?;
    Some(value.split(';').next()?.to_owned()).filter(|value| !value.is_empty())
}

/// Signs in as it should be, and returns the session's cookie.
pub async fn sign_in(gateway: &Gateway, provider: &Provider) -> String {
    let begun = begin(gateway, "acme.localhost", "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    let reply = come_back(gateway, "acme.localhost", &begun.cookie, &query).await;
    assert_eq!((reply.status, reply.header("location").as_deref()), (303, Some("/board")), "{reply:?}");
    format!("__Host-session={}", session(&reply).unwrap())
}

/// How the application is reached with this cookie.
pub async fn board(gateway: &Gateway, cookie: &str) -> String {
    gateway.get("https://acme.localhost/board").header("cookie", cookie).send().await.verdict()
}

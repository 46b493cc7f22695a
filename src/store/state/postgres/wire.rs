//! One connection to PostgreSQL: opened under a deadline, with TLS of our own, told what we rely on.
use super::{Cause, Options, Place, Silent, schema, silent};
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

/// `SSLRequest`: its length, and the number that no version has.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An open connection. Dropping it closes it.
pub(super) struct Wire {
    pub client: Client,
    /// Somebody got no answer on it.
    pub doubt: Notify,
    carrier: JoinHandle<()>,
    over: watch::Receiver<bool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl Wire {
    /// Connects, introduces itself, and makes sure that the server can be relied upon. `told` counts what `LISTEN` says.
    pub async fn open(options: &Options, told: &watch::Sender<u64>) -> Result<Wire, Silent> {
        let open = async {
            let config = config(options).await?;
            match &options.place {
                Place::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(|error| unreachable(&error))?;
                    Wire::start(&config, stream, told).await
                }
                Place::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await;
                    let mut stream = stream.map_err(|error| unreachable(&error))?;
                    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
                    let Some(tls) = &options.tls else { return Wire::start(&config, stream, told).await };
                    ask_for_tls(&mut stream).await?;
                    let name = ServerName::try_from(host.clone())
                        .map_err(|_| silent(Cause::Refused, format!("`{host}` is no name for a certificate")))?;
                    let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await;
                    Wire::start(&config, stream.map_err(|error| unreachable(&error))?, told).await
                }
            }
        };
        let late = || Err(silent(Cause::Timeout, "no connection in time"));
        let wire = timeout(options.connect_timeout, open).await.unwrap_or_else(|_| late())?;
        let late = || Err(silent(Cause::Timeout, "no answer in time"));
        timeout(options.connect_timeout, wire.introduce(options)).await.unwrap_or_else(|_| late())?;
        Ok(wire)
    }

    async fn start<S>(config: &Config, stream: S, told: &watch::Sender<u64>) -> Result<Wire, Silent>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Encryption, where there is any, is below: what is given to the protocol is a stream in the clear.
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| silent_of(&error))?;
        let (ended, over) = watch::channel(false);
        let told = told.clone();
        let carrier = tokio::spawn(async move {
            carry(connection, &told).await;
            ended.send_replace(true);
            told.send_modify(|count| *count += 1);
        });
        Ok(Wire { client, doubt: Notify::new(), carrier, over })
    }

    async fn introduce(&self, options: &Options) -> Result<(), Silent> {
        let wrong = |error: tokio_postgres::Error| silent_of(&error);
        let patience = options.command_timeout.as_millis();
        if let Some(statement) = &options.reads {
            let settings = format!("SET statement_timeout = {patience}; SET default_transaction_read_only = on");
            self.client.batch_execute(&settings).await.map_err(wrong)?;
            // A statement that it does not understand is told of now, not with the first request.
            return self.client.prepare_typed(statement, &[Type::TEXT]).await.map(drop).map_err(wrong);
        }
        // Commits that are not on the disk would be acknowledged: whoever set that for the server does not mean state.
        let settings = format!(
            "SET statement_timeout = {patience}; SET default_transaction_isolation = 'read committed'; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
             LISTEN moat_feed"
        );
        self.client.batch_execute(&settings).await.map_err(wrong)?;
        let asked = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', \
                     current_setting('fsync') = 'off'";
        let rows = self.client.query_typed(asked, &[]).await.map_err(wrong)?;
        let says = |column: usize| rows.first().and_then(|row| row.try_get::<_, bool>(column).ok()).unwrap_or(false);
        if says(0) {
            return Err(silent(Cause::Refused, "it is read-only: a standby, or set so"));
        }
        if says(1) {
            tracing::warn!(engine = "postgres", "`fsync` is off: a crash of the server's machine may lose everything");
        }
        schema::ensure(&self.client).await
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        // An error is the end of the carrier too.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }
}

async fn carry<S, T>(mut connection: Connection<S, T>, told: &watch::Sender<u64>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // How it ended is told to nobody: those who wait find their answers missing.
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(_) = message {
            told.send_modify(|count| *count += 1);
        }
    }
}

async fn config(options: &Options) -> Result<Config, Silent> {
    let mut config = Config::new();
    config.user(&options.user).dbname(&options.database).ssl_mode(SslMode::Disable);
    config.application_name(format!("moat {}", options.instance));
    if let Some(read) = &options.password {
        let read = read.clone();
        let password = tokio::task::spawn_blocking(move || read()).await;
        let wrong = |error: String| silent(Cause::Refused, format!("the password: {error}"));
        config.password(password.map_err(|e| wrong(e.to_string()))?.map_err(|e| wrong(e.to_string()))?);
    }
    Ok(config)
}

/// Exactly one byte is read, so that nothing from before the encryption can pass for an answer behind it.
async fn ask_for_tls(stream: &mut TcpStream) -> Result<(), Silent> {
    stream.write_all(&SSL_REQUEST).await.map_err(|error| unreachable(&error))?;
    match stream.read_u8().await.map_err(|error| unreachable(&error))? {
        b'S' => Ok(()),
        _ => Err(silent(Cause::Refused, "it does not speak TLS")),
    }
}

fn unreachable(error: &io::Error) -> Silent {
    silent(Cause::Unreachable, error.to_string())
}

/// What an error of the protocol means.
pub(super) fn silent_of(error: &tokio_postgres::Error) -> Silent {
    let Some(said) = error.as_db_error() else {
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(error) {
            text = format!("{text}: {cause}");
        }
        return silent(Cause::Unreachable, text);
    };
    let code = said.code();
    let cause = match code.code() {
        _ if *code == SqlState::QUERY_CANCELED => Cause::Timeout,
        _ if *code == SqlState::DISK_FULL || *code == SqlState::OUT_OF_MEMORY => Cause::Full,
        // It ends, or starts, or has no connection left.
        text if text.starts_with("57P") || text.starts_with("08") || text.starts_with("53") => Cause::Unreachable,
        text if text.starts_with("XX") => Cause::Damaged,
        _ => Cause::Refused,
    };
    silent(cause, format!("{} ({})", said.message(), code.code()))
}

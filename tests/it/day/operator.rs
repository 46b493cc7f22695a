//! The operator: reloads, certificates in every order in which files can arrive, and programs.
use crate::harness::{Gateway, PATIENCE};
use moat::cli::certs;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::interval;
use tokio_rustls::client::TlsStream;

/// Time between two looks at the log: looking costs time of the same cores.
const LOOK: Duration = Duration::from_millis(20);

pub struct Operator {
    gateway: Arc<Gateway>,
    yaml: String,
    /// Lines of the log that were looked at.
    read: usize,
    reloaded: usize,
    done: Done,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    pub reloads: usize,
    pub certificates: usize,
    pub upgrades: usize,
    /// The longest from the last file in place to the first handshake with the new certificate.
    pub slowest_certificate: Duration,
}

impl Operator {
    pub fn new(gateway: &Arc<Gateway>) -> Operator {
        Operator {
            gateway: gateway.clone(),
            yaml: gateway.bundle.read("gateway.yaml"),
            read: 0,
            reloaded: 0,
            done: Done::default(),
        }
    }

    /// The end of the shift.
    pub fn end(self) -> Done {
        self.done
    }

    /// Writes another configuration, and waits until it is in force.
    pub async fn reload(&mut self, round: usize) {
        let next = self.yaml.replace("  globex:", &format!("  tenant-{round}: {{class: standard}}\n  globex:"));
        let (gateway, before) = (self.gateway.clone(), self.count());
        gateway.bundle.write("gateway.yaml", &next);
        gateway.signal("HUP");
        let (deadline, mut look) = (Instant::now() + PATIENCE, interval(LOOK));
        while self.count() == before {
            assert!(Instant::now() < deadline, "reload {round} is not in force");
            look.tick().await;
        }
        self.done.reloads += 1;
    }

    /// How many reloads the log tells of so far.
    fn count(&mut self) -> usize {
        let lines = self.gateway.log_since(&mut self.read);
        self.reloaded += lines.iter().filter(|line| line.contains("\"message\":\"reloaded\"")).count();
        self.reloaded
    }

    /// Puts another pair of the same name in place, and waits until it is served.
    pub async fn rotate(&mut self) {
        let folder = self.gateway.bundle.path("certs");
        let fresh = tempfile::tempdir_in(self.gateway.bundle.root()).unwrap();
        copy(&folder.join("dev"), &fresh.path().join("dev"));
        certs::ensure(fresh.path(), &[], certs::Existing::Keep).unwrap();
        let place = |end: &str| {
            let name = format!("localhost.{end}");
            fs::rename(fresh.path().join(&name), folder.join(&name)).unwrap();
        };
        let before = served(&self.gateway).await;
        match self.done.certificates % 3 {
            0 => ["crt", "key"].into_iter().for_each(place),
            1 => {
                // In the wrong order, with a handshake in between: the pair does not fit, and the last good one stays.
                place("key");
                assert_eq!(served(&self.gateway).await, before);
                place("crt");
            }
            _ => {
                // Half of it first, in place.
                let whole = fs::read(fresh.path().join("localhost.crt")).unwrap();
                fs::write(folder.join("localhost.crt"), &whole[..whole.len() / 2]).unwrap();
                assert_eq!(served(&self.gateway).await, before);
                ["crt", "key"].into_iter().for_each(place);
            }
        }
        let placed = Instant::now();
        while served(&self.gateway).await == before {
            assert!(placed.elapsed() < PATIENCE, "the new certificate is not served");
        }
        let done = &mut self.done;
        done.slowest_certificate = done.slowest_certificate.max(placed.elapsed());
        done.certificates += 1;
    }

    pub async fn upgrade(&mut self) {
        let gateway = self.gateway.clone();
        let output = tokio::task::spawn_blocking(move || gateway.upgrade()).await.unwrap();
        assert_eq!(output.code, Some(0), "{output:?}");
        self.done.upgrades += 1;
    }
}

/// The leaf that a full handshake shows.
async fn served(gateway: &Gateway) -> Vec<u8> {
    let stream: TlsStream<_> = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let beside = to.join(entry.file_name().unwrap());
        match entry.is_dir() {
            true => copy(&entry, &beside),
            false => assert!(fs::copy(&entry, &beside).is_ok()),
        }
    }
}

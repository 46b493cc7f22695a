//! The thread that waits for the disk, so that the writer need not: one job at a time.
use super::super::folder::Folder;
use super::super::segment::Medium;
use super::super::shared::Shared;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use tokio::sync::oneshot;

/// What the thread does.
pub(super) enum Job {
    /// Syncs what was appended to a segment before.
    Sync(Arc<dyn Medium>),
    /// Puts a signed head beside the log, whose folder stays locked as long.
    Head(Arc<Folder>, String),
}

impl Job {
    /// Nothing of the job is left when it returns: a folder that is given up afterwards is unlocked.
    fn run(self) -> io::Result<()> {
        match self {
            Job::Sync(medium) => medium.sync(),
            Job::Head(folder, note) => folder.write_head(&note),
        }
    }
}

/// What hangs on the job under way.
pub(super) enum Purpose {
    /// Those who wait for what was written before it began, and a head among it that is to come beside the log.
    Sync { waiting: Vec<oneshot::Sender<()>>, head: Option<String> },
    /// The head that comes beside the log.
    Head(String),
}

/// The writer's end of the thread. The thread ends with it, and with the job under way.
pub(super) struct Syncer {
    jobs: Sender<Job>,
    results: Receiver<io::Result<()>>,
    under_way: Option<Purpose>,
}

impl Syncer {
    /// Starts the thread, which has the writer look around whenever a job has ended.
    pub fn start(shared: Arc<Shared>) -> io::Result<Syncer> {
        let (jobs, to_do) = channel::<Job>();
        let (done, results) = channel();
        std::thread::Builder::new().name("audit-sync".to_owned()).spawn(move || {
            for job in to_do {
                // Nobody waits for it where the writer is gone.
                let _ = done.send(job.run());
                shared.queue.nudge();
            }
        })?;
        Ok(Syncer { jobs, results, under_way: None })
    }

    /// Whether a job is under way, so that none can begin.
    pub fn busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins a job. There must be none under way.
    pub fn begin(&mut self, job: Job, purpose: Purpose) {
        // A thread that is gone shows in the result.
        let _ = self.jobs.send(job);
        self.under_way = Some(purpose);
    }

    /// How the job under way went, once it has ended.
    pub fn ended(&mut self) -> Option<(Purpose, io::Result<()>)> {
        self.under_way.as_ref()?;
        let result = match self.results.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(gone()),
        };
        self.under_way.take().map(|purpose| (purpose, result))
    }

    /// Waits for the job under way, if there is one.
    pub fn wait(&mut self) -> Option<(Purpose, io::Result<()>)> {
        let purpose = self.under_way.take()?;
        Some((purpose, self.results.recv().unwrap_or_else(|_| Err(gone()))))
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that syncs the audit log is gone")
}

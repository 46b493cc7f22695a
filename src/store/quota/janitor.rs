//! The thread that sweeps limits from time to time.
use super::Quotas;
use governor::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread that sweeps; it ends when this is dropped.
pub struct Janitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    /// Sweeps `quotas` again and again with a pause of `every`.
    pub fn start<C>(quotas: Arc<Quotas<C>>, every: Duration) -> std::io::Result<Janitor>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("quota-janitor".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                quotas.sweep();
                std::thread::park_timeout(every);
            }
        })?;
        Ok(Janitor { stop, thread: Some(thread) })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A sweep that panicked has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

//! Configurations that are no longer in force, held until nobody else holds them.
//!
//! The last request that ends under an old configuration would otherwise free all of it on its worker: 100,000 tenants are
//! half a million pieces of memory, and everybody else on that worker waits for as long as that takes.
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How often it is looked whether somebody still holds one.
const PAUSE: Duration = Duration::from_millis(500);
/// How often memory that is free is given back to the system. What is needed again sooner need not be asked for again.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(60);

type Old = Arc<dyn Any + Send + Sync>;

/// What is waiting for its last holder.
#[derive(Default)]
pub struct Retired {
    waiting: Mutex<Vec<Old>>,
    more: Notify,
}

impl Retired {
    /// Takes a reference that keeps all others from being the last.
    pub fn take(&self, old: Old) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(old);
        self.more.notify_one();
    }

    /// Those that nobody else holds any more.
    fn free(&self) -> Vec<Old> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Who holds the only reference is the only one who could make another.
        waiting.extract_if(.., |old| Arc::strong_count(old) == 1).collect()
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Frees what nobody holds, and gives back what is free, away from the workers. Never ends; to be spawned once.
    pub async fn clear_out(&self) {
        heap::keep();
        loop {
            if self.is_empty() && timeout(GIVE_BACK_EVERY, self.more.notified()).await.is_err() {
                let _ = tokio::task::spawn_blocking(heap::give_back).await;
                continue;
            }
            tokio::time::sleep(PAUSE).await;
            let free = self.free();
            if !free.is_empty() {
                // A thread that cannot be had frees it here and now, which is late and no harm.
                let _ = tokio::task::spawn_blocking(move || {
                    drop(free);
                    heap::give_back();
                })
                .await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};

    struct Witness(mpsc::Sender<ThreadId>);

    impl Drop for Witness {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_holder_frees_nothing() {
        let retired = Arc::new(Retired::default());
        let clearing = retired.clone();
        let task = tokio::spawn(async move { clearing.clear_out().await });
        let (tell, told) = mpsc::channel();
        let held = Arc::new(Witness(tell));
        retired.take(held.clone());
        tokio::time::sleep(PAUSE * 4).await;
        assert!(told.try_recv().is_err(), "freed under somebody who holds it");
        drop(held);
        assert!(told.try_recv().is_err(), "freed by the last who held it");
        while !retired.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
        let freed_by = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_ne!(freed_by, thread::current().id(), "the thread of the test is the only worker");
        task.abort();
    }
}

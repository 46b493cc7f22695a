//! A bounded queue of lines with a thread that writes them in batches.
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// As much as is written at once without waiting for more.
const BATCH_BYTES: usize = 128 << 10;
/// How long a line may wait for company.
const LINGER: Duration = Duration::from_millis(10);
/// How long the end of the process waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines on their way out. Dropping it writes what still waits.
pub struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// The queue has something, has a batch, or is closed.
    filled: Condvar,
    /// The queue is empty and written, or the writer has ended.
    drained: Condvar,
    dropped: AtomicU64,
    most: usize,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    writing: bool,
    closed: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Starts a thread that writes to `sink`; at most `most` bytes wait for it.
    pub fn start(name: &str, sink: Box<dyn Write + Send>, most: usize) -> io::Result<Lines> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            dropped: AtomicU64::new(0),
            most,
        });
        let writer = shared.clone();
        std::thread::Builder::new().name(format!("{name}-writer")).spawn(move || write(&writer, sink))?;
        Ok(Lines { shared })
    }

    /// Appends a line, with its line feed, or drops it where there is no room. Never waits for the writer.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.shared.queue();
        let before = queue.waiting.len();
        if before + line.len() > self.shared.most {
            drop(queue);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.waiting.extend_from_slice(line);
        let after = queue.waiting.len();
        drop(queue);
        if before == 0 || (before < BATCH_BYTES && after >= BATCH_BYTES) {
            self.shared.filled.notify_one();
        }
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.closed = true;
        self.shared.filled.notify_one();
        let busy = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        // A reader that never reads must not keep the process from ending.
        let _ = self.shared.drained.wait_timeout_while(queue, PATIENCE, busy);
    }
}

fn write(shared: &Shared, mut sink: Box<dyn Write + Send>) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    loop {
        let queue = shared.queue();
        let empty = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let queue = shared.filled.wait_while(queue, empty).unwrap_or_else(PoisonError::into_inner);
        let small = |queue: &mut Queue| queue.waiting.len() < BATCH_BYTES && !queue.closed;
        let waited = shared.filled.wait_timeout_while(queue, LINGER, small);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        if queue.waiting.is_empty() && queue.closed {
            shared.drained.notify_all();
            return;
        }
        std::mem::swap(&mut queue.waiting, &mut batch);
        queue.writing = true;
        drop(queue);

        if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
            let lost = batch.iter().filter(|byte| **byte == b'\n').count();
            shared.dropped.fetch_add(lost as u64, Ordering::Relaxed);
        }
        batch.clear();
        // A burst must not keep its memory for ever.
        batch.shrink_to(2 * BATCH_BYTES);

        let mut queue = shared.queue();
        queue.writing = false;
        drop(queue);
        shared.drained.notify_all();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// A sink that keeps what it is given.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sink that says when it is written to, then waits until it may go on.
    struct Stuck {
        reached: SyncSender<()>,
        go_on: Receiver<()>,
        captured: Captured,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.reached.send(());
            let _ = self.go_on.recv();
            self.captured.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_of_all_threads_arrive_whole() {
        let captured = Captured::default();
        let lines = Lines::start("test", Box::new(captured.clone()), 1 << 20).expect("a thread");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let lines = &lines;
                scope.spawn(move || (0..1000).for_each(|n| lines.push(format!("{thread} {n} end\n").as_bytes())));
            }
        });
        assert_eq!(lines.dropped(), 0);
        drop(lines);
        let text = captured.text();
        assert_eq!(text.lines().count(), 4000);
        assert!(text.lines().all(|line| line.ends_with(" end")));
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        let (reached, at_sink) = sync_channel(8);
        let (release, go_on) = sync_channel(8);
        let captured = Captured::default();
        let stuck = Stuck { reached, go_on, captured: captured.clone() };
        let lines = Lines::start("test", Box::new(stuck), 10).expect("a thread");
        lines.push(b"first\n");
        at_sink.recv().expect("the writer writes");
        lines.push(b"second\n");
        lines.push(b"no room\n");
        assert_eq!(lines.dropped(), 1);
        release.send(()).expect("the writer waits");
        release.send(()).expect("the writer waits");
        drop(lines);
        assert_eq!(captured.text(), "first\nsecond\n");
    }

    #[test]
    fn lines_that_cannot_be_written_count_as_dropped() {
        let lines = Lines::start("test", Box::new(Broken), 1 << 20).expect("a thread");
        let shared = lines.shared.clone();
        lines.push(b"one\ntwo\n");
        drop(lines);
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 2);
    }
}

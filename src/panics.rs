//! Counts panics: one task dies, not the gateway, but nobody should have to guess that it happened.
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Installs the hook, in front of the one that prints. Call once, first thing in `main`.
pub fn install() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        print(info);
    }));
}

/// Panics since the process started; counted even where the task's panic was caught.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

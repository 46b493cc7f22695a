//! What the program asks of its allocator, mimalloc, beside memory.
use libmimalloc_sys as _;
use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay` of mimalloc.h, in milliseconds.
const PURGE_DELAY: c_int = 15;
/// The allocator does not come to it by itself; for ever would mean that it forgets what could be given back.
const DAY: c_long = 24 * 60 * 60 * 1000;

unsafe extern "C" {
    fn mi_collect(force: bool);
    fn mi_option_set(option: c_int, value: c_long);
}

/// Gives memory that is free back to the system, on this thread and now. Does nothing of note where the process has another
/// allocator.
pub fn give_back() {
    // SAFETY: `void mi_collect(bool)` may be called at any time from any thread (mimalloc.h).
    unsafe { mi_collect(true) }
}

/// From now on nothing is given back but by [`give_back`]. The allocator would do so by itself, a second after it was freed, all
/// at once and on whichever thread asks for memory next: behind the configuration of 100,000 tenants a worker was away for
/// five milliseconds, and what a worker had given back and needed again a second later it had to wait for.
pub fn keep() {
    // SAFETY: `void mi_option_set(mi_option_t, long)` may be called at any time (mimalloc.h); the option is a number that is read
    // without a lock whenever something is freed.
    unsafe { mi_option_set(PURGE_DELAY, DAY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    /// Options have numbers, which another version of the allocator might give to others.
    #[test]
    fn the_option_is_the_delay() {
        // SAFETY: `long mi_option_get(mi_option_t)` may be called at any time (mimalloc.h).
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "the default of mimalloc 3");
        keep();
        assert_eq!(delay(), DAY);
    }
}

//! Gateways whose wall clock is off, or jumps: libfaketime stands between them and the clock of the system.
use super::bundle::Bundle;
use std::path::PathBuf;

/// What a clock that jumps is off by, in the gateway's folder.
const BY: &str = "clock";

impl Bundle {
    /// Sets the gateway's wall clock off by this much, as `+3s`; what it measures spans with goes on as it does.
    pub fn clock_off(&mut self, by: &str) {
        self.clock("FAKETIME", by);
    }

    /// The gateway's wall clock goes right, until it jumps.
    pub fn clock_that_jumps(&mut self) {
        self.jump("+0s");
        let by = self.path(BY);
        self.clock("FAKETIME_TIMESTAMP_FILE", by.to_str().unwrap());
        self.environment.push(("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()));
    }

    /// From now on the clock is off by this much.
    pub fn jump(&self, by: &str) {
        self.write(BY, by);
    }

    /// The library is named itself: the program `faketime` refuses to run under a process id for which the library has left
    /// anything behind, and its own process would stand between us and the gateway.
    fn clock(&mut self, how: &str, by: &str) {
        let library = library().expect("libfaketime (scripts/test installs it)");
        let variables = [("LD_PRELOAD", library.to_str().unwrap()), (how, by), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        self.environment.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

/// Where Debian has it: below the folder of this machine's kind.
fn library() -> Option<PathBuf> {
    let kinds = std::fs::read_dir("/usr/lib").ok()?;
    let mut places = kinds.flatten().map(|kind| kind.path().join("faketime/libfaketimeMT.so.1"));
    places.find(|place| place.exists())
}

/// Removes what the library leaves behind of a process that was killed. One that got the same id could fail by it.
pub fn forget(pid: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}{pid}"));
    }
}

//! Other people's programs: fetched once by `scripts/tools` into a folder below `target/`, and run as children.
use super::PATIENCE;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Path of a program, or of a folder of Python modules.
pub fn tool(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tools");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    let output = Command::new(script).arg(folder).arg(name).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "scripts/tools {name}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// An address that is free now. Programs of others cannot tell which port the system gave them.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A child process that ends with the test.
pub struct Program {
    child: Child,
    name: String,
}

impl Program {
    /// Starts a program and waits until it accepts connections.
    pub async fn start(command: &mut Command, address: SocketAddr) -> Program {
        let name = format!("{command:?}");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut program = Program { child, name };
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(program.child.try_wait().unwrap().is_none(), "ended by itself: {}", program.name);
            assert!(Instant::now() < deadline, "does not listen on {address}: {}", program.name);
            tokio::task::yield_now().await;
        }
        program
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

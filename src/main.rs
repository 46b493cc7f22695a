//! The `moat` binary: allocator, panic hook, command line.
use std::process::ExitCode;

/// As quick as the system's where requests allocate twenty times each, and it gives back memory when it is told to (`shims/heap`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    moat::panics::install();
    moat::cli::main()
}

//! The `tidegate` binary: parse arguments, start the runtime, run the command.

use std::process::ExitCode;

use tidegate::cli::Cli;

/// Threads for work that blocks, reads of what is not in the page cache above all. Each may hold a stack and an arena of the allocator; what
/// has to wait for one is short.
const BLOCKING_THREADS: usize = 64;

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    };
    // What still blocks (a read of the terminal, say) must not hold up the end of the process.
    runtime.shutdown_background();
    code
}

//! The `tidegate` binary: parse arguments, start the runtime, run the command.

use std::process::ExitCode;

use tidegate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
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

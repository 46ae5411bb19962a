//! The reproducible benchmark behind `make bench`.
//!
//! Starts a throwaway Postgres, a bare receiver and the real daemon on this machine, and prints one
//! table: every figure next to what it should reach, and next to a limit measured in the same run,
//! so that a noisy or slow machine shows in both. Figures are medians; the table says of how many
//! runs. The same goes to `bench-results/pipeline.json`, with the machine, and as a table for the
//! README to `bench-results/pipeline.md`.
//!
//! - `WALHOOK_BENCH_ONLY`: some of the [scenarios](scenarios::NAMES), separated by commas.
//! - `WALHOOK_BENCH_RUNS`: how many runs (5).
//! - `WALHOOK_BENCH_ROWS`: rows of a run (100,000).

mod bare_client;
mod daemon;
mod load;
mod machine;
mod receiver;
mod report;
mod scenarios;

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    // `cargo test --benches` and editors run benchmarks with this flag only to see that they start.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let rows = number_from_env("WALHOOK_BENCH_ROWS", 100_000)?;
    let runs = number_from_env("WALHOOK_BENCH_RUNS", 5)?.max(1);
    let mut report = runtime.block_on(scenarios::run(rows, runs))?;
    report.add_build()?;
    println!("{report}");
    let [json, markdown] = report.write()?;
    println!("\nwritten to {} and {}", json.display(), markdown.display());
    Ok(())
}

fn number_from_env(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text.parse().map_err(|_| format!("{name} is not a number: {text:?}").into()),
    }
}

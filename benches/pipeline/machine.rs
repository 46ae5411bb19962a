//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};

/// The machine and the build, as they were when the benchmark ended.
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    postgres: String,
    date: String,
    revision: String,
    profile: String,
    /// Over the last minute, before the first run: beyond about 0.5, something else was at work.
    load_before: String,
}

impl Machine {
    /// Looks at the machine before anything is measured.
    pub(crate) fn look(postgres_dir: &Path) -> Machine {
        let cpu = read("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let memory = read("/proc/meminfo");
        let memory_kib: f64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap_or(0.0);
        let revision = said(Command::new("git").args(["describe", "--always", "--dirty"]));
        let load = read("/proc/loadavg");
        Machine {
            cpu: cpu.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_kib / (1024.0 * 1024.0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            postgres: said(Command::new(postgres_dir.join("postgres")).arg("--version")),
            date: Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            revision,
            profile: profile().to_owned(),
            load_before: load.split(' ').next().unwrap_or("unknown").to_owned(),
        }
    }

    /// One line for people.
    pub(crate) fn sentence(&self) -> String {
        let Machine { cpu, cores, memory_gib, kernel, postgres, date, .. } = self;
        let Machine { revision, profile, load_before, .. } = self;
        let postgres = postgres.replace("postgres (PostgreSQL)", "PostgreSQL");
        let revision = if revision.is_empty() { "unknown" } else { revision };
        format!(
            "{date}: {cores} cores of {cpu}, {memory_gib:.0} GiB of memory, Linux {kernel}, \
             {postgres}, profile `{profile}`, revision {revision}, load before {load_before}"
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "memory_gib": self.memory_gib,
            "kernel": self.kernel, "postgres": self.postgres, "date": self.date,
            "revision": self.revision, "profile": self.profile, "load_before": self.load_before,
        })
    }
}

/// The build's profile is the name of the folder its programs lie in.
fn profile() -> &'static str {
    let program = Path::new(env!("CARGO_BIN_EXE_walhook"));
    let folder = program.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    folder.unwrap_or("unknown")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What a command prints; nothing if it cannot be run or fails.
fn said(command: &mut Command) -> String {
    match command.current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => String::new(),
    }
}

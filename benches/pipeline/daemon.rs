//! The real daemon as a child process, and what the kernel says of it.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    pub(crate) fn start(config: &Path) -> Result<Daemon, Box<dyn Error>> {
        let log = fs::File::create(config.with_extension("log"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_walhook"))
            .arg("run")
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Daemon { child })
    }

    /// User and system time used so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the command in parentheses, which may contain spaces.
        let rest = stat.rsplit_once(") ").ok_or("odd /proc stat")?.1;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // The kernel reports in units of 1/100 s on every architecture Linux supports today.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The largest resident set so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<u64, Box<dyn Error>> {
        self.memory("VmHWM:")
    }

    /// The resident set now, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Box<dyn Error>> {
        self.memory("VmRSS:")
    }

    fn memory(&self, key: &str) -> Result<u64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(key)).ok_or("odd /proc status")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("odd /proc status")?.parse()?;
        Ok(kib * 1024)
    }

    /// Ends it as an operator would, and waits.
    pub(crate) fn stop(mut self) -> Result<(), Box<dyn Error>> {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("the daemon did not stop within a minute".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The folder in which a process keeps its throwaway clusters, and the watchdog that removes it.
//!
//! The watchdog is a shell that reads from a pipe whose other end only this process holds. However
//! the process ends, the kernel closes that end; the shell then stops every server below the folder
//! and removes it. It is also the ordinary way out: dropping the workshop closes the pipe and waits.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::{Binaries, Kind, SUPERUSER, ThrowawayError, find, run};

/// `$1` is the folder, `$2` is `pg_ctl`. Nobody but the pipe may end it, so signals are ignored; it
/// is in a process group of its own, so that Ctrl-C does not reach it (nor what it starts) at all.
const WATCHDOG: &str = r#"
trap '' HUP INT QUIT TERM
while read -r _; do :; done
for pid in "$1"/*/data/postmaster.pid; do
    [ -e "$pid" ] && "$2" stop -s -w -t 20 -m immediate -D "${pid%/postmaster.pid}"
done
rm -rf "$1"
"#;

/// Unix sockets have at most 107 (Linux) or 103 (macOS) bytes of path; what lies below the base
/// takes about 45 of them.
const LONGEST_BASE: usize = 55;

static SHARED: Mutex<Weak<Workshop>> = Mutex::new(Weak::new());

#[derive(Debug)]
pub(super) struct Workshop {
    binaries: Binaries,
    user: Option<User>,
    root: PathBuf,
    template: OnceLock<()>,
    making_template: Mutex<()>,
    clusters: AtomicU32,
    watchdog: Mutex<Child>,
}

impl Workshop {
    /// The workshop of this process: made for the first cluster, gone with the last.
    pub(super) fn shared() -> Result<Arc<Workshop>, ThrowawayError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(workshop) = shared.upgrade() {
            return Ok(workshop);
        }
        let workshop = Arc::new(Workshop::new(find()?)?);
        *shared = Arc::downgrade(&workshop);
        Ok(workshop)
    }

    /// One of its own, for these programs.
    pub(super) fn new(binaries: Binaries) -> Result<Workshop, ThrowawayError> {
        let user = User::to_run_as()?;
        let base = base_dir(user.is_some());
        let root = tempfile::Builder::new()
            .prefix("walhook-pg-")
            .tempdir_in(&base)
            .map_err(|error| ThrowawayError::io("make a folder in", &base, error))?;
        if let Some(user) = &user {
            chown(root.path(), Some(user.uid), Some(user.gid))
                .map_err(|error| ThrowawayError::io("hand over", root.path(), error))?;
        }
        let mut watchdog = unprivileged("sh".as_ref(), user.as_ref(), root.path());
        watchdog.args(["-c", WATCHDOG, "walhook-watchdog"]);
        watchdog.arg(root.path()).arg(binaries.program("pg_ctl"));
        watchdog.process_group(0);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let watchdog = watchdog
            .spawn()
            .map_err(|error| ThrowawayError(Kind::Spawn { program: "sh".to_owned(), error }))?;
        Ok(Workshop {
            binaries,
            user,
            root: root.keep(),
            template: OnceLock::new(),
            making_template: Mutex::new(()),
            clusters: AtomicU32::new(0),
            watchdog: Mutex::new(watchdog),
        })
    }

    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// One of the server's programs, to be run as the user who owns the clusters.
    pub(super) fn command(&self, program: &str) -> Command {
        unprivileged(&self.binaries.program(program), self.user.as_ref(), &self.root)
    }

    /// A folder for a cluster: its data directory, socket and log go there.
    pub(super) fn new_cluster_dir(&self) -> Result<PathBuf, ThrowawayError> {
        let number = self.clusters.fetch_add(1, Ordering::Relaxed);
        let dir = self.root.join(number.to_string());
        let made = fs::create_dir(&dir).and_then(|()| self.hand_over(&dir));
        made.map_err(|error| ThrowawayError::io("make the folder", &dir, error))?;
        Ok(dir)
    }

    /// Gives a file or folder to the user who owns the clusters.
    pub(super) fn hand_over(&self, path: &Path) -> std::io::Result<()> {
        match &self.user {
            Some(user) => chown(path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
    }

    pub(super) fn initdb(&self, data_dir: &Path) -> Result<(), ThrowawayError> {
        let mut command = self.command("initdb");
        command.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        command.arg("-D").arg(data_dir);
        run(command).map(drop)
    }

    /// Copies the cluster that was made once for this, which is far quicker than making another.
    pub(super) fn copy_template(&self, data_dir: &Path) -> Result<(), ThrowawayError> {
        let template = self.root.join("template");
        if self.template.get().is_none() {
            let _making = self.making_template.lock().unwrap_or_else(PoisonError::into_inner);
            if self.template.get().is_none() {
                self.initdb(&template)?;
                let _ = self.template.set(());
            }
        }
        let mut command = unprivileged("cp".as_ref(), self.user.as_ref(), &self.root);
        command.arg("-Rp").arg(&template).arg(data_dir);
        run(command).map(drop)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let watchdog = self.watchdog.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(watchdog.stdin.take());
        let _ = watchdog.wait();
    }
}

/// Whom to run the server as when we are root, whom it refuses.
#[derive(Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    fn to_run_as() -> Result<Option<User>, ThrowawayError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = ["postgres", "nobody"].iter().find_map(|name| User::in_passwd(&passwd, name));
        user.map(Some).ok_or(ThrowawayError(Kind::NoUser))
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<User> {
        let mut fields = passwd
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    }
}

/// A command free of what the caller's environment says about other servers.
fn unprivileged(program: &Path, user: Option<&User>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").current_dir(dir).stdin(Stdio::null());
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
    command
}

/// Where the folder goes: the temporary folder, unless its path is too long for a unix socket or
/// other users cannot reach it.
fn base_dir(for_another_user: bool) -> PathBuf {
    let open = |dir: &Path| {
        dir.ancestors().all(|dir| {
            fs::metadata(dir).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
        })
    };
    let own = env::temp_dir();
    let own = own.canonicalize().unwrap_or(own);
    if own.as_os_str().len() > LONGEST_BASE || for_another_user && !open(&own) {
        return PathBuf::from("/tmp");
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:5:6::/:\npostgres:x:101:104::/:\n";
        let user = User::in_passwd(passwd, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert!(User::in_passwd(passwd, "nobody").is_none());
    }
}

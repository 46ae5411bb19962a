//! Finding Postgres's server programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Kind, ThrowawayError};

/// Names the folder to use, instead of a search.
pub(super) const ENV: &str = "WALHOOK_PG_BIN";
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];
const OLDEST: u32 = 14;

/// Where packages put the programs. A `*` stands for any end of a folder's name.
const USUAL: [&[&str]; 7] = [
    &["/usr/lib/postgresql", "*", "bin"],
    &["/usr", "pgsql-*", "bin"],
    &["/usr/local", "pgsql*", "bin"],
    &["/usr/libexec", "postgresql*"],
    &["/opt/homebrew/opt", "postgresql*", "bin"],
    &["/usr/local/opt", "postgresql*", "bin"],
    &["/Applications/Postgres.app/Contents/Versions", "*", "bin"],
];

/// Package managers and the command that installs a server.
const INSTALL: [(&str, &str); 7] = [
    ("apt-get", "apt-get install postgresql"),
    ("dnf", "dnf install postgresql-server postgresql-contrib"),
    ("yum", "yum install postgresql-server postgresql-contrib"),
    ("apk", "apk add postgresql postgresql-contrib"),
    ("pacman", "pacman -S postgresql"),
    ("zypper", "zypper install postgresql-server postgresql-contrib"),
    ("brew", "brew install postgresql"),
];

/// A folder that holds a server's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    version: u32,
}

impl Binaries {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The server's major version, such as 15.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The path of one of its programs, present or not.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn in_dir(dir: &Path) -> Option<Binaries> {
        let holds_all = |dir: &Path| NEEDED.iter().all(|name| dir.join(name).is_file());
        if !holds_all(dir) {
            return None;
        }
        // A folder of links may lack the server's other programs.
        let real = dir.join("postgres").canonicalize().ok();
        let dir =
            real.as_deref().and_then(Path::parent).filter(|dir| holds_all(dir)).unwrap_or(dir);
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Binaries { dir: dir.to_owned(), version })
    }
}

/// The newest server of this machine: the folder named by `WALHOOK_PG_BIN`, or the best of `PATH`,
/// what `pg_config` says, and the usual folders of Debian, Red Hat, Alpine, Homebrew and
/// Postgres.app.
pub fn find() -> Result<Binaries, ThrowawayError> {
    if let Some(dir) = env::var_os(ENV).filter(|dir| !dir.is_empty()) {
        return checked(in_folder(Path::new(&dir))?);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let newest = env::split_paths(&path)
        .chain(pg_config())
        .chain(USUAL.iter().flat_map(|parts| expand(parts)))
        .filter_map(|dir| Binaries::in_dir(&dir))
        // The first of several equal ones: the earlier source is the more deliberate choice.
        .reduce(|best, next| if next.version > best.version { next } else { best });
    let none = || ThrowawayError(Kind::NoServer { install: install_command(&path) });
    checked(newest.ok_or_else(none)?)
}

/// The server in this folder, of whatever version.
pub(super) fn in_folder(dir: &Path) -> Result<Binaries, ThrowawayError> {
    Binaries::in_dir(dir).ok_or_else(|| ThrowawayError(Kind::NoServerIn { dir: dir.to_owned() }))
}

fn checked(found: Binaries) -> Result<Binaries, ThrowawayError> {
    if found.version < OLDEST {
        return Err(ThrowawayError(Kind::TooOld { dir: found.dir, version: found.version }));
    }
    Ok(found)
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let dir = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(dir.trim()))
}

fn expand(parts: &[&str]) -> Vec<PathBuf> {
    let mut dirs = vec![PathBuf::new()];
    for part in parts {
        dirs = match part.strip_suffix('*') {
            None => dirs.into_iter().map(|dir| dir.join(part)).collect(),
            Some(start) => dirs.iter().flat_map(|dir| children(dir, start)).collect(),
        };
    }
    dirs
}

fn children(dir: &Path, start: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .collect()
}

fn parse_version(said: &str) -> Option<u32> {
    let number = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_numeric()))?;
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    major.parse().ok()
}

fn install_command(path: &std::ffi::OsStr) -> String {
    let there = |program: &str| env::split_paths(path).any(|dir| dir.join(program).is_file());
    match INSTALL.iter().find(|(program, _)| there(program)) {
        Some((_, command)) => format!("`{command}`"),
        None => "the package is usually called postgresql or postgresql-server".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_print_them() {
        for (said, version) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 9.6.24\n", Some(9)),
            ("", None),
        ] {
            assert_eq!(parse_version(said), version, "{said:?}");
        }
    }

    #[test]
    fn a_star_stands_for_folders_that_exist() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pgsql-14/bin", "pgsql-16/bin", "other/bin"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let root = dir.path().to_str().unwrap();
        let mut found = expand(&[root, "pgsql-*", "bin"]);
        found.sort();
        assert_eq!(found, [dir.path().join("pgsql-14/bin"), dir.path().join("pgsql-16/bin")]);
        assert!(expand(&[root, "nothing*", "bin"]).is_empty());
    }
}

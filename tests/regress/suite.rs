//! PostgreSQL's regression suite: its schedule, and one file after another with psql.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use walhook::throwaway::Cluster;

/// The database the suite expects to be in.
pub(crate) const DATABASE: &str = "regression";

/// No file takes more than some seconds by itself.
const PATIENCE: Duration = Duration::from_secs(120);

/// Files of the schedule that do not take part, and why.
const LEFT_OUT: [(&str, &str); 1] = [(
    "encoding",
    "stores text that is not UTF-8, through C functions that check nothing: walhook ends at such a \
     row, as it should",
)];

/// Files that do not take part, and why.
pub(crate) type LeftOut = Vec<(String, String)>;

/// The suite, laid out where the server can read and write it.
pub(crate) struct Suite {
    source: PathBuf,
    place: PathBuf,
    output: PathBuf,
    psql: PathBuf,
    timezone: String,
}

/// What became of one file.
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// Whether psql printed just what PostgreSQL's developers expect. The watching itself may show
    /// (lists of event triggers), so that this is no failure.
    pub(crate) as_expected: bool,
    pub(crate) failure: Option<String>,
    pub(crate) took: Duration,
}

impl Suite {
    /// Copies what the server reads. `source` is `src/test/regress`, `libraries` the folder of
    /// `regress.so`, `output` where psql's words are kept.
    pub(crate) fn lay_out(
        source: &Path,
        libraries: &Path,
        output: &Path,
        cluster: &Cluster,
    ) -> Result<Suite, Box<dyn Error>> {
        let place = cluster.socket_dir().join("suite");
        fs::create_dir_all(place.join("lib"))?;
        for folder in ["sql", "data"] {
            copy_folder(&source.join(folder), &place.join(folder))?;
        }
        let server_libraries = fs::read_dir(libraries)?;
        for entry in server_libraries {
            let entry = entry?;
            fs::copy(entry.path(), place.join("lib").join(entry.file_name()))?;
        }
        for folder in ["results", "testtablespace"] {
            fs::create_dir_all(place.join(folder))?;
            fs::set_permissions(place.join(folder), fs::Permissions::from_mode(0o777))?;
        }
        let timezone = timezone(source)?;
        let _ = fs::remove_dir_all(output);
        fs::create_dir_all(output)?;
        let own = cluster.binaries().program("psql");
        let psql = if own.is_file() { own } else { PathBuf::from("psql") };
        Ok(Suite { source: source.to_owned(), place, output: output.to_owned(), psql, timezone })
    }

    /// The files in the order of the schedule, and those that stay out with the reason.
    pub(crate) fn files(&self) -> Result<(Vec<String>, LeftOut), Box<dyn Error>> {
        let schedule = fs::read_to_string(self.source.join("parallel_schedule"))?;
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        let names = schedule
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test:"))
            .flat_map(str::split_whitespace);
        for name in names {
            let reason = LEFT_OUT.iter().find(|(left_out, _)| *left_out == name);
            match reason {
                Some((_, reason)) => left_out.push((name.to_owned(), (*reason).to_owned())),
                None if !self.script(name).is_file() => {
                    left_out.push((name.to_owned(), "the source has no such file".to_owned()));
                }
                None => files.push(name.to_owned()),
            }
        }
        if files.is_empty() {
            return Err("the schedule names no file".into());
        }
        Ok((files, left_out))
    }

    /// Runs one file to its end, as pg_regress would, errors and all.
    pub(crate) fn run(&self, name: &str, cluster: &Cluster) -> Result<Outcome, Box<dyn Error>> {
        let began = Instant::now();
        let output = self.output.join(format!("{name}.out"));
        let said = fs::File::create(&output)?;
        let mut psql = Command::new(&self.psql);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                psql.env_remove(name);
            }
        }
        let mut psql = psql
            .args(["-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"])
            .args(["-d", DATABASE])
            .envs([("PGUSER", "postgres"), ("PGTZ", &self.timezone)])
            .env("PGDATESTYLE", "Postgres, MDY")
            .env("PGHOST", cluster.socket_dir())
            .env("PGPORT", cluster.port().to_string())
            .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
            .env("LC_ALL", "C")
            .env("PG_ABS_SRCDIR", &self.place)
            .env("PG_ABS_BUILDDIR", &self.place)
            .env("PG_LIBDIR", self.place.join("lib"))
            .env("PG_DLSUFFIX", ".so")
            .current_dir(&self.place)
            .stdin(fs::File::open(self.script(name))?)
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .map_err(|error| format!("could not run {}: {error}", self.psql.display()))?;
        let failure = loop {
            match psql.try_wait()? {
                Some(status) if status.success() => break None,
                Some(status) => break Some(format!("psql ended with {status}")),
                None if began.elapsed() > PATIENCE => {
                    psql.kill()?;
                    psql.wait()?;
                    break Some(format!("not done after {PATIENCE:?}"));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let as_expected = self.as_expected(name, &fs::read(&output)?)?;
        Ok(Outcome { name: name.to_owned(), as_expected, failure, took: began.elapsed() })
    }

    fn script(&self, name: &str) -> PathBuf {
        self.place.join("sql").join(format!("{name}.sql"))
    }

    /// Compares with `name.out` and the variants `name_0.out` to `name_9.out`.
    fn as_expected(&self, name: &str, said: &[u8]) -> Result<bool, Box<dyn Error>> {
        let said = without_our_marks(said);
        let variants = std::iter::once(format!("{name}.out"))
            .chain((0..10).map(|number| format!("{name}_{number}.out")));
        for variant in variants {
            let path = self.source.join("expected").join(variant);
            if path.is_file() && without_our_marks(&fs::read(path)?) == said {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The time zone of the expected output, which minor versions have changed.
fn timezone(source: &Path) -> Result<String, Box<dyn Error>> {
    let pg_regress = fs::read_to_string(source.join("pg_regress.c"))?;
    let after = pg_regress.split_once("setenv(\"PGTZ\", \"").map(|(_, after)| after);
    let name = after.and_then(|after| after.split_once('"')).map(|(name, _)| name);
    Ok(name.ok_or("pg_regress.c does not say which time zone it sets")?.to_owned())
}

/// psql's output without what `\d` says of our publication and replica identities.
fn without_our_marks(said: &[u8]) -> Vec<&[u8]> {
    const OURS: [&str; 3] = ["Publications:", "\"walhook\"", "Replica Identity: FULL"];
    let ours = |line: &[u8]| OURS.iter().any(|mark| line.trim_ascii() == mark.as_bytes());
    said.split(|&byte| byte == b'\n').filter(|line| !ours(line)).collect()
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let copy = to.join(entry.file_name());
            fs::copy(entry.path(), &copy)?;
            fs::set_permissions(copy, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

//! The configuration a command works with: from a file, or from the command line alone.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::input::SECRET_VARIABLE;
use super::{Failure, Globals};
use crate::config::{self, Config, Flags, Needs};
use crate::delivery::signature::{Scheme, generate_secret};

/// The file that is looked for when none is named.
const DEFAULT_FILE: &str = "walhook.toml";

/// The variable that may name it; the container image does.
const FILE_VARIABLE: &str = "WALHOOK_CONFIG";

/// Reads the configuration for a command that looks on or prepares. Nothing is written.
pub(crate) fn load(globals: &Globals, flags: &Flags, needs: Needs) -> Result<Config, Failure> {
    read(globals, flags, needs, Secrets::Borrow)
}

/// Reads the configuration for the daemon. When the command line is all there is and names no
/// secret, one is generated on the first run and kept beside the journal for the next ones.
pub(crate) fn load_to_run(globals: &Globals, flags: &Flags) -> Result<Config, Failure> {
    read(globals, flags, Needs::Everything, Secrets::Keep)
}

/// What happens to a secret that has to be made up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    /// It is forgotten again.
    Borrow,
    /// It is kept in a file.
    Keep,
}

fn read(
    globals: &Globals,
    flags: &Flags,
    needs: Needs,
    secrets: Secrets,
) -> Result<Config, Failure> {
    if flags.given() {
        if globals.config.is_some() {
            return Err(Failure::usage(
                "--config and --source say the same thing twice: keep one of them",
            ));
        }
        let secret = match flags.lacks_secret() {
            true => Some(secret(flags, secrets)?),
            false => None,
        };
        return Ok(Config::from_flags(flags, secret, needs)?);
    }
    Ok(Config::load(&file(globals, std::env::var_os(FILE_VARIABLE)), needs)?)
}

/// The file: as the command line says, else as the variable does, else the usual one.
fn file(globals: &Globals, variable: Option<OsString>) -> PathBuf {
    let named = globals.config.clone();
    let named = named.or_else(|| variable.filter(|file| !file.is_empty()).map(PathBuf::from));
    named.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
}

/// The file, where one is named or the usual one is there.
pub(super) fn named_file(globals: &Globals) -> Option<PathBuf> {
    let file = file(globals, std::env::var_os(FILE_VARIABLE));
    let usual = globals.config.is_none() && file == Path::new(DEFAULT_FILE);
    (!usual || file.exists()).then_some(file)
}

/// How errors name the file beside the journal.
const KEPT: &str = "<journal>.secret";

/// The secret for endpoints on the command line, and where it is from: the environment, the file
/// beside the journal, or a new one.
fn secret(flags: &Flags, secrets: Secrets) -> Result<(&'static str, String), Failure> {
    if let Some(secret) = std::env::var(SECRET_VARIABLE).ok().filter(|secret| !secret.is_empty()) {
        return Ok((SECRET_VARIABLE, secret));
    }
    let path = flags.kept_secret();
    if path.exists() {
        return kept(&path);
    }
    let generated = generate_secret(Scheme::Standard);
    let secret = generated.expose_secret();
    if secrets == Secrets::Keep {
        match config::keep_secret(&path, secret) {
            Ok(true) => announce(&path, secret),
            // Another process was quicker.
            Ok(false) => return kept(&path),
            Err(error) => {
                return Err(Failure::failed(format_args!(
                    "{error}; name a secret with --secret-file or the variable {SECRET_VARIABLE}, or another place with --journal"
                )));
            }
        }
    }
    Ok((KEPT, secret.to_owned()))
}

fn kept(path: &Path) -> Result<(&'static str, String), Failure> {
    config::read_secret_file(path)
        .map(|secret| (KEPT, secret))
        .map_err(|predicate| Failure::usage(format_args!("the kept secret {predicate}")))
}

/// Tells people the secret itself, once; a log file only where it is kept.
fn announce(path: &Path, secret: &str) {
    let mut err = io::stderr();
    let shown = path.display();
    let _ = if err.is_terminal() {
        writeln!(
            err,
            "Signing with a new secret, kept in {shown}. Give it to the receiver:\n\n    {secret}\n"
        )
    } else {
        writeln!(
            err,
            "signing with a new secret, kept in {shown}; give what that file holds to the receiver"
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_kept_by_the_daemon_alone() {
        let folder = tempfile::tempdir().unwrap();
        let flags = Flags {
            source: Some("postgres://ann@h/crm".into()),
            tables: vec!["people".into()],
            to: vec!["http://127.0.0.1:9/".into()],
            journal: Some(folder.path().join("w.db")),
            ..Flags::default()
        };
        let globals = Globals::default();
        let path = folder.path().join("w.db.secret");
        load(&globals, &flags, Needs::Everything).unwrap();
        assert!(!path.exists(), "looking on wrote a file");
        load_to_run(&globals, &flags).unwrap();
        let kept = config::read_secret_file(&path).unwrap();
        assert!(kept.starts_with("whsec_"));
        load_to_run(&globals, &flags).unwrap();
        assert_eq!(config::read_secret_file(&path), Ok(kept));
        std::fs::write(&path, "damaged").unwrap();
        let failure = load_to_run(&globals, &flags).unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().starts_with("`<journal>.secret` cannot"), "{failure}");
    }

    #[test]
    fn the_command_line_names_the_file_before_the_variable() {
        let named = Globals { config: Some("a.toml".into()), ..Globals::default() };
        assert_eq!(file(&named, Some("b.toml".into())), PathBuf::from("a.toml"));
        assert_eq!(file(&Globals::default(), Some("b.toml".into())), PathBuf::from("b.toml"));
        for nothing in [None, Some(OsString::new())] {
            assert_eq!(file(&Globals::default(), nothing), PathBuf::from(DEFAULT_FILE));
        }
    }

    #[test]
    fn a_file_and_flags_do_not_mix() {
        let globals = Globals { config: Some("walhook.toml".into()), ..Globals::default() };
        let flags = Flags { source: Some("postgres://h/crm".into()), ..Flags::default() };
        let failure = load(&globals, &flags, Needs::Source).unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("--config and --source"));
    }
}

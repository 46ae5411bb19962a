//! A folder with a configuration and a journal, in which `walhook` runs.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use toml::{Table, Value};

use super::{Daemon, Database, Finished};

/// The secret of every endpoint, known to the receivers.
pub(crate) const SECRET: &str = "whsec_d2FsaG9vayB0ZXN0cyBzaWduIHdpdGggdGhpcyBrZXk=";

/// Tries again soon and forever, so that no test waits for a schedule meant for production.
const RETRY: &str = "retry = { initial = '50ms', factor = 2.0, max = '500ms', \
                     give_up_after = '24h' }\n";

/// How long a command that ends by itself may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Workspace {
    dir: TempDir,
    slot: String,
    config: Table,
}

impl Workspace {
    /// A configuration for this database, with its name as slot and publication, that creates
    /// both; tables and endpoints are to be added.
    pub(crate) fn new(database: &Database) -> Workspace {
        let slot = database.name().to_owned();
        let workspace = Workspace { dir: tempfile::tempdir().unwrap(), slot, config: Table::new() };
        workspace.source(database).toml("[source]\ncreate = true")
    }

    /// Reads another database from now on, by the same slot name.
    pub(crate) fn source(mut self, database: &Database) -> Workspace {
        let mut source = Table::new();
        let url = database.url();
        for (key, value) in [
            ("url", url.as_str()),
            ("capture", database.capture().as_str()),
            ("slot", &self.slot),
            ("publication", &self.slot),
        ] {
            source.insert(key.to_owned(), Value::from(value));
        }
        let addition = Table::from_iter([("source".to_owned(), Value::Table(source))]);
        merge(&mut self.config, addition);
        self
    }

    pub(crate) fn table(self, name: &str, record: &str) -> Workspace {
        let table = [("name", name), ("record", record)];
        let table = table.map(|(key, value)| (key.to_owned(), Value::from(value)));
        self.push("table", Table::from_iter(table))
    }

    /// A table of which only some rows are wanted.
    pub(crate) fn filtered_table(self, name: &str, condition: &str) -> Workspace {
        let table = [("name", name), ("record", "record"), ("where", condition)];
        let table = table.map(|(key, value)| (key.to_owned(), Value::from(value)));
        self.push("table", Table::from_iter(table))
    }

    /// `more` is TOML: what this endpoint has beyond (or instead of) a name, a URL, the secret, a
    /// quick retry and `start = "earliest"`.
    pub(crate) fn endpoint(self, name: &str, url: &str, more: &str) -> Workspace {
        let mut endpoint: Table = toml::from_str(RETRY).unwrap();
        for (key, value) in
            [("name", name), ("url", url), ("secret", SECRET), ("start", "earliest")]
        {
            endpoint.insert(key.to_owned(), Value::from(value));
        }
        endpoint.extend(toml::from_str::<Table>(more).unwrap());
        self.push("endpoint", endpoint)
    }

    /// The same, but all about its secrets is in `more`.
    pub(crate) fn endpoint_without_secret(
        mut self,
        name: &str,
        url: &str,
        more: &str,
    ) -> Workspace {
        self = self.endpoint(name, url, more);
        if let Some(Value::Array(endpoints)) = self.config.get_mut("endpoint")
            && let Some(Value::Table(endpoint)) = endpoints.last_mut()
        {
            endpoint.remove("secret");
        }
        self
    }

    /// Adds to the configuration, or replaces single keys of it.
    pub(crate) fn toml(mut self, toml: &str) -> Workspace {
        merge(&mut self.config, toml::from_str(toml).unwrap());
        self
    }

    fn push(mut self, key: &str, table: Table) -> Workspace {
        let list = Value::Array(vec![Value::Table(table)]);
        merge(&mut self.config, Table::from_iter([(key.to_owned(), list)]));
        self
    }

    pub(crate) fn slot(&self) -> &str {
        self.config["source"]["slot"].as_str().unwrap()
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.dir.path().join("walhook.db")
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.path().join("walhook.toml")
    }

    /// `walhook <arguments> -c walhook.toml`, in this folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let config = self.config_path();
        fs::write(&config, self.config.to_string()).unwrap();
        let mut command = self.bare_command(arguments);
        command.arg("-c").arg(config);
        command
    }

    /// `walhook <arguments>`, in this folder.
    pub(crate) fn bare_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walhook"));
        command.args(arguments).current_dir(self.dir.path());
        for variable in
            ["RUST_LOG", "DATABASE_URL", "WALHOOK_CONFIG", "http_proxy", "HTTP_PROXY", "all_proxy"]
        {
            command.env_remove(variable);
        }
        if let Ok(level) = std::env::var("WALHOOK_TEST_LOG") {
            command.env("RUST_LOG", level);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Runs a command that is to end by itself.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        finish(self.command(arguments)).await
    }

    /// Starts the daemon and does not wait for it.
    pub(crate) fn spawn(&self) -> Daemon {
        Daemon::spawn(self.command(&["run"]))
    }

    /// Starts the daemon and waits until it follows the database.
    pub(crate) async fn start(&self, database: &Database) -> Daemon {
        let client = database.client().await;
        let capture = database.capture();
        let before = capture.reader(&client, self.slot()).await;
        let daemon = self.spawn();
        daemon.follows(capture, &client, self.slot(), before).await;
        daemon
    }
}

/// Waits for a command's end.
pub(crate) async fn finish(mut command: Command) -> Finished {
    let output = tokio::time::timeout(COMMAND_PATIENCE, command.output());
    let output = output.await.expect("the command does not end").unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn merge(into: &mut Table, addition: Table) {
    for (key, value) in addition {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => old.extend(new),
            (Some(Value::Array(old)), Value::Array(new)) => old.extend(new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

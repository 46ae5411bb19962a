//! A database with an outbox, and what is in it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use walhook::source::{
    OutboxPolicy, OutboxSpec, Progress, SourceError, SourceOptions, TableSpec, setup, teardown,
};

use crate::harness::Database;

const PATIENCE: Duration = Duration::from_secs(60);

/// Options for tables in `public`.
pub(super) fn outbox_options(tables: &[&str]) -> SourceOptions {
    SourceOptions {
        outbox: Some(OutboxSpec {
            notify: false,
            max_rows: 1_000_000,
            policy: OutboxPolicy::BlockNever,
            local_only: false,
            discard_unread: false,
        }),
        slot: "unused".to_owned(),
        publication: "unused".to_owned(),
        tables: tables.iter().map(|name| TableSpec::exact("public", *name)).collect(),
        failover: false,
        create: false,
    }
}

pub(super) struct World {
    database: Database,
}

impl World {
    pub(super) async fn new(tables: &str) -> World {
        let database = Database::create().await;
        database.execute(tables).await;
        World { database }
    }

    /// With an outbox for one table.
    pub(super) async fn of(tables: &str, spec: TableSpec) -> World {
        let world = World::new(tables).await;
        let mut options = outbox_options(&[]);
        options.tables.push(spec);
        world.set_up(&options).await.unwrap();
        world
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    pub(super) async fn client(&self) -> Client {
        self.database.client().await
    }

    /// Runs statements, each a transaction of its own.
    pub(super) async fn run(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    pub(super) async fn set_up(
        &self,
        options: &SourceOptions,
    ) -> Result<Vec<Progress>, SourceError> {
        let (client, watcher) = (self.client().await, self.client().await);
        let mut progress = Vec::new();
        let report = &mut |step| progress.push(step);
        setup::setup(&client, &watcher, options, PATIENCE, report).await?;
        Ok(progress)
    }

    pub(super) async fn tear_down(
        &self,
        options: &SourceOptions,
    ) -> Result<Vec<Progress>, SourceError> {
        let (client, watcher) = (self.client().await, self.client().await);
        let mut progress = Vec::new();
        let report = &mut |step| progress.push(step);
        teardown::teardown(&client, &watcher, options, PATIENCE, report).await?;
        Ok(progress)
    }

    /// A new role; roles are the cluster's.
    pub(super) async fn role(&self, attributes: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("role_{}_{}", self.database.name(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("create role {name} {attributes}")).await;
        name
    }

    /// Does something on a connection of this role.
    pub(super) async fn as_role(&self, role: &str, then: impl AsyncFnOnce(Client)) {
        let url = self.database.url().replace("postgres@", &format!("{role}@"));
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        then(client).await;
    }

    /// Takes the rows: operation, table and key.
    pub(super) async fn told(&self) -> Vec<String> {
        let rows =
            "o.op::text || ' ' || coalesce(o.table_name, '-') || ' ' || coalesce(o.key::text, '-')";
        self.take(rows).await
    }

    /// Takes the rows: operation, table, old and new row.
    pub(super) async fn rows(&self) -> Vec<String> {
        let rows =
            "concat_ws(' ', o.op, o.table_name, o.old, case when o.op = 'U' then '->' end, o.new)";
        self.take(rows).await
    }

    async fn take(&self, what: &str) -> Vec<String> {
        let sql = format!(
            "with taken as (delete from walhook.outbox returning *)
             select {what} from taken o order by o.id"
        );
        let rows = self.client().await.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

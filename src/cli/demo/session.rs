//! A writer's connection to the demo database.

use std::collections::HashMap;

use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, NoTls, Statement};

/// A connection that prepares each statement once.
pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    statements: HashMap<&'static str, Statement>,
}

impl Session {
    /// Connects to a server of this machine, hence without TLS.
    pub(super) async fn connect(url: &str) -> Result<Session, Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // Its errors reach the commands that wait for an answer.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Session { client, connection, statements: HashMap::new() })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn statement(&mut self, sql: &'static str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// How many rows the command changed.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        let statement = self.statement(sql).await?;
        self.client.execute(&statement, params).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

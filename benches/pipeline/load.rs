//! The rows: ten columns of the common kinds, about 500 bytes as an event.

use std::error::Error;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

pub(crate) const PUBLICATION: &str = "bench";

const TABLE: &str = "
create table people (
    id bigint primary key,
    first_name text not null,
    last_name text not null,
    email text not null,
    company_id integer not null,
    balance numeric(12, 2) not null,
    score double precision not null,
    active boolean not null,
    created_at timestamptz not null,
    attributes jsonb not null
);
create sequence people_ids;
create publication bench for table people;
create function person(n bigint) returns people language sql as $$
    select n, 'Adelheid', 'Winterbottom-' || n, 'adelheid.' || n || '@example.com',
           (n % 1000)::integer, (n % 100000) / 100.0, n / 7.0::float8, n % 2 = 0,
           now(), jsonb_build_object('plan', 'team', 'seats', n % 50, 'tags', '[\"a\", \"b\"]'::jsonb)
$$;
create procedure single_rows(rows integer) language plpgsql as $$
begin
    for n in 1..rows loop
        insert into people select p.* from person(nextval('people_ids')) p;
        commit;
    end loop;
end $$;
-- Rows made beforehand: to make one costs more than all the rest of its way.
create unlogged table people_to_come (like people including indexes);
-- Commits what is due, together. The server sleeps whole milliseconds, so beyond 1,000 rows a second
-- that is more than one.
create procedure paced(per_second integer, rows integer) language plpgsql as $$
declare
    first bigint := (select min(id) from people_to_come);
    started timestamptz := clock_timestamp();
    inserted integer := 0;
    due integer;
begin
    while inserted < rows loop
        due := 1 + floor(per_second * extract(epoch from clock_timestamp() - started))::integer;
        due := least(due, rows);
        if due > inserted then
            insert into people select * from people_to_come
                where id >= first + inserted and id < first + due;
            commit;
            inserted := due;
        else
            perform pg_sleep(inserted::float8 / per_second
                             - extract(epoch from clock_timestamp() - started));
        end if;
    end loop;
end $$;
create procedure single_updates(rows integer) language plpgsql as $$
declare
    newest bigint := (select max(id) from people);
begin
    for n in 1..rows loop
        update people set balance = balance + 1 where id = newest - n + 1;
        commit;
    end loop;
end $$;
";

pub(crate) async fn create(client: &Client) -> Result<(), Box<dyn Error>> {
    client.batch_execute("set client_min_messages = warning; set synchronous_commit = off").await?;
    client.batch_execute(TABLE).await?;
    Ok(())
}

/// `rows` transactions of one row each. Returns the end of the log.
pub(crate) async fn single_rows(client: &Client, rows: usize) -> Result<String, Box<dyn Error>> {
    client.batch_execute(&format!("call single_rows({rows})")).await?;
    log_end(client).await
}

/// Updates the newest `rows` rows, each in a transaction of its own.
pub(crate) async fn single_updates(client: &Client, rows: usize) -> Result<(), Box<dyn Error>> {
    client.batch_execute(&format!("call single_updates({rows})")).await?;
    log_end(client).await?;
    Ok(())
}

/// `count` events of the application's own, about 500 bytes each and each in a transaction of its
/// own, whose names take turns: `thing_0.done` to that of `names`, less one.
pub(crate) async fn messages(
    client: &Client,
    names: usize,
    count: usize,
) -> Result<(), Box<dyn Error>> {
    client
        .batch_execute(&format!(
            "do $$ begin for n in 0..{count} - 1 loop
                 perform pg_logical_emit_message(true, 'walhook', format(
                     '{{\"event\":\"thing_%s.done\",\"key\":%s,\"data\":\"%s\"}}',
                     n % {names}, n, repeat('x', 300)));
                 commit;
             end loop; end $$"
        ))
        .await?;
    log_end(client).await?;
    Ok(())
}

/// One transaction of `rows` rows. Returns the end of the log.
pub(crate) async fn one_large(client: &Client, rows: usize) -> Result<String, Box<dyn Error>> {
    client
        .batch_execute(&format!(
            "insert into people select (p).* from
             (select person(nextval('people_ids')) as p from generate_series(1, {rows}) offset 0) s"
        ))
        .await?;
    log_end(client).await
}

/// `rows` rows, each at its time: row `n` is due `n / per_second` seconds after the start, whatever
/// became of those before it, so that who comes late does not slow the load down. Those that are due
/// together are committed together. Says how long it took.
pub(crate) async fn paced(
    client: &Client,
    per_second: u32,
    rows: u32,
) -> Result<Duration, Box<dyn Error>> {
    client
        .batch_execute(&format!(
            "truncate people_to_come;
             insert into people_to_come select (p).* from
             (select person(nextval('people_ids')) as p from generate_series(1, {rows}) offset 0) s;
             analyze people_to_come"
        ))
        .await?;
    // The server sends only what is flushed; without the first, that is when the WAL writer gets to
    // it. Without the second, planning costs more than inserting.
    const SETTINGS: &str = "set synchronous_commit = on; set plan_cache_mode = force_generic_plan";
    client.batch_execute(SETTINGS).await?;
    let started = Instant::now();
    client.batch_execute(&format!("call paced({per_second}, {rows})")).await?;
    let took = started.elapsed();
    client.batch_execute("set synchronous_commit = off; reset plan_cache_mode").await?;
    Ok(took)
}

pub(crate) async fn log_end(client: &Client) -> Result<String, Box<dyn Error>> {
    // Flushed, so that the walsender sends all of it.
    client.batch_execute("set synchronous_commit = on").await?;
    client.query_one("select pg_logical_emit_message(true, 'bench', '')::text", &[]).await?;
    client.batch_execute("set synchronous_commit = off").await?;
    let row = client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await?;
    Ok(row.get(0))
}

pub(crate) async fn create_slot(client: &Client, slot: &str) -> Result<(), Box<dyn Error>> {
    let sql = "select pg_create_logical_replication_slot($1, 'pgoutput')::text";
    client.query_one(sql, &[&slot]).await?;
    Ok(())
}

pub(crate) async fn drop_slot(client: &Client, slot: &str) -> Result<(), Box<dyn Error>> {
    let sql = "select pg_drop_replication_slot($1)::text";
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match client.query_one(sql, &[&slot]).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            // The server has yet to notice that its reader went away.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

-- What the session $1 (a backend's pid) waits for: the transactions that block it. Process id 0
-- stands for a prepared transaction. Details of other roles' sessions are null without
-- pg_read_all_stats.
select b.pid,
       a.usename::text as role,
       nullif(a.application_name, '') as application,
       a.state,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as age_s,
       case when b.pid = 0 then (select min(x.gid) from pg_prepared_xacts x) end as prepared
from (select distinct unnest(pg_blocking_pids($1)) as pid) b
left join pg_stat_activity a on a.pid = b.pid
order by b.pid

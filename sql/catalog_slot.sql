-- One replication slot. Columns that only some servers have (16: conflicting, 17: failover, synced,
-- invalidation_reason, inactive_since) are read through the row's JSON, where a missing one is null.
select s.slot_name::text as name,
       s.plugin::text as plugin,
       s.slot_type::text as slot_type,
       s.database::text as database,
       s.temporary,
       s.active,
       s.active_pid,
       (select concat_ws(' at ', nullif(a.application_name, ''), host(a.client_addr))
        from pg_stat_activity a where a.pid = s.active_pid) as active_client,
       s.restart_lsn::text as restart_lsn,
       s.confirmed_flush_lsn::text as confirmed_flush_lsn,
       s.wal_status,
       s.safe_wal_size,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
            else pg_current_wal_lsn() end::text as current_wal_lsn,
       coalesce((j.row ->> 'two_phase')::bool, false) as two_phase,
       coalesce((j.row ->> 'failover')::bool, false) as failover,
       coalesce((j.row ->> 'synced')::bool, false) as synced,
       coalesce(j.row ->> 'invalidation_reason',
                case when (j.row ->> 'conflicting')::bool then 'conflicting' end)
           as invalidation_reason,
       j.row ->> 'inactive_since' as inactive_since
from pg_replication_slots s
cross join lateral (select to_jsonb(s) as row) j
where s.slot_name = $1

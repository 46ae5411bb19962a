-- Facts about the server, the database and the role walhook is logged in as. Settings are read
-- through pg_settings where their unit matters and through current_setting(..., true) where a server
-- may not know them; both are readable by every role.
select current_setting('server_version_num')::int4 as version_num,
       current_setting('server_version') as version,
       current_setting('wal_level') as wal_level,
       d.datname::text as database,
       d.oid as database_oid,
       pg_encoding_to_char(d.encoding)::text as encoding,
       pg_is_in_recovery() as in_recovery,
       current_setting('max_replication_slots')::int8 as max_replication_slots,
       (select count(*) from pg_replication_slots) as used_replication_slots,
       current_setting('max_wal_senders')::int8 as max_wal_senders,
       (select count(*) from pg_stat_replication) as used_wal_senders,
       (select s.setting::int8 from pg_settings s where s.name = 'max_slot_wal_keep_size')
           as max_slot_wal_keep_size_mb,
       (select s.setting::int8 from pg_settings s where s.name = 'wal_sender_timeout')
           as wal_sender_timeout_ms,
       nullif(current_setting('idle_replication_slot_timeout', true), '0')
           as idle_replication_slot_timeout,
       current_setting('synchronized_standby_slots', true) as synchronized_standby_slots,
       current_setting('sync_replication_slots', true)::bool as sync_replication_slots,
       r.rolname::text as role,
       r.rolsuper as role_superuser,
       -- RDS grants replication through a role instead of the attribute
       r.rolreplication or r.rolsuper or exists (
           select from pg_roles m
           where m.rolname = 'rds_replication' and pg_has_role(r.oid, m.oid, 'usage')
       ) as role_can_replicate,
       has_database_privilege(d.oid, 'create') as role_can_create
from pg_database d, pg_roles r
where d.datname = current_database()
  and r.rolname = current_user

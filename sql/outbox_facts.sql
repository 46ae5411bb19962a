-- What there is of the outbox, and what the role may do with it: one row. Also where there is none.
select n.oid is not null as has_schema,
       coalesce(pg_has_role(n.nspowner, 'usage'), false) as schema_owned,
       coalesce(has_schema_privilege(n.oid, 'create'), false) as may_create,
       coalesce(has_schema_privilege(n.oid, 'usage'), false) as may_use,
       pg_get_userbyid(n.nspowner)::text as owner,
       o.oid as outbox,
       coalesce(pg_has_role(o.relowner, 'usage'), false) as outbox_owned,
       coalesce(has_table_privilege(o.oid, 'select') and has_table_privilege(o.oid, 'delete'), false)
           as may_drain,
       s.oid as state,
       coalesce(has_table_privilege(s.oid, 'select'), false) as may_read_state,
       has_schema_privilege('pg_catalog', 'usage') and has_database_privilege(current_database(), 'create')
           as may_create_schema,
       -- whether nobody else has put anything there
       not exists (select from pg_class x where x.relnamespace = n.oid and x.relkind <> 'i'
                       and x.relname not in ('outbox', 'state', 'outbox_id_seq'))
           and not exists (select from pg_proc x where x.pronamespace = n.oid
                               and x.proname !~ '^(capture(_[0-9]+)?|shaped|rendered|bound|emit)$')
           as alone,
       -- what the triggers may do, who run with the rights of their function's owner
       coalesce(has_schema_privilege(f.proowner, n.oid, 'usage')
                and has_table_privilege(f.proowner, o.oid, 'insert'), true) as may_record,
       pg_get_userbyid(f.proowner)::text as recorder,
       coalesce(w.rolsuper, false) as recorder_is_superuser,
       current_setting('max_prepared_transactions') <> '0' as may_prepare,
       current_setting('lc_monetary') as monetary,
       -- who reads it: the key of that lock is the outbox itself
       (select l.pid from pg_locks l
        where l.locktype = 'advisory' and l.objsubid = 2 and l.granted and l.classid = o.oid
          and l.objid = 2003331889
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
        limit 1) as drained_by
from (select 1) one
left join pg_namespace n on n.nspname = 'walhook'
left join pg_class o on o.relnamespace = n.oid and o.relname = 'outbox' and o.relkind = 'r'
left join pg_class s on s.relnamespace = n.oid and s.relname = 'state' and s.relkind = 'r'
left join pg_proc f on f.pronamespace = n.oid and f.proname = 'capture' and f.pronargs = 0
left join pg_roles w on w.oid = f.proowner

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
                               and x.proname !~ '^(capture(_[0-9]+)?|shaped|bound|emit)$')
           as alone,
       -- who reads it: the key of that lock is the outbox itself
       (select l.pid from pg_locks l
        where l.locktype = 'advisory' and l.objsubid = 2 and l.granted and l.classid = o.oid
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
        limit 1) as drained_by,
       -- where a filter's own words may be looked up: not where anybody may put an operator
       array(select p.name from unnest(current_schemas(false)) with ordinality p (name, place)
             join pg_namespace x on x.nspname = p.name
             where p.name <> 'pg_catalog'
               and not exists (select from aclexplode(coalesce(x.nspacl, acldefault('n', x.nspowner))) a
                               where a.grantee = 0 and a.privilege_type = 'CREATE')
             order by p.place)::text[] as search_path
from (select 1) one
left join pg_namespace n on n.nspname = 'walhook'
left join pg_class o on o.relnamespace = n.oid and o.relname = 'outbox' and o.relkind = 'r'
left join pg_class s on s.relnamespace = n.oid and s.relname = 'state' and s.relkind = 'r'

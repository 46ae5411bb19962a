-- The functions of the schema walhook.
select p.proname::text as name,
       pg_get_function_identity_arguments(p.oid) as arguments,
       p.prosrc as body,
       coalesce(p.proconfig, '{}') as settings,
       pg_has_role(p.proowner, 'usage') as owned,
       has_function_privilege(p.oid, 'execute') as may_execute
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'walhook'
order by p.proname

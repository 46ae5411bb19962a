-- Where the words of a row filter may be looked up by a trigger, which runs with its owner's rights:
-- in the session's schemas but for those where anybody may put an operator.
select current_setting('search_path') as session,
       array(select p.name from unnest(current_schemas(false)) with ordinality p (name, place)
             join pg_namespace x on x.nspname = p.name
             where p.name <> 'pg_catalog'
               and not exists (select from aclexplode(coalesce(x.nspacl, acldefault('n', x.nspowner))) a
                               where a.grantee = 0 and a.privilege_type = 'CREATE')
             order by p.place)::text[] as trusted

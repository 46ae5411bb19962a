-- The tables a publication ($1, its oid) names; 14 knows neither row filters nor column lists.
select r.oid,
       n.nspname::text as schema,
       c.relname::text as name,
       null::text as row_filter,
       null::text[] as column_list
from pg_publication_rel r
join pg_class c on c.oid = r.prrelid
join pg_namespace n on n.oid = c.relnamespace
where r.prpubid = $1
order by n.nspname, c.relname

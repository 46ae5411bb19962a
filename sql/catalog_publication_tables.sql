-- The tables a publication ($1, its oid) names. Row filters and column lists (15) are read through
-- the row's JSON, where a missing one is null.
select n.nspname::text as schema,
       c.relname::text as name,
       to_jsonb(r) ->> 'prqual' is not null as row_filter,
       to_jsonb(r) ->> 'prattrs' is not null as column_list
from pg_publication_rel r
join pg_class c on c.oid = r.prrelid
join pg_namespace n on n.oid = c.relnamespace
where r.prpubid = $1
order by n.nspname, c.relname

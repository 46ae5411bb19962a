-- The tables a publication ($1, its oid) names, with their row filters and column lists (15 and
-- newer).
select r.oid,
       n.nspname::text as schema,
       c.relname::text as name,
       pg_get_expr(r.prqual, r.prrelid) as row_filter,
       case when r.prattrs is not null then array(
           select a.attname::text
           from pg_attribute a
           where a.attrelid = r.prrelid and a.attnum = any (r.prattrs::int2[])
           order by a.attnum)
       end as column_list
from pg_publication_rel r
join pg_class c on c.oid = r.prrelid
join pg_namespace n on n.oid = c.relnamespace
where r.prpubid = $1
order by n.nspname, c.relname

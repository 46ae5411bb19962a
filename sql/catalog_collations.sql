-- The collations of table $1's columns of these names ($2) and types ($3), but for the database's
-- own, as SQL writes them.
select a.attname::text as name,
       quote_ident(n.nspname) || '.' || quote_ident(c.collname) as collation
from unnest($2::text[], $3::oid[]) wanted (name, type)
join pg_attribute a on a.attrelid = $1::oid and a.attname = wanted.name and a.atttypid = wanted.type
join pg_collation c on c.oid = a.attcollation
join pg_namespace n on n.oid = c.collnamespace
where a.attnum > 0 and not a.attisdropped and c.collprovider <> 'd'

-- Columns of the tables $1 (oid[]), in the table's own order.
select a.attrelid as relation,
       a.attname::text as name,
       a.atttypid as type_oid,
       format_type(a.atttypid, a.atttypmod) as type_name,
       a.attgenerated <> '' as generated,
       a.attgenerated = 'v' as is_virtual
from pg_attribute a
where a.attrelid = any ($1::oid[])
  and a.attnum > 0
  and not a.attisdropped
order by a.attrelid, a.attnum

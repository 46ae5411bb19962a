-- The numbers of drain_columns.sql alone.
select a.attrelid as relation,
       bit_xor(hashtextextended(a.attname::text, a.atttypid::int8)) as digest
from pg_attribute a
where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
group by a.attrelid

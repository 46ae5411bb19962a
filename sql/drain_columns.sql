-- The columns of the tables $1 (oid[]), with a number for each table that is another when its columns
-- are.
select a.attrelid as relation,
       a.attname::text as name,
       a.atttypid as type_oid,
       bit_xor(hashtextextended(a.attname::text, a.atttypid::int8))
           over (partition by a.attrelid) as digest,
       -- virtual generated columns: triggers see null there, whatever the value is
       a.attgenerated = 'v' as unseen
from pg_attribute a
where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum

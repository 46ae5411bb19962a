-- The names of the primary key's columns of the table $1 (oid), in the key's order.
select a.attname::text as name
from pg_index x
cross join lateral unnest(x.indkey::int2[]) with ordinality k (attnum, place)
join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum
where x.indrelid = $1::oid and x.indisprimary and k.place <= x.indnkeyatts
order by k.place

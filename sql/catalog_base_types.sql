-- The types $1 (oid[]) that exist, and what each is at bottom: of a domain its base type, of any
-- other type itself.
with recursive step (oid, base) as (
    select t.oid, t.oid from pg_type t where t.oid = any ($1::oid[])
    union
    select s.oid, t.typbasetype
    from step s
    join pg_type t on t.oid = s.base
    where t.typtype = 'd'
)
select s.oid, s.base
from step s
join pg_type t on t.oid = s.base
where t.typtype <> 'd'

-- The types $1 (oid[]) and every type they are made of: a domain's base type, an array's element, a
-- composite's attributes. UNION, not UNION ALL, so that a type met twice ends the walk.
with recursive reached (oid) as (
    select distinct unnest($1::oid[])
    union
    select part.oid
    from reached r
    join pg_type t on t.oid = r.oid
    cross join lateral (
        select t.typbasetype where t.typtype = 'd'
        union all
        select t.typelem
        where t.typelem <> 0 and t.typsubscript = 'array_subscript_handler'::regproc
        union all
        select a.atttypid
        from pg_attribute a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0
          and not a.attisdropped
    ) part (oid)
)
select t.oid,
       case when t.typtype = 'd' then t.typbasetype end as base,
       case when t.typelem <> 0 and t.typsubscript = 'array_subscript_handler'::regproc
           then t.typelem end as element,
       -- an array's own typdelim is its element type's
       t.typdelim::text as delimiter,
       case when t.typtype = 'c' then array(
           select a.attname::text from pg_attribute a
           where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
           order by a.attnum) end as attribute_names,
       case when t.typtype = 'c' then array(
           select a.atttypid from pg_attribute a
           where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
           order by a.attnum) end as attribute_types
from reached r
join pg_type t on t.oid = r.oid

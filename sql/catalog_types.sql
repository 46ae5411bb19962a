-- The types $1 (oid[]) and every type they are made of: a domain's base type, an array's element, a
-- composite's attributes; as seen by the reader of slot $2. UNION, not UNION ALL, so that a type met
-- twice ends the walk.
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
), horizon (xmin_age) as (
    -- What came before it was finished before any change that the slot still has to send.
    select age(s.catalog_xmin) from pg_replication_slots s where s.slot_name = $2::text
)
select t.oid,
       case when t.typtype = 'd' then t.typbasetype end as base,
       case when t.typelem <> 0 and t.typsubscript = 'array_subscript_handler'::regproc
           then t.typelem end as element,
       -- an array's own typdelim is its element type's
       t.typdelim::text as delimiter,
       attributes.names as attribute_names,
       attributes.types as attribute_types,
       attributes.numbers as attribute_numbers,
       -- Whether the attributes have been the same ones since before the slot's next change.
       coalesce(attributes.youngest > (select h.xmin_age from horizon h), true) as settled,
       -- The log's end, taken after the snapshot: no change of the catalog beyond it was seen.
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
            else pg_current_wal_insert_lsn() end::text as end_lsn
from reached r
join pg_type t on t.oid = r.oid
left join lateral (
    select coalesce(array_agg(a.attname::text order by a.attnum) filter (where not a.attisdropped),
                    '{}') as names,
           coalesce(array_agg(a.atttypid order by a.attnum) filter (where not a.attisdropped),
                    '{}') as types,
           coalesce(array_agg(a.attnum order by a.attnum) filter (where not a.attisdropped),
                    '{}') as numbers,
           min(age(a.xmin)) as youngest
    from pg_attribute a
    where a.attrelid = t.typrelid and a.attnum > 0
) attributes on t.typtype = 'c'

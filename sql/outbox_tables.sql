-- Of the tables $1 (oid[]): whether the role may put triggers on them, and the columns whose type
-- has a cast to json, which row_to_json would use, where that cast is not the type's own text: of
-- domains and arrays what these are made of.
select c.oid,
       has_table_privilege(c.oid, 'trigger') as may_trigger,
       array(
           select a.attname::text
           from pg_attribute a
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             and exists (
                 with recursive reached (oid) as (
                     select a.atttypid
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
                         select x.atttypid from pg_attribute x
                         where t.typtype = 'c' and x.attrelid = t.typrelid and x.attnum > 0
                           and not x.attisdropped
                     ) part (oid)
                 )
                 select from reached r
                 -- composite types and arrays are rendered part by part, whatever casts there are
                 join pg_type t on t.oid = r.oid and t.typtype not in ('c', 'd')
                     and t.typsubscript <> 'array_subscript_handler'::regproc
                 join pg_cast k on k.castsource = r.oid and k.casttarget = 'json'::regtype
                     and k.castmethod = 'f'
                 -- of a builtin type, no cast is looked for
                 where r.oid >= 16384)
           order by a.attnum) as texts,
       -- which it has of the types whose text depends on more than datestyle and the like: money on
       -- lc_monetary, names of things on the search_path
       array(
           with recursive reached (oid) as (
               select a.atttypid from pg_attribute a
               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
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
                   select g.rngsubtype from pg_range g where g.rngtypid = t.oid
                   union all
                   select x.atttypid from pg_attribute x
                   where t.typtype = 'c' and x.attrelid = t.typrelid and x.attnum > 0
                     and not x.attisdropped
               ) part (oid)
           )
           select t.typname::text
           from reached r
           join pg_type t on t.oid = r.oid and t.oid < 16384 and t.typname ~ '^(money|reg[a-z]+)$'
           order by 1) as special,
       o.rolsuper as owner_is_superuser
from pg_class c
join pg_roles o on o.oid = c.relowner
where c.oid = any ($1::oid[])

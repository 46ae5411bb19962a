-- Everything a user may take for a table, with what decides whether its changes can be published.
-- $1, $2 text[]: schemas and names, pairwise, to look at; null for all.
with recursive chosen as (
    select c.oid, c.relname, c.relnamespace, c.relkind, c.relpersistence, c.relispartition,
           c.relreplident, c.relowner, c.relhassubclass, n.nspname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
      and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
      and not pg_is_other_temp_schema(n.oid)
      and ($1::text[] is null
           or (n.nspname::text, c.relname::text) in (select * from unnest($1::text[], $2::text[])))
),
-- The relations an UPDATE touches in the end: a partitioned table's leaves, or the table itself.
leaves as (
    select oid as root, oid, relkind, relreplident from chosen where relkind in ('r', 'p')
    union all
    select l.root, c.oid, c.relkind, c.relreplident
    from leaves l
    join pg_inherits i on i.inhparent = l.oid
    join pg_class c on c.oid = i.inhrelid
    where l.relkind = 'p'
),
-- As Postgres decides it (RelationGetReplicaIndex, CheckCmdReplicaIdentity): the primary key counts
-- only when it is not deferrable, an identity index only while it exists and is valid.
identity as (
    select l.root,
           bool_and(case l.relreplident
               when 'f' then true
               when 'd' then exists (
                   select from pg_index x
                   where x.indrelid = l.oid and x.indisprimary and x.indimmediate and x.indisvalid)
               when 'i' then exists (
                   select from pg_index x
                   where x.indrelid = l.oid and x.indisreplident and x.indimmediate
                     and x.indisvalid)
               else false
           end) filter (where l.relkind = 'r'
                           -- before 15 the partitioned table itself was checked too
                           or l.relkind = 'p' and l.oid = l.root
                              and current_setting('server_version_num')::int4 < 150000
                           or l.relkind = 'p' and not exists (
                               select from pg_inherits i where i.inhparent = l.oid)) as usable,
           -- 's' or 'v' if generated columns are part of it, 'v' if any of those is not stored
           max(g.kind) filter (where l.relkind = 'r') as generated
    from leaves l
    left join lateral (
        select max(a.attgenerated::text) as kind
        from pg_attribute a
        where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> ''
          and (l.relreplident = 'f' or exists (
              select from pg_index x
              where x.indrelid = l.oid and a.attnum = any (x.indkey::int2[])
                and (l.relreplident = 'd' and x.indisprimary
                     or l.relreplident = 'i' and x.indisreplident)))
    ) g on true
    group by l.root
),
-- What old rows contain at least: each column of an identity, by the row it lies in.
identity_columns as (
    select l.root, l.oid, l.relreplident = 'f' as is_full, a.attname::text as name
    from leaves l
    join pg_attribute a on a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped
    where l.relkind = 'r'
      and (l.relreplident = 'f'
           or exists (
               select from pg_index x
               where x.indrelid = l.oid and x.indimmediate and x.indisvalid
                 and (l.relreplident = 'd' and x.indisprimary
                      or l.relreplident = 'i' and x.indisreplident)
                 and a.attnum = any ((x.indkey::int2[])[0:x.indnkeyatts - 1])))
),
rows_in as (
    select root, count(*) as relations, bool_or(relreplident = 'f') as any_full
    from leaves where relkind = 'r' group by root
),
published as materialized (
    select schemaname, tablename, array_agg(pubname::text order by pubname) as publications
    from pg_publication_tables
    group by schemaname, tablename
)
select t.oid,
       t.nspname::text as schema,
       t.relname::text as name,
       t.relkind::text as kind,
       t.relpersistence::text as persistence,
       t.relispartition as is_partition,
       t.relreplident::text as replica_identity,
       coalesce(d.usable, false) as identity_usable,
       d.generated as identity_generated,
       coalesce(w.any_full, false) as identity_full,
       coalesce(w.relations, 0) as relations,
       array(
           select i.name from identity_columns i where i.root = t.oid
           group by i.name having count(*) = w.relations order by i.name
       ) as identity_columns,
       array(
           select distinct i.name from identity_columns i where i.root = t.oid and not i.is_full
           order by i.name
       ) as identity_keys,
       pg_has_role(t.relowner, 'usage') as owned,
       pg_get_userbyid(t.relowner)::text as owner,
       t.relkind = 'r' and t.relhassubclass
           and exists (select from pg_inherits i where i.inhparent = t.oid) as has_children,
       exists (
           select from pg_index x
           where x.indrelid = t.oid and x.indisprimary and not x.indimmediate
       ) as primary_key_deferrable,
       array(
           select a.attname::text
           from pg_index x
           cross join lateral unnest(x.indkey::int2[]) with ordinality k (attnum, place)
           join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum
           where x.indrelid = t.oid and x.indisprimary and k.place <= x.indnkeyatts
           order by k.place
       ) as primary_key,
       array(
           -- always in quotes, as walhook writes names
           select '"' || replace(rn.nspname, '"', '""') || '"."' || replace(rc.relname, '"', '""')
               || '"'
           from pg_partition_ancestors(t.oid) with ordinality a (oid, distance)
           join pg_class rc on rc.oid = a.oid
           join pg_namespace rn on rn.oid = rc.relnamespace
           where t.relispartition and a.oid <> t.oid
           order by a.distance
       ) as ancestors,
       coalesce(p.publications, '{}') as published_in
from chosen t
left join identity d on d.root = t.oid
left join rows_in w on w.root = t.oid
left join published p on p.schemaname = t.nspname and p.tablename = t.relname
order by t.nspname, t.relname

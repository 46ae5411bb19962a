-- The triggers that call a function of the schema walhook, without their copies on partitions. The
-- arguments are in the catalog with a zero byte behind each.
select t.tgrelid as relation,
       n.nspname::text as schema,
       c.relname::text as name,
       t.tgname::text as trigger,
       p.proname::text as function,
       t.tgtype::int4 as kind,
       t.tgenabled::text as enabled,
       pg_has_role(c.relowner, 'usage') as owned,
       pg_get_userbyid(c.relowner)::text as owner,
       array(select convert_from(decode(a.part, 'escape'), getdatabaseencoding())
             from unnest(string_to_array(encode(t.tgargs, 'escape'), E'\\000')) with ordinality a (part, place)
             where a.place <= t.tgnargs order by a.place) as arguments,
       -- copies that were switched off by themselves
       array(select b.oid::regclass::text from pg_trigger x join pg_class b on b.oid = x.tgrelid
             where x.tgname = t.tgname and x.tgparentid <> 0 and x.tgfoid = t.tgfoid
               and x.tgenabled <> t.tgenabled
               and x.tgrelid in (select i.relid from pg_partition_tree(t.tgrelid) i)
             order by 1) as odd_partitions
from pg_trigger t
join pg_proc p on p.oid = t.tgfoid
join pg_namespace w on w.oid = p.pronamespace and w.nspname = 'walhook'
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
where t.tgparentid = 0 and not t.tgisinternal
order by n.nspname, c.relname, t.tgname

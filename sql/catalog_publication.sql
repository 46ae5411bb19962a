-- One publication; the lists of what it names are read separately, since FOR TABLES IN SCHEMA
-- exists from 15 on.
select p.oid,
       p.puballtables as all_tables,
       p.pubinsert as "insert",
       p.pubupdate as "update",
       p.pubdelete as "delete",
       p.pubtruncate as "truncate",
       p.pubviaroot as via_root,
       -- from 18 on
       coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) as generated_stored,
       obj_description(p.oid, 'pg_publication') as comment,
       pg_get_userbyid(p.pubowner)::text as owner,
       pg_has_role(p.pubowner, 'usage') as owned,
       current_setting('server_version_num')::int4 as version_num
from pg_publication p
where p.pubname = $1

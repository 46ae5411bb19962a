-- The schemas a publication ($1, its oid) names as a whole (15 and newer).
select n.nspname::text as schema
from pg_publication_namespace s
join pg_namespace n on n.oid = s.pnnspid
where s.pnpubid = $1
order by n.nspname

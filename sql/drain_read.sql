-- The lowest rows of the outbox above the number $3, but those with the numbers $4 (int8[]); at most $1
-- of them and of about $2 bytes together, but at least one. What is compressed counts tenfold: its real
-- size would have to be unpacked to be known. Each says which process of the server has read it.
select r.id, r.tableoid, r.op, r.xid, r.ordinal, r.written_at, r.lsn,
       r.relation, r.schema_name, r.table_name, r.key, r.old, r.new, pg_backend_pid()
from (
    select o.*,
           sum(pg_column_size(o.old)::int8
                   * case when pg_column_compression(o.old) is null then 1 else 10 end)
               over before as old_before,
           sum(pg_column_size(o.new)::int8
                   * case when pg_column_compression(o.new) is null then 1 else 10 end)
               over before as new_before
    from (
        select q.tableoid, q.* from walhook.outbox q
        where q.id > $3::int8 and q.id not in (select unnest($4::int8[]))
        order by q.id limit $1::int8
    ) o
    window before as (order by o.id rows between unbounded preceding and 1 preceding)
) r
where coalesce(r.old_before, 0) + coalesce(r.new_before, 0) < $2::int8
order by r.id

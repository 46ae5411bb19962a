-- Deletes, and gives the numbers of, the rows of the outbox $4 (oid) with the numbers $1 (int8[]) if they are of the transactions
-- $2 (xid8[]) and were written at $3 (timestamptz[]): after a restore, or in an outbox made anew or
-- emptied by hand meanwhile, others may have those numbers. They are found by the number alone, and
-- compared then: as a join, the planner might look through all of what it takes for an empty table.
delete from walhook.outbox o
where o.id = any ($1::int8[])
  and o.tableoid = $4::oid
  and ((o.id, o.xid, o.written_at) in (
      select t.id, t.xid, t.written_at
      from unnest($1::int8[], $2::xid8[], $3::timestamptz[]) t (id, xid, written_at)
  )) is true
returning o.id

-- Deletes the rows of the outbox with the numbers $1 (int8[]) if they are of the transactions $2
-- (int8[]) and were written at $3 (int8[], microseconds since the Unix epoch): after a restore, or in
-- an outbox made anew, others may have those numbers.
delete from walhook.outbox o
using unnest($1::int8[], $2::int8[], $3::int8[]) t (id, xid, written_at_us)
where o.id = t.id
  and o.xid::text = t.xid::text
  and (extract(epoch from o.written_at) * 1000000)::int8 = t.written_at_us

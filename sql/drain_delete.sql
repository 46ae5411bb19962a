-- Deletes the rows of the outbox with the numbers $1 (int8[]).
delete from walhook.outbox where id = any ($1::int8[])

-- What the trigger function of outbox_capture.sql needs. To be run before that.

-- A rendered row with the columns that are wanted, some of them as text: those of a type that has a
-- cast to json, which row_to_json uses and logical replication does not know of.
create or replace function walhook.shaped(source anyelement, rendered json, options jsonb)
returns json
language plpgsql
as $shaped$
declare
    only_these text[];
    but_these text[];
    texts jsonb := '{}';
    column_name text;
    shown text;
begin
    if options ? 'only' then
        only_these := array(select jsonb_array_elements_text(options -> 'only'));
    end if;
    if options ? 'except' then
        but_these := array(select jsonb_array_elements_text(options -> 'except'));
    end if;
    for column_name in select jsonb_array_elements_text(options -> 'text') loop
        if json_typeof(rendered -> column_name) is not null then
            execute format('select case when num_nulls(($1).%1$I) = 0 '
                           'then format(''%%s'', ($1).%1$I) end', column_name)
                into shown using source;
            if shown is not null then
                texts := texts || jsonb_build_object(column_name, shown);
            end if;
        end if;
    end loop;
    return (
        select coalesce(json_object_agg(e.key, coalesce((texts -> e.key)::text::json, e.value)), '{}')
        from json_each(rendered) e
        where (only_these is null or e.key = any (only_these))
          and (but_these is null or e.key <> all (but_these)));
end
$shaped$;
revoke all on function walhook.shaped(anyelement, json, jsonb) from public;

-- A row as JSON where that depends on more settings than those of the trigger function: with names
-- as nobody's search_path has them, and with the lc_monetary given.
create or replace function walhook.rendered(source anyelement, monetary text) returns json
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = 'off'
set lc_monetary = 'C'
as $rendered$
begin
    if monetary is not null then
        perform set_config('lc_monetary', monetary, true);
    end if;
    return row_to_json(source);
end
$rendered$;
revoke all on function walhook.rendered(anyelement, text) from public;

-- Drops the oldest rows where more wait than may, a step at a time, and writes down which. Never so
-- many that less than a step below that number would be left: not two sessions at once, and none
-- before the other's transaction has ended. Looks at the numbers at both ends first, which costs
-- nothing: as long as these are closer together, there are not too many.
create or replace function walhook.bound() returns void
language plpgsql
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $bound$
declare
    most bigint := (select s.max_rows from walhook.state s);
    step bigint := greatest(1, least(1000, most / 10));
    outbox oid;
    lowest bigint;
    highest bigint;
    surplus bigint;
    oldest bigint;
    dropped bigint;
    numbers json;
begin
    -- In a serializable transaction, to read here would be a conflict with all that write.
    if most is null or current_setting('transaction_isolation') = 'serializable' then
        return;
    end if;
    lowest := (select min(o.id) from walhook.outbox o);
    highest := (select max(o.id) from walhook.outbox o);
    if lowest is null or highest - lowest < most then
        return;
    end if;
    outbox := 'walhook.outbox'::regclass;
    if not pg_try_advisory_xact_lock(outbox::int, 2003331890) then
        return;
    end if;
    -- Numbers that were rolled back leave gaps.
    if most <= 20000 then
        surplus := (select count(*) from (
            select from walhook.outbox o where o.op <> 'L' limit most + 2000) o) - most;
    else
        -- Of many, samples are counted, and a twentieth is left for what these do not show.
        lowest := (select min(o.id) from walhook.outbox o);
        surplus := (
            select sum(n.rows) * (highest - lowest) / (50 * 40)
            from generate_series(0, 49) part,
                 lateral (select count(*) as rows from walhook.outbox o
                          where o.id >= lowest + (highest - lowest) / 50 * part
                            and o.id < lowest + (highest - lowest) / 50 * part + 40) n
            ) - most - most / 20;
    end if;
    if surplus <= 0 then
        return;
    end if;
    -- What a reader may have taken by now is not dropped, but what comes next: it takes 2000 at most.
    if exists (select from pg_locks l
               where l.locktype = 'advisory' and l.classid = outbox and l.objid = 2003331889
                 and l.objsubid = 2 and l.granted
                 and l.database = (select d.oid from pg_database d
                                   where d.datname = current_database()))
    then
        oldest := (select o.id from walhook.outbox o where o.op <> 'L' order by o.id
                   offset least(4000, most / 2) limit 1);
    end if;
    with gone as (
        delete from walhook.outbox d
        where d.id = any (array(
            select o.id from walhook.outbox o
            where o.op <> 'L' and o.id >= coalesce(oldest, lowest) order by o.id
            limit least(surplus + step, 2000) for update skip locked))
        returning d.id
    ), counted as (
        select g.id, g.id - row_number() over (order by g.id) as run from gone g
    ), runs as (
        select min(c.id) as first, max(c.id) as last, count(*) as n from counted c group by c.run
    )
    select sum(r.n), json_agg(json_build_array(r.first, r.last)) into dropped, numbers from runs r;
    if dropped > 0 then
        -- Which they were: the reader may have taken some, and counts those as told.
        insert into walhook.outbox (op, ordinal, new)
            values ('L', 0, json_build_object('dropped', dropped, 'numbers', numbers));
    end if;
exception when others then
    -- It is tried again soon.
    return;
end
$bound$;
revoke all on function walhook.bound() from public;

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

-- Drops the oldest rows beyond the most that may wait, a few at a time. Looks at the numbers at both
-- ends first, which costs nothing: as long as these are closer together, there are not too many.
create or replace function walhook.bound() returns void
language plpgsql
as $bound$
declare
    most bigint := (select s.max_rows from walhook.state s);
    waiting bigint;
    dropped bigint;
begin
    if most is null then
        return;
    end if;
    waiting := (select max(o.id) from walhook.outbox o) - (select min(o.id) from walhook.outbox o) + 1;
    if waiting is null or waiting <= most then
        return;
    end if;
    -- Numbers that were rolled back leave gaps.
    if most <= 100000 then
        waiting := (select count(*) from (select from walhook.outbox limit most + 10000) o);
    else
        waiting := least(waiting, pg_stat_get_live_tuples('walhook.outbox'::regclass));
    end if;
    if waiting <= most then
        return;
    end if;
    delete from walhook.outbox d
        where d.id = any (array(
            select o.id from walhook.outbox o where o.op <> 'L' order by o.id
            limit least(waiting - most, 2000) for update skip locked));
    get diagnostics dropped = row_count;
    if dropped > 0 then
        insert into walhook.outbox (op, ordinal, new)
            values ('L', 0, json_build_object('dropped', dropped));
    end if;
exception when others then
    -- It is tried again soon.
    return;
end
$bound$;
revoke all on function walhook.bound() from public;

-- What the stream of row changes cannot tell, told by logical messages inside the same transactions:
-- a table that went or was renamed, and what a table holds after its definition changed (a rewrite,
-- a new column's default and a changed type make no row changes). Also gives every new table a
-- replica identity, and says before a table is dropped or altered what it holds, so that what the
-- events made of it can be compared while it is still there.

create schema walhook_watch;

-- Unlogged: their own changes are not in the stream.
create unlogged table walhook_watch.tables (
    oid oid primary key,
    schema text not null,
    name text not null,
    shape text not null
);
create unlogged table walhook_watch.rewritten (oid oid);

-- The tables whose changes are in the stream.
create view walhook_watch.current as
select c.oid, n.nspname::text as schema, c.relname::text as name, c.relreplident as identity
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence = 'p' and c.oid >= 16384;

-- What decides how rows look: columns, and behind them composite types and the labels of enums.
create function walhook_watch.shape(watched oid) returns text
language sql stable set search_path = pg_catalog as $$
    with recursive used (typ) as (
        select atttypid from pg_attribute
        where attrelid = watched and attnum > 0 and atttypid >= 16384
        union
        select part.typ
        from used u
        join pg_type t on t.oid = u.typ
        cross join lateral (
            select t.typbasetype as typ
            union all select t.typelem
            union all select a.atttypid from pg_attribute a
                where t.typrelid <> 0 and a.attrelid = t.typrelid and a.attnum > 0
            union all select r.rngsubtype from pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
        ) part
        where part.typ >= 16384
    )
    select coalesce(
        (select string_agg(
            concat_ws(' ', a.attnum, a.attname, a.atttypid, a.attisdropped, a.attgenerated), ','
            order by a.attnum)
         from pg_attribute a where a.attrelid = watched and a.attnum > 0), '')
    || coalesce(
        (select string_agg(concat_ws(' ', t.typname, a.attname, a.atttypid, a.attisdropped), ','
            order by t.oid, a.attnum)
         from used u join pg_type t on t.oid = u.typ join pg_attribute a on a.attrelid = t.typrelid
         where t.typrelid <> 0 and a.attnum > 0), '')
    || coalesce(
        (select string_agg(e.oid || e.enumlabel, ',' order by e.oid)
         from used u join pg_enum e on e.enumtypid = u.typ), '')
$$;

-- A table's rows as a JSON array, without generated columns. Where jsonb cannot hold a value that
-- json can (\u0000), json does.
create function walhook_watch.rows(watched oid) returns text
language plpgsql as $$
declare
    generated text[] := array(
        select attname::text from pg_attribute
        where attrelid = watched and attnum > 0 and attgenerated <> '');
    chosen text := (
        select coalesce(string_agg(format('"walhook row".%I', attname), ', ' order by attnum), '')
        from pg_attribute
        where attrelid = watched and attnum > 0 and not attisdropped and attgenerated = '');
    source text := (
        select format('only %I.%I "walhook row"', schema, name)
        from walhook_watch.current where oid = watched);
    rows text;
begin
    execute 'select jsonb_agg(to_jsonb("walhook row") - $1)::text from ' || source
        into rows using generated;
    return coalesce(rows, '[]');
exception when untranslatable_character then
    execute format('select json_agg(row_to_json(x)) from %s cross join lateral (select %s) x',
        source, chosen) into rows;
    return coalesce(rows, '[]');
end $$;

-- The server orders a message by the end of its record, which is where the next record begins: one
-- sent inside a subtransaction (an EXCEPTION block is one) may come after the next row change. The
-- second message, which walhook leaves out, is that next record.
create function walhook_watch.tell(event text, told_schema text, told_name text, rows text)
returns void language sql as $$
    select pg_logical_emit_message(true, 'walhook', format(
        '{"event":"regress.%s","data":{"schema":%s,"table":%s,"rows":%s}}',
        event, to_json(told_schema), to_json(told_name), rows));
    select pg_logical_emit_message(true, 'padding', '')
$$;

-- Content of one table; that it cannot be read (its type's output function is gone, say) is told too.
create function walhook_watch.tell_rows(event text, watched oid, told_schema text, told_name text)
returns void language plpgsql as $$
begin
    perform walhook_watch.tell(event, told_schema, told_name, walhook_watch.rows(watched));
exception when others then
    if event <> 'check' then
        perform walhook_watch.tell('unreadable', told_schema, told_name, to_json(sqlerrm)::text);
    end if;
end $$;

-- Compares what was known with what is there, and tells the differences. `touched`: tables whose
-- definition may have changed.
create function walhook_watch.look(touched oid[]) returns void
language plpgsql as $$
declare
    t record;
    fresh boolean;
    new_shape text;
begin
    for t in
        select k.oid, k.schema, k.name, c.oid is null as gone
        from walhook_watch.tables k
        left join walhook_watch.current c using (oid)
        where c.oid is null or (c.schema, c.name) <> (k.schema, k.name)
    loop
        perform walhook_watch.tell('forget', t.schema, t.name, 'null');
        if t.gone then
            delete from walhook_watch.tables where oid = t.oid;
        else
            update walhook_watch.tables set shape = 'moved' where oid = t.oid;
        end if;
    end loop;
    for t in
        select c.*, k.oid is null as created, k.shape
        from walhook_watch.current c
        left join walhook_watch.tables k using (oid)
        where k.oid is null or k.shape = 'moved' or c.identity <> 'f' or c.oid = any (touched)
            or c.oid in (select r.oid from walhook_watch.rewritten r)
        order by c.oid
    loop
        if t.identity <> 'f' then
            begin
                execute format('alter table only %I.%I replica identity full', t.schema, t.name);
            exception when others then null; -- tried again at the next command
            end;
        end if;
        fresh := not exists (select from walhook_watch.rewritten r where r.oid = t.oid);
        if t.created and fresh then
            -- CREATE TABLE AS has made row changes already.
            perform walhook_watch.tell_rows('check', t.oid, t.schema, t.name);
        elsif not fresh or t.shape is distinct from walhook_watch.shape(t.oid) then
            perform walhook_watch.tell_rows('content', t.oid, t.schema, t.name);
        end if;
        new_shape := walhook_watch.shape(t.oid);
        -- A row that is only rewritten would be locked as well, for as long as a prepared
        -- transaction of the suite stays.
        if t.created then
            insert into walhook_watch.tables values (t.oid, t.schema, t.name, new_shape);
        elsif t.shape <> new_shape then
            update walhook_watch.tables k
            set (schema, name, shape) = (t.schema, t.name, new_shape)
            where k.oid = t.oid;
        end if;
    end loop;
    delete from walhook_watch.rewritten;
end $$;

-- Tables and what inherits from them.
create function walhook_watch.with_heirs(tables oid[]) returns oid[]
language sql stable as $$
    with recursive family (oid) as (
        select unnest(tables) union
        select i.inhrelid from family f join pg_inherits i on i.inhparent = f.oid
    )
    select array(select oid from family)
$$;

create function walhook_watch.with_own_types() returns oid[]
language sql stable as $$
    select array(
        select distinct a.attrelid
        from pg_attribute a join walhook_watch.current c on c.oid = a.attrelid
        where a.attnum > 0 and a.atttypid >= 16384)
$$;

-- Before a table goes or changes: what it holds, where the command's text has its name or its
-- schema's. The largest are left out, they would be told hundreds of times.
create function walhook_watch.before() returns event_trigger
language plpgsql security definer
as $$
declare
    t record;
    command text := lower(current_query());
begin
    if current_setting('walhook_watch.busy', true) = 'on' then return; end if;
    perform set_config('walhook_watch.busy', 'on', false);
    for t in
        select k.* from walhook_watch.tables k join walhook_watch.current c using (oid, schema, name)
        where (position(lower(k.name) in command) > 0
                or k.schema <> 'public' and position(lower(k.schema) in command) > 0)
            and pg_relation_size(k.oid) < 300000
            and k.shape = walhook_watch.shape(k.oid)
    loop
        perform walhook_watch.tell_rows('check', t.oid, t.schema, t.name);
    end loop;
    perform set_config('walhook_watch.busy', '', false);
exception when others then
    perform set_config('walhook_watch.busy', '', false);
end $$;

create function walhook_watch.rewrite() returns event_trigger
language plpgsql security definer as $$
begin
    insert into walhook_watch.rewritten values (pg_event_trigger_table_rewrite_oid());
end $$;

create function walhook_watch.after() returns event_trigger
language plpgsql security definer
as $$
declare
    touched oid[];
begin
    if current_setting('walhook_watch.busy', true) = 'on' then return; end if;
    perform set_config('walhook_watch.busy', 'on', false);
    if tg_event = 'sql_drop' then
        touched := array(select objid from pg_event_trigger_dropped_objects()
            where classid = 'pg_class'::regclass) || walhook_watch.with_own_types();
    else
        touched := array(select objid from pg_event_trigger_ddl_commands()
            where classid = 'pg_class'::regclass and objid is not null);
        if tg_tag like 'ALTER%' then
            touched := touched || walhook_watch.with_own_types();
        end if;
    end if;
    perform walhook_watch.look(walhook_watch.with_heirs(touched));
    perform set_config('walhook_watch.busy', '', false);
end $$;

-- Values look as they do for the daemon, and the planner works as ever, whatever a test has set.
do $$
declare
    name text;
    setting text;
begin
    foreach name in array array['before', 'rewrite', 'after'] loop
        foreach setting in array array[
            'search_path = public, pg_temp', 'datestyle = ''ISO''', 'intervalstyle = ''postgres''',
            'timezone = ''UTC''', 'bytea_output = ''hex''', 'extra_float_digits = 3',
            'statement_timeout = 0', 'jit = off', 'enable_seqscan = on', 'enable_indexscan = on',
            'enable_indexonlyscan = on', 'enable_bitmapscan = on', 'enable_nestloop = on',
            'enable_hashjoin = on', 'enable_mergejoin = on', 'enable_hashagg = on', 'enable_sort = on'
        ] loop
            execute format('alter function walhook_watch.%I() set %s', name, setting);
        end loop;
    end loop;
end $$;

create event trigger walhook_watch_before on ddl_command_start
    when tag in ('ALTER TABLE', 'ALTER TYPE', 'ALTER SCHEMA', 'ALTER DOMAIN', 'DROP TABLE', 'DROP SCHEMA',
        'DROP TYPE', 'DROP DOMAIN', 'DROP OWNED', 'DROP EXTENSION', 'CREATE RULE')
    execute function walhook_watch.before();
create event trigger walhook_watch_rewrite on table_rewrite
    execute function walhook_watch.rewrite();
create event trigger walhook_watch_drop on sql_drop execute function walhook_watch.after();
create event trigger walhook_watch_after on ddl_command_end execute function walhook_watch.after();

-- Also for sessions that act as a replica.
alter event trigger walhook_watch_before enable always;
alter event trigger walhook_watch_rewrite enable always;
alter event trigger walhook_watch_drop enable always;
alter event trigger walhook_watch_after enable always;

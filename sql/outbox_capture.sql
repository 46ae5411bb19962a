-- The trigger function, for rows and for TRUNCATE. Its arguments: the primary key's columns as an
-- array's text, or nothing for none; then, where a table needs it, a JSON object of "only" or
-- "except" (columns), "text" (columns given as text), "root" (the partitioned table the trigger
-- stands on: "oid", "schema", "name"), "money" (the lc_monetary of values of that type), "names"
-- (there are values that name tables, types and the like) and "notify".
--
-- It names no column, so none that is dropped or renamed breaks it. Whatever goes wrong with a row
-- makes another row (X) and no error: the application's transaction is not to suffer. What may go
-- wrong is inside of a block that writes nothing, so that it takes no transaction id. That there is
-- an outbox that may be written to is asked there, too.
create or replace function walhook.capture() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = '3'
as $capture$
#variable_conflict use_column
declare
    w_op "char";
    w_relation oid := tg_relid;
    w_schema text := tg_table_schema;
    w_table text := tg_table_name;
    w_options jsonb;
    w_root oid := pg_partition_root(tg_relid);
    w_trigger name;
    w_plain boolean := true;
    w_may boolean := false;
    w_old json;
    w_new json;
    w_old_in boolean := true;
    w_new_in boolean := true;
    w_next text;
    w_ordinal bigint := 0;
    w_id bigint;
begin
    begin
        w_may := has_table_privilege(to_regclass('walhook.outbox'), 'insert');
        if tg_nargs > 1 then
            w_options := tg_argv[1]::jsonb;
            w_plain := not w_options ?| '{money,names}';
        end if;
        if w_root is not null then
            -- A row comes under the name of the table highest up that is followed, once.
            if (w_options -> 'root' ->> 'oid')::oid = w_root
                and to_regclass(quote_ident(w_options -> 'root' ->> 'schema') || '.'
                                || quote_ident(w_options -> 'root' ->> 'name')) = w_root
            then
                w_relation := w_root;
                w_schema := w_options -> 'root' ->> 'schema';
                w_table := w_options -> 'root' ->> 'name';
            else
                select c.oid, n.nspname, c.relname, t.tgname
                    into w_relation, w_schema, w_table, w_trigger
                    from pg_partition_ancestors(tg_relid) with ordinality a (oid, distance)
                    join pg_class c on c.oid = a.oid
                    join pg_namespace n on n.oid = c.relnamespace
                    join pg_trigger t on t.tgrelid = a.oid and t.tgparentid = 0
                    join pg_proc p on p.oid = t.tgfoid
                    join pg_namespace s on s.oid = p.pronamespace
                    where s.nspname = 'walhook'
                      and (t.tgtype & 1 = 1) = (tg_level = 'ROW')
                    order by a.distance desc limit 1;
                if w_trigger <> tg_name then
                    return null;
                end if;
            end if;
        end if;
        if tg_op = 'UPDATE' then
            w_op := 'U';
            /* filter: w_old_in w_new_in */
            if w_old_in then
                w_old := case when w_plain then row_to_json(old)
                    else walhook.rendered(old, w_options ->> 'money') end;
            end if;
            if w_new_in then
                w_new := case when w_plain then row_to_json(new)
                    else walhook.rendered(new, w_options ->> 'money') end;
            end if;
            if not (w_old_in and w_new_in) then
                w_op := case when w_new_in then 'I' when w_old_in then 'D' end;
            end if;
        elsif tg_op = 'INSERT' then
            w_op := 'I';
            /* filter: w_new_in */
            if w_new_in then
                w_new := case when w_plain then row_to_json(new)
                    else walhook.rendered(new, w_options ->> 'money') end;
            else
                w_op := null;
            end if;
        elsif tg_op = 'DELETE' then
            w_op := 'D';
            /* filter: w_old_in */
            if w_old_in then
                w_old := case when w_plain then row_to_json(old)
                    else walhook.rendered(old, w_options ->> 'money') end;
            else
                w_op := null;
            end if;
        else
            w_op := 'T';
        end if;
        if w_op is null then
            return null;
        end if;
        if w_options ?| '{only,except,text}' then
            if w_old is not null then
                w_old := walhook.shaped(old, w_old, w_options);
            end if;
            if w_new is not null then
                w_new := walhook.shaped(new, w_new, w_options);
            end if;
        end if;
        -- What is larger does not fit into one row, or out of it.
        if coalesce(pg_column_size(w_old), 0) + coalesce(pg_column_size(w_new), 0) > 400000000 then
            raise program_limit_exceeded;
        end if;
    exception when others or assert_failure then
        w_op := 'X';
        w_old := null;
        w_new := json_build_object('error', format(
            'the %s of a row could not be recorded (SQLSTATE %s)', tg_op, sqlstate));
    end;
    if w_may is not true then
        -- once for each transaction
        if current_setting('walhook.ordinal', true) is distinct from 'none' then
            w_next := set_config('walhook.ordinal', 'none', true);
            raise warning using message = 'walhook.outbox is not there, or the owner of '
                'walhook.capture may not write to it: changes are not recorded';
        end if;
        return null;
    end if;
    w_next := current_setting('walhook.ordinal', true);
    if w_next <> '' and length(w_next) < 19 and translate(w_next, '0123456789', '') = '' then
        w_ordinal := w_next::bigint;
    end if;
    w_next := set_config('walhook.ordinal', (w_ordinal + 1)::text, true);
    insert into walhook.outbox (op, ordinal, relation, schema_name, table_name, key, old, new)
        values (w_op, w_ordinal, w_relation, w_schema, w_table, nullif(tg_argv[0], '')::text[],
                w_old, w_new)
        returning id into w_id;
    if w_id % 100 = 0 then
        perform walhook.bound();
    end if;
    -- Once for each transaction; and never where the queue is so full that its commit might fail.
    if w_ordinal = 0 and w_options ? 'notify' and pg_notification_queue_usage() < 0.5 then
        perform pg_notify('walhook', '');
    end if;
    return null;
end
$capture$;
revoke all on function walhook.capture() from public;

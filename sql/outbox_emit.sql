-- An event that the application names itself, part of its transaction. Where the triggers are gone,
-- it goes into the log: the catalog says so at once, also to a transaction that has waited for
-- whoever dropped them.
create or replace function walhook.emit(event text, key text default null, data jsonb default '{}')
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $emit$
declare
    content json := json_build_object('event', event, 'key', key, 'data', coalesce(data, '{}'));
    next text;
    place bigint := 0;
    row_id bigint;
begin
    if event is null or event = '' or octet_length(event) > 255
        or event ~ '[[:space:][:cntrl:]]'
    then
        raise invalid_parameter_value using message =
            'walhook.emit: the event''s name must be 1 to 255 bytes without spaces and control '
            'characters';
    end if;
    if to_regclass('walhook.outbox') is not null then
        -- Whoever drops the triggers keeps this waiting.
        lock table walhook.outbox in row exclusive mode;
    end if;
    if to_regprocedure('walhook.capture()') is null then
        perform pg_logical_emit_message(true, 'walhook', content::text);
        return;
    end if;
    next := current_setting('walhook.ordinal', true);
    if next <> '' and length(next) < 19 and translate(next, '0123456789', '') = '' then
        place := next::bigint;
    end if;
    next := set_config('walhook.ordinal', (place + 1)::text, true);
    insert into walhook.outbox (op, ordinal, new) values ('M', place, content)
        returning id into row_id;
    if row_id % 100 = 0 then
        perform walhook.bound();
    end if;
    if place = 0 and (select s.notify from walhook.state s)
        and pg_notification_queue_usage() < 0.5
    then
        perform pg_notify('walhook', '');
    end if;
end
$emit$;
grant execute on function walhook.emit(text, text, jsonb) to public;

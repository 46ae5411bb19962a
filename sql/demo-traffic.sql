-- Traffic for the CRM of demo.sql, as a script for pgbench. One run is one of the things that people
-- do in a CRM, in one transaction:
--
--   pgbench --no-vacuum --file=sql/demo-traffic.sql --rate=5 --client=4 --time=600 crm
\set what random(1, 100)
\set first random(1, 12)
\set last random(1, 10)
\set days random(1, 90)
\set percent random(-15, 30)

\if :what <= 22
begin;
insert into people (first_name, last_name, email, job_title, company_id)
select first, last, lower(first) || '.' || substr(gen_random_uuid()::text, 1, 12) || '@mail.example',
    (array['Buyer', 'CTO', 'Designer', 'Head of sales', null])[1 + :days % 5],
    (select id from companies order by random() limit 1)
from (select
    (array['Alice', 'Amara', 'Bjørn', 'Chloé', 'Daniel', 'Elif', 'Hana', 'Łucja', 'Mateo', 'Nadia', 'Olivia', 'Zoë'])[:first] as first,
    (array['Abara', 'Bianchi', 'Çelik', 'Dubois', 'García', 'Kim', 'Müller', 'Novák', 'Patel', 'Zhang'])[:last] as last
) as name;
insert into tasks (person_id, title, assignee, due_on)
select id, 'Say hello', 'mira', current_date + :days from people order by created_at desc limit 1;
commit;

\elif :what <= 40
insert into notes (person_id, opportunity_id, title, body)
select o.contact_id, o.id, (array['Call about pricing', 'Asked for a discount', 'Budget approved'])[1 + :days % 3],
    repeat('Follow up next week. ', :first)
from opportunities o order by random() limit 1;

\elif :what <= 52
insert into opportunities (company_id, contact_id, name, amount, close_date)
select p.company_id, p.id, (array['Pilot project', 'Renewal', 'Extra seats'])[1 + :days % 3], :days * 125.50,
    current_date + :days
from people p where p.deleted_at is null order by random() limit 1;

\elif :what <= 72
update opportunities set updated_at = now(), probability = probability / 2 + 0.4,
    stage = case stage when 'new' then 'screening' when 'screening' then 'meeting'
        when 'meeting' then 'proposal' else 'won' end::opportunity_stage
where id = (select id from opportunities where stage not in ('won', 'lost') order by random() limit 1);

\elif :what <= 78
update opportunities set amount = round(amount * (1 + :percent / 100.0), 2), updated_at = now()
where id = (select id from opportunities where stage not in ('won', 'lost') order by random() limit 1);

\elif :what <= 88
update tasks set status = 'done', completed_at = now(), updated_at = now()
where id = (select id from tasks where status <> 'done' order by random() limit 1);

\elif :what <= 95
update people set score = score + :first / 8.0, subscribed = not subscribed, updated_at = now()
where id = (select id from people order by random() limit 1);

\elif :what <= 98
delete from notes where id = (select id from notes where not pinned order by random() limit 1);

\else
delete from tasks where id = (select id from tasks where status = 'done' order by random() limit 1);
\endif

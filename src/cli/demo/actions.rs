//! What people do in a CRM: each action is the body of one transaction.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio_postgres::types::ToSql;

use super::known::{Fresh, Known};
use super::session::Session;
use super::tally::Counts;
use super::words;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];
type Done = Result<(), tokio_postgres::Error>;

/// One thing somebody does.
#[derive(Clone, Copy, Debug)]
enum Action {
    SignUp,
    WriteNote,
    AddTask,
    OpenOpportunity,
    AdvanceOpportunity,
    ChangeAmount,
    FinishTask,
    EditPerson,
    EditCompany,
    DeleteNote,
    DeleteTask,
    ForgetPerson,
    Import,
}

/// How often each is done, of 100.
const MIX: &[(Action, u32)] = &[
    (Action::SignUp, 17),
    (Action::WriteNote, 14),
    (Action::AddTask, 10),
    (Action::OpenOpportunity, 8),
    (Action::AdvanceOpportunity, 16),
    (Action::ChangeAmount, 5),
    (Action::FinishTask, 9),
    (Action::EditPerson, 10),
    (Action::EditCompany, 3),
    (Action::DeleteNote, 3),
    (Action::DeleteTask, 3),
    (Action::ForgetPerson, 1),
    (Action::Import, 1),
];

impl Action {
    /// What somebody does next.
    fn next(rng: &mut StdRng) -> Action {
        MIX.choose_weighted(rng, |(_, weight)| *weight)
            .map_or(Action::SignUp, |(action, _)| *action)
    }
}

/// An action under way: it counts what its commands changed.
pub(super) struct Work<'a> {
    session: &'a mut Session,
    rng: &'a mut StdRng,
    known: &'a Known,
    /// What was changed, by the commands' own results. Counts only if the transaction commits.
    pub(super) counts: Counts,
    /// Rows that others may use once the transaction is committed.
    pub(super) fresh: Vec<Fresh>,
}

impl<'a> Work<'a> {
    pub(super) fn new(session: &'a mut Session, rng: &'a mut StdRng, known: &'a Known) -> Work<'a> {
        Work { session, rng, known, counts: Counts::default(), fresh: Vec::new() }
    }

    /// Does what somebody does next.
    pub(super) async fn run(&mut self) -> Done {
        match Action::next(self.rng) {
            Action::SignUp => self.sign_up().await,
            Action::WriteNote => self.write_note().await,
            Action::AddTask => self.add_task().await,
            Action::OpenOpportunity => self.open_opportunity().await,
            Action::AdvanceOpportunity => self.advance_opportunity().await,
            Action::ChangeAmount => self.change_amount().await,
            Action::FinishTask => self.finish_task().await,
            Action::EditPerson => self.edit_person().await,
            Action::EditCompany => self.edit_company().await,
            Action::DeleteNote => self.delete_note().await,
            Action::DeleteTask => self.delete_task().await,
            Action::ForgetPerson => self.forget_person().await,
            Action::Import => self.import().await,
        }
    }

    /// A person signs up; every third one brings a new company along, some are greeted by a task.
    async fn sign_up(&mut self) -> Done {
        let company = if self.rng.random_bool(0.3) {
            Some(self.create_company().await?)
        } else {
            self.known.companies.pick(self.rng)
        };
        let person = words::person(self.rng);
        let id: String = self
            .create(
                "insert into people (company_id, first_name, last_name, email, job_title, phones)
                 values ($1, $2, $3, $4, $5, $6::text::jsonb) returning id::text",
                &[
                    &company,
                    &person.first_name,
                    &person.last_name,
                    &person.email,
                    &person.job_title,
                    &person.phones,
                ],
            )
            .await?;
        if self.rng.random_bool(0.2) {
            self.create_task(Some(&id), "Say hello").await?;
        }
        self.fresh.push(Fresh::Person(id));
        Ok(())
    }

    async fn create_company(&mut self) -> Result<i64, tokio_postgres::Error> {
        let (name, address) = (words::company(self.rng), words::address(self.rng));
        let employees = self.rng.random_range(1..2_000);
        let revenue = (!self.rng.random_bool(0.2)).then(|| {
            format!(
                "{}.{:02}",
                self.rng.random_range(50_000..90_000_000),
                self.rng.random_range(0..100)
            )
        });
        let tags = vec![words::tag(self.rng)];
        let id = self
            .create(
                "insert into companies (name, employees, annual_revenue, address, tags)
                 values ($1, $2, $3::text::numeric, $4::text::jsonb, $5) returning id",
                &[&name, &employees, &revenue, &address, &tags],
            )
            .await?;
        self.fresh.push(Fresh::Company(id));
        Ok(id)
    }

    async fn write_note(&mut self) -> Done {
        let person = self.known.people.pick(self.rng);
        let opportunity = self.known.opportunities.pick(self.rng);
        let (title, body) = (words::note_title(self.rng), words::note_body(self.rng));
        let id = self
            .create(
                "insert into notes (person_id, opportunity_id, title, body)
                 values ($1::text::uuid, $2, $3, $4) returning id",
                &[&person, &opportunity, &title, &body],
            )
            .await?;
        self.fresh.push(Fresh::Note(id));
        Ok(())
    }

    async fn add_task(&mut self) -> Done {
        let person = self.known.people.pick(self.rng);
        let title = words::task(self.rng);
        self.create_task(person.as_deref(), title).await
    }

    async fn create_task(&mut self, person: Option<&str>, title: &str) -> Done {
        let (assignee, days) = (words::colleague(self.rng), self.rng.random_range(0..30));
        let id = self
            .create(
                "insert into tasks (person_id, title, assignee, due_on, remind_at)
                 values ($1::text::uuid, $2, $3, current_date + $4::int, time '08:00' + $4::int * interval '17 minutes')
                 returning id::text",
                &[&person, &title, &assignee, &days],
            )
            .await?;
        self.fresh.push(Fresh::Task(id));
        Ok(())
    }

    async fn open_opportunity(&mut self) -> Done {
        let contact = self.known.people.pick(self.rng);
        let name = words::deal(self.rng);
        let amount = self.rng.random_bool(0.9).then(|| {
            format!(
                "{}.{:02}",
                self.rng.random_range(500..250_000),
                self.rng.random_range(0..4) * 25
            )
        });
        let days = self.rng.random_range(7..120);
        let id = self
            .create(
                "insert into opportunities (company_id, contact_id, name, amount, close_date, custom_fields)
                 select p.company_id, p.id, $2, $3::text::numeric, current_date + $4::int, jsonb_build_object('days', $4::int)
                 from (select 1) as one left join people p on p.id = $1::text::uuid
                 returning id",
                &[&contact, &name, &amount, &days],
            )
            .await?;
        self.fresh.push(Fresh::Opportunity(id));
        Ok(())
    }

    /// One stage on. A won one is announced by the application itself, in the same transaction.
    async fn advance_opportunity(&mut self) -> Done {
        let Some(id) = self.known.opportunities.pick(self.rng) else { return Ok(()) };
        let lost = self.rng.random_bool(0.1);
        let sql = "update opportunities set
                 stage = case when $2 then 'lost' when stage = 'new' then 'screening'
                     when stage = 'screening' then 'meeting' when stage = 'meeting' then 'proposal'
                     else 'won' end::opportunity_stage,
                 probability = case when $2 then 0 when stage = 'proposal' then 1 else probability / 2 + 0.4 end,
                 updated_at = now()
             where id = $1 and stage not in ('won', 'lost')
             returning stage::text";
        let statement = self.session.statement(sql).await?;
        let rows = self.session.client().query(&statement, &[&id, &lost]).await?;
        self.counts.updated += rows.len() as u64;
        if rows.iter().any(|row| row.get::<_, String>(0) == "won") {
            let sql = "select pg_logical_emit_message(true, 'walhook', jsonb_build_object(
                     'event', 'opportunity.won', 'key', o.id::text,
                     'data', jsonb_build_object('id', o.id, 'name', o.name, 'amount', o.amount, 'currency', o.currency)
                 )::text)::text from opportunities o where o.id = $1";
            let statement = self.session.statement(sql).await?;
            let rows = self.session.client().query(&statement, &[&id]).await?;
            self.counts.custom += rows.len() as u64;
        }
        Ok(())
    }

    async fn change_amount(&mut self) -> Done {
        let Some(id) = self.known.opportunities.pick(self.rng) else { return Ok(()) };
        let percent = self.rng.random_range(-15..30);
        self.update(
            "update opportunities set amount = round(amount * (1 + $2::int / 100.0), 2), updated_at = now()
             where id = $1 and amount is not null and stage not in ('won', 'lost')",
            &[&id, &percent],
        )
        .await
    }

    async fn finish_task(&mut self) -> Done {
        let Some(id) = self.known.tasks.pick(self.rng) else { return Ok(()) };
        self.update(
            "update tasks set
                 status = case status when 'todo' then 'in_progress' else 'done' end::task_status,
                 completed_at = case status when 'todo' then null else now() end,
                 updated_at = now()
             where id = $1::text::uuid and status <> 'done'",
            &[&id],
        )
        .await
    }

    async fn edit_person(&mut self) -> Done {
        let Some(id) = self.known.people.pick(self.rng) else { return Ok(()) };
        match self.rng.random_range(0..5) {
            0 => {
                let job = words::job(self.rng);
                self.update(
                    "update people set job_title = $2, updated_at = now() where id = $1::text::uuid",
                    &[&id, &job],
                )
                .await
            }
            1 => {
                let tag = words::tag(self.rng);
                self.update(
                    "update people set updated_at = now(),
                         tags = case when $2 = any (tags) then array_remove(tags, $2) else tags || $2 end
                     where id = $1::text::uuid",
                    &[&id, &tag],
                )
                .await
            }
            2 => {
                let phone = words::phone(self.rng);
                self.update(
                    "update people set phones = jsonb_build_array(jsonb_build_object('kind', 'work', 'number', $2::text)),
                         updated_at = now() where id = $1::text::uuid",
                    &[&id, &phone],
                )
                .await
            }
            3 => {
                let email = words::email(self.rng, "new");
                self.update(
                    "update people set email = $2, updated_at = now() where id = $1::text::uuid",
                    &[&id, &email],
                )
                .await
            }
            _ => {
                let points: i32 = self.rng.random_range(1..40);
                self.update(
                    "update people set score = score + $2::int / 8.0, subscribed = not subscribed,
                         updated_at = now() where id = $1::text::uuid",
                    &[&id, &points],
                )
                .await
            }
        }
    }

    async fn edit_company(&mut self) -> Done {
        let Some(id) = self.known.companies.pick(self.rng) else { return Ok(()) };
        let (hired, address) = (self.rng.random_range(1..20), words::address(self.rng));
        self.update(
            "update companies set employees = coalesce(employees, 0) + $2::int,
                 address = address || $3::text::jsonb, updated_at = now() where id = $1",
            &[&id, &hired, &address],
        )
        .await
    }

    async fn delete_note(&mut self) -> Done {
        let Some(id) = self.known.notes.take(self.rng) else { return Ok(()) };
        self.delete("delete from notes where id = $1", &[&id]).await
    }

    async fn delete_task(&mut self) -> Done {
        let Some(id) = self.known.tasks.take(self.rng) else { return Ok(()) };
        self.delete("delete from tasks where id = $1::text::uuid", &[&id]).await
    }

    /// A person asks to be forgotten, with all that hangs on them. No cascade: what the commands
    /// themselves report is the tally, and cascades report nothing.
    async fn forget_person(&mut self) -> Done {
        let Some(id) = self.known.people.take(self.rng) else { return Ok(()) };
        self.delete("delete from notes where person_id = $1::text::uuid", &[&id]).await?;
        self.delete("delete from tasks where person_id = $1::text::uuid", &[&id]).await?;
        self.update(
            "update opportunities set contact_id = null, updated_at = now() where contact_id = $1::text::uuid",
            &[&id],
        )
        .await?;
        self.delete("delete from people where id = $1::text::uuid", &[&id]).await
    }

    /// A list from a trade fair, in one statement.
    async fn import(&mut self) -> Done {
        let people: Vec<_> =
            (0..self.rng.random_range(5..20)).map(|_| words::person(self.rng)).collect();
        let first_names: Vec<_> = people.iter().map(|person| person.first_name).collect();
        let last_names: Vec<_> = people.iter().map(|person| person.last_name).collect();
        let emails: Vec<_> = people.iter().map(|person| person.email.as_str()).collect();
        let sql = "insert into people (first_name, last_name, email, tags)
             select first_name, last_name, email, '{imported}'
             from unnest($1::text[], $2::text[], $3::text[]) as list (first_name, last_name, email)
             returning id::text";
        let statement = self.session.statement(sql).await?;
        let rows =
            self.session.client().query(&statement, &[&first_names, &last_names, &emails]).await?;
        self.counts.created += rows.len() as u64;
        self.fresh.extend(rows.iter().map(|row| Fresh::Person(row.get(0))));
        Ok(())
    }

    async fn create<T>(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<T, tokio_postgres::Error>
    where
        T: for<'r> tokio_postgres::types::FromSql<'r>,
    {
        let statement = self.session.statement(sql).await?;
        let row = self.session.client().query_one(&statement, params).await?;
        self.counts.created += 1;
        row.try_get(0)
    }

    async fn update(&mut self, sql: &'static str, params: Params<'_>) -> Done {
        self.counts.updated += self.session.execute(sql, params).await?;
        Ok(())
    }

    async fn delete(&mut self, sql: &'static str, params: Params<'_>) -> Done {
        self.counts.deleted += self.session.execute(sql, params).await?;
        Ok(())
    }
}

//! An SQL condition, asked of rows that exist nowhere but in the change stream.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

use super::error::PgError;
use super::relation::Relation;
use super::sql::quote_ident;

/// A condition over a table's columns, prepared on one connection.
///
/// Only the server can evaluate it, so that it means what the same words mean in a publication's
/// `WHERE`. The row is given as the texts of its values, each read by its type's own input
/// function; the table itself is not read, which may be gone or look otherwise by now.
#[derive(Debug)]
pub struct RowPredicate {
    statement: Statement,
    /// The columns it uses, as places in the relation.
    columns: Vec<usize>,
}

impl RowPredicate {
    /// Prepares the condition for rows of this relation and finds out which columns it uses.
    ///
    /// A domain's values are taken for values of its base type, as its constraints may have come
    /// after the row; a type that is gone is taken for text.
    ///
    /// # Errors
    /// Fails when the expression is none for this relation, or when the server cannot be asked.
    pub async fn prepare(
        client: &Client,
        relation: &Relation,
        expression: &str,
    ) -> Result<RowPredicate, PgError> {
        let types = types(client, relation).await?;
        let question = Question { client, relation, expression, types: &types };
        let all: Vec<usize> = (0..relation.columns.len()).collect();
        let failed = |error| PgError::query("could not prepare it", error);
        question.prepare(&all).await.map_err(failed)?;
        let names = relation.columns.iter().map(|column| column.name.as_str());
        let columns = match reads_whole_row(expression, &relation.name, names) {
            true => all,
            false => question.used(&all).await?,
        };
        let statement = question.prepare(&columns).await.map_err(failed)?;
        Ok(RowPredicate { statement, columns })
    }

    /// The columns it uses, as places in the relation, in order.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Whether the condition is true of the row of these values, one for each of
    /// [`columns`](Self::columns), none for null. False and null are the same.
    ///
    /// # Errors
    /// Fails when the server cannot be asked, or cannot evaluate the condition for this row.
    pub async fn test(
        &self,
        client: &Client,
        values: impl Iterator<Item = Option<&[u8]>>,
    ) -> Result<bool, PgError> {
        let values: Vec<TextValue<'_>> = values.map(TextValue).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> =
            values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let row = client
            .query_one(&self.statement, &parameters)
            .await
            .map_err(|error| PgError::query("could not evaluate it", error))?;
        Ok(row.try_get::<_, Option<bool>>(0)?.unwrap_or(false))
    }
}

/// What is asked, of whichever columns.
struct Question<'a> {
    client: &'a Client,
    relation: &'a Relation,
    expression: &'a str,
    /// By column.
    types: &'a [Type],
}

impl Question<'_> {
    async fn prepare(&self, columns: &[usize]) -> Result<Statement, tokio_postgres::Error> {
        let types: Vec<Type> = columns.iter().map(|&column| self.types[column].clone()).collect();
        self.client.prepare_typed(&self.sql(columns), &types).await
    }

    /// The expression stands on lines of its own, as it may end in a comment.
    fn sql(&self, columns: &[usize]) -> String {
        let value = |(place, &column): (usize, &usize)| {
            format!("${} as {}", place + 1, quote_ident(&self.relation.columns[column].name))
        };
        let values: Vec<String> = columns.iter().enumerate().map(value).collect();
        format!(
            "select (\n{}\n)::boolean from (select {}) as {}",
            self.expression,
            values.join(", "),
            quote_ident(&self.relation.name),
        )
    }

    /// Those of the columns that the expression does not do without. Whole groups are tried at
    /// once, as most columns of a wide table are not among them.
    async fn used(&self, all: &[usize]) -> Result<Vec<usize>, PgError> {
        let mut used = Vec::new();
        let mut groups = vec![all.to_vec()];
        while let Some(mut group) = groups.pop() {
            let others: Vec<usize> =
                all.iter().copied().filter(|column| !group.contains(column)).collect();
            match self.prepare(&others).await {
                Ok(_) => {}
                Err(error) if error.as_db_error().is_none() => {
                    return Err(PgError::query("could not prepare it", error));
                }
                Err(_) if group.len() > 1 => {
                    groups.push(group.split_off(group.len() / 2));
                    groups.push(group);
                }
                Err(_) => used.extend(group),
            }
        }
        used.sort_unstable();
        Ok(used)
    }
}

/// Whether the expression may read the row as a whole, as `people is not null` does: the table's name
/// stands in it without a column behind it. Leaving columns away does not show that.
pub(crate) fn reads_whole_row<'a>(
    expression: &str,
    table: &str,
    mut columns: impl Iterator<Item = &'a str>,
) -> bool {
    // a column comes before a table of the same name
    if table.is_empty() || columns.any(|column| column == table) {
        return false;
    }
    let (expression, table) = (expression.to_lowercase(), table.to_lowercase());
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    expression.match_indices(&table).any(|(start, found)| {
        let before = expression[..start].chars().next_back();
        let after = &expression[start + found.len()..];
        let is_word = !before.is_some_and(of_name) && !after.starts_with(of_name);
        let behind = after.trim_start_matches('"').trim_start();
        let column = behind.strip_prefix('.').map(str::trim_start);
        is_word && column.is_none_or(|column| column.starts_with('*'))
    })
}

/// The type that each column's text is read as.
async fn types(client: &Client, relation: &Relation) -> Result<Vec<Type>, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_base_types.sql");
    let oids: Vec<u32> = relation
        .columns
        .iter()
        .map(|column| column.type_oid)
        .filter(|oid| Type::from_oid(*oid).is_none())
        .collect();
    let mut bases = HashMap::new();
    if !oids.is_empty() {
        let rows = client
            .query_typed(SQL, &[(&oids, Type::OID_ARRAY)])
            .await
            .map_err(|error| PgError::query("could not look up the types of a table", error))?;
        for row in rows {
            bases.insert(row.try_get::<_, u32>("oid")?, row.try_get::<_, u32>("base")?);
        }
    }
    let of = |oid: u32| {
        Type::from_oid(oid).unwrap_or_else(|| match bases.get(&oid) {
            None => Type::TEXT,
            // Nothing but the oid reaches the server.
            Some(&base) => Type::from_oid(base)
                .unwrap_or_else(|| Type::new(String::new(), base, Kind::Simple, String::new())),
        })
    };
    Ok(relation.columns.iter().map(|column| of(column.type_oid)).collect())
}

/// A value in the text form of its type, as it came; none for null.
struct TextValue<'a>(Option<&'a [u8]>);

impl ToSql for TextValue<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(text) = self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

impl fmt::Debug for TextValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are the customer's data, which does not belong into logs.
        f.write_str("TextValue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_read_as_a_whole_is_noticed() {
        let whole = |expression| reads_whole_row(expression, "people", ["id", "name"].into_iter());
        for expression in ["people is not null", "(People.*) is null", "id = 1 and \"people\" <> r"]
        {
            assert!(whole(expression), "{expression}");
        }
        for expression in
            ["id = 1", "people.id = 1", "\"people\" . id = 1", "peoples = 1", "my_people"]
        {
            assert!(!whole(expression), "{expression}");
        }
        assert!(!reads_whole_row("note > ''", "note", ["id", "note"].into_iter()));
    }
}

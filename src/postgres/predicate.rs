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
        let collations = collations(client, relation).await?;
        let question =
            Question { client, relation, expression, types: &types, collations: &collations };
        let all: Vec<usize> = (0..relation.columns.len()).collect();
        let failed = |error| PgError::query("could not prepare it", error);
        question.prepare(&all, Row::Whole).await.map_err(failed)?;
        let columns = question.used(&all).await?;
        let statement = question.prepare(&columns, Row::Whole).await.map_err(failed)?;
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
    /// By column's name, as SQL writes it, where it is not the database's.
    collations: &'a HashMap<String, String>,
}

/// What the table's own name means in an expression, as in `to_jsonb(people)`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Row {
    /// The row of the columns that are given.
    Whole,
    /// Nothing, unless a column is called so: a row that lacks columns is not the table's.
    None,
}

impl Question<'_> {
    async fn prepare(
        &self,
        columns: &[usize],
        row: Row,
    ) -> Result<Statement, tokio_postgres::Error> {
        let types: Vec<Type> = columns.iter().map(|&column| self.types[column].clone()).collect();
        self.client.prepare_typed(&self.sql(columns, row), &types).await
    }

    /// The expression stands on lines of its own, as it may end in a comment.
    fn sql(&self, columns: &[usize], row: Row) -> String {
        let table = quote_ident(&self.relation.name);
        let value = |(place, &column): (usize, &usize)| {
            let name = &self.relation.columns[column].name;
            let collate =
                self.collations.get(name).map(|collation| format!(" collate {collation}"));
            format!("${}{} as {}", place + 1, collate.unwrap_or_default(), quote_ident(name))
        };
        let mut values: Vec<String> = columns.iter().enumerate().map(value).collect();
        let is_column =
            columns.iter().any(|&column| self.relation.columns[column].name == self.relation.name);
        if row == Row::None && !is_column {
            // A column's name comes before a row's, and one of two columns is neither.
            values.extend([format!("1 as {table}"), format!("2 as {table}")]);
        }
        format!(
            "select (\n{}\n)::boolean from (select {}) as {}",
            self.expression,
            values.join(", "),
            table,
        )
    }

    /// Those of the columns that the expression does not do without: all if it reads the row as a
    /// whole. Whole groups are tried at once, as most columns of a wide table are not among them.
    async fn used(&self, all: &[usize]) -> Result<Vec<usize>, PgError> {
        if has_asterisk(self.expression) || !self.is_enough(all).await? {
            return Ok(all.to_vec());
        }
        let mut used = Vec::new();
        let mut groups = vec![all.to_vec()];
        while let Some(mut group) = groups.pop() {
            let others: Vec<usize> =
                all.iter().copied().filter(|column| !group.contains(column)).collect();
            if self.is_enough(&others).await? {
                continue;
            }
            if group.len() > 1 {
                groups.push(group.split_off(group.len() / 2));
                groups.push(group);
            } else {
                used.extend(group);
            }
        }
        used.sort_unstable();
        Ok(used)
    }

    /// Whether the expression does with these columns.
    async fn is_enough(&self, columns: &[usize]) -> Result<bool, PgError> {
        match self.prepare(columns, Row::None).await {
            Ok(_) => Ok(true),
            // Syntax, names and types. All else, such as a lock, says nothing of the columns.
            Err(error) if error.code().is_some_and(|code| code.code().starts_with("42")) => {
                Ok(false)
            }
            Err(error) => Err(PgError::query("could not prepare it", error)),
        }
    }
}

/// Whether the expression may name all columns at once, as `(people.*) is not null` does. Leaving
/// columns away does not show that.
pub(crate) fn has_asterisk(expression: &str) -> bool {
    let dense: String = expression.split_whitespace().collect();
    dense.contains(".*")
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

/// The collations that the columns have now, as far as they are still of the same type: the stream
/// does not tell them, and they decide what is equal.
async fn collations(
    client: &Client,
    relation: &Relation,
) -> Result<HashMap<String, String>, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_collations.sql");
    let names: Vec<&str> = relation.columns.iter().map(|column| &*column.name).collect();
    let types: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
    let rows = client
        .query_typed(
            SQL,
            &[(&relation.id.0, Type::OID), (&names, Type::TEXT_ARRAY), (&types, Type::OID_ARRAY)],
        )
        .await
        .map_err(|error| PgError::query("could not look up the collations of a table", error))?;
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("collation")?))).collect()
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
    fn all_columns_at_once_are_noticed() {
        for expression in ["people.* is not null", "(people . *) is null"] {
            assert!(has_asterisk(expression), "{expression}");
        }
        for expression in ["id * 2 = 4", "people is null", "people.id = 1.5 * 2"] {
            assert!(!has_asterisk(expression), "{expression}");
        }
    }
}

use super::*;
use crate::postgres::pattern::{NamePattern, TablePattern};
use crate::postgres::relation::{Column, RelationId};

fn relation(columns: &[&str]) -> Relation {
    let columns = columns.iter().map(|name| Column {
        name: (*name).into(),
        in_replica_identity: false,
        type_oid: 25,
        kind: TypeKind::Text,
    });
    Relation {
        id: RelationId(1),
        schema: "public".into(),
        name: "people".into(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
        key: Vec::new(),
    }
}

fn rule() -> TableRule {
    TableRule::new(TablePattern::exact("public", "people"), None)
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn renames(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

/// What the columns are called, with `-` for those that are not told.
fn called(rule: &TableRule, columns: &[&str]) -> (Vec<String>, usize) {
    let told = Told::new(rule, &relation(columns), Shown::Published);
    let names = told.names.into_iter().map(|name| name.unwrap_or_else(|| "-".into()));
    (names.collect(), told.notices.len())
}

#[test]
fn renaming_comes_before_case() {
    let rename = renames(&[("first_name", "given_name")]);
    let rule = TableRule { rename, case: Case::Camel, ..rule() };
    let columns = ["first_name", "last_name", "id"];
    assert_eq!(called(&rule, &columns), (list(&["given_name", "lastName", "id"]), 0));
}

#[test]
fn only_what_is_told_takes_a_name() {
    let only = Columns::Only(list(&["id", "first_name"]));
    let rule = TableRule { columns: only, case: Case::Camel, ..rule() };
    let columns = ["id", "firstName", "first_name"];
    assert_eq!(called(&rule, &columns), (list(&["id", "-", "firstName"]), 0));
    let except = Columns::Except(list(&["first_name"]));
    let rule = TableRule { columns: except, ..rule };
    assert_eq!(called(&rule, &columns), (list(&["id", "firstName", "-"]), 0));
}

#[test]
fn two_columns_never_get_one_name() {
    let camel = TableRule { case: Case::Camel, ..rule() };
    // A name that stays comes before one that is made, wherever it stands.
    assert_eq!(called(&camel, &["a_b", "aB"]), (list(&["a_b", "aB"]), 1));
    assert_eq!(called(&camel, &["a_b", "a__b"]), (list(&["aB", "a__b"]), 1));
    // What the configuration names comes before everything.
    let rule = TableRule { rename: renames(&[("z", "aB")]), ..camel };
    assert_eq!(called(&rule, &["a_b", "aB", "z"]), (list(&["a_b", "aB_2", "aB"]), 2));
    let rule = TableRule { rename: renames(&[("z", "x")]), ..self::rule() };
    assert_eq!(called(&rule, &["x", "x_2", "z"]), (list(&["x_3", "x_2", "x"]), 1));
    // Two that change places are no collision.
    let rule = TableRule { rename: renames(&[("a", "b"), ("b", "a")]), ..rule };
    assert_eq!(called(&rule, &["a", "b"]), (list(&["b", "a"]), 0));
}

#[test]
fn a_collision_is_said() {
    let camel = TableRule { case: Case::Camel, ..rule() };
    let notices = Told::new(&camel, &relation(&["a_b", "aB"]), Shown::Published).notices;
    let sentence = "two columns of table \"public\".\"people\" would be called \"aB\" in events, \
                    so \"a_b\" is called \"a_b\" there: give it another name with `rename`";
    assert_eq!(notices, [Notice { sentence: sentence.into(), is_expected: false }]);
}

#[test]
fn of_recorded_rows_no_publication_is_spoken_of() {
    let rule = TableRule { columns: Columns::Except(list(&["emial"])), ..rule() };
    let told = Told::new(&rule, &relation(&["id", "email"]), Shown::Recorded);
    let sentence = "table \"public\".\"people\" has no column \"emial\", which `exclude` names: \
                    did you mean \"email\"?";
    assert_eq!(told.notices, [Notice { sentence: sentence.into(), is_expected: false }]);
}

#[test]
fn columns_the_stream_does_not_have_are_said() {
    let rule = TableRule {
        columns: Columns::Only(list(&["id", "emial"])),
        soft_delete: Some("gone".into()),
        rename: renames(&[("Id", "number")]),
        ..rule()
    };
    let told = Told::new(&rule, &relation(&["id", "email"]), Shown::Published);
    assert!(told.soft_delete.is_none());
    let start = "the stream of table \"public\".\"people\" has no column";
    let middle = "as the table has none or the publication leaves it out";
    let said: Vec<_> = told.notices.iter().map(|it| (&*it.sentence, it.is_expected)).collect();
    assert_eq!(
        said,
        [
            (
                &*format!(
                    "{start} \"emial\", which `columns` names, {middle}: did you mean \"email\"?"
                ),
                false
            ),
            (
                &*format!(
                    "{start} \"gone\", which `soft_delete` names, {middle}: it has \"id\", \"email\""
                ),
                false
            ),
            (
                &*format!("{start} \"Id\", which `rename` names, {middle}: did you mean \"id\"?"),
                false
            ),
        ]
    );
}

/// A pattern's tables need not all have the column, but a misspelt one is worth a warning.
#[test]
fn a_pattern_may_name_columns_that_only_some_tables_have() {
    let pattern = TablePattern::new(NamePattern::Glob("*".into()), NamePattern::Glob("*".into()));
    let rule = TableRule {
        columns: Columns::Except(list(&["password_hash", "emial"])),
        ..TableRule::new(pattern, None)
    };
    let told = Told::new(&rule, &relation(&["id", "email"]), Shown::Published);
    let expected: Vec<_> = told.notices.iter().map(|notice| notice.is_expected).collect();
    assert_eq!(expected, [true, false]);
}

#[test]
fn a_list_of_columns_has_an_end() {
    let columns: Vec<String> = (0..100).map(|number| format!("column_number_{number}")).collect();
    let columns: Vec<&str> = columns.iter().map(|column| &**column).collect();
    let rule = TableRule { soft_delete: Some("x".into()), ..rule() };
    let notices = Told::new(&rule, &relation(&columns), Shown::Published).notices;
    assert!(notices[0].sentence.ends_with("\"column_number_19\", …"), "{}", notices[0].sentence);
}

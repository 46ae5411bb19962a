use std::path::Path;

use super::*;
use crate::config::{Config, Flags, Needs};
use crate::postgres::pattern::NamePattern;

/// The tables of a file that begins with `[source]` in lines 1 and 2 and goes on like this.
fn parse(tables: &str) -> Result<Vec<TableConfig>> {
    let text = format!("[source]\nurl = \"postgres://ann@h/crm\"\n{tables}");
    let config = Config::parse(Path::new("w.toml"), &text, Needs::Tables, &|_| None);
    config.map(|config| config.tables)
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pattern(schema: &str, table: &str) -> TablePattern {
    TablePattern::new(NamePattern::Exact(schema.into()), NamePattern::Glob(table.into()))
}

#[test]
fn everything_that_is_written_counts() {
    let tables = parse(
        r#"
        [[table]]
        name = "public.people"
        record = "person"
        columns = ["id", "first_name", "e mail"]
        where = """
            tenant_id = 7 -- ours
        """
        soft_delete = "deleted_at"
        rename = { first_name = "given-name", "e mail" = "email" }
        case = "camel"

        [[table]]
        name = "crm.*"
        exclude = ["password_hash"]
        case = "as-is"
        whole = true

        [[table]]
        name = "*.*"
        whole = false
        rename = { a = "b", b = "a" }
        "#,
    )
    .unwrap();
    let [people, crm, all] = &tables[..] else { panic!("{tables:?}") };
    let person = TableRule {
        columns: Columns::Only(list(&["id", "first_name", "e mail"])),
        soft_delete: Some("deleted_at".into()),
        rename: vec![("first_name".into(), "given-name".into()), ("e mail".into(), "email".into())],
        case: Case::Camel,
        ..TableRule::new(TablePattern::exact("public", "people"), Some("person".into()))
    };
    assert_eq!(people.rule, person);
    assert_eq!(people.filter.as_deref(), Some("tenant_id = 7 -- ours"));
    let spec = people.spec();
    assert_eq!(spec.columns, Some(list(&["id", "first_name", "e mail"])));
    assert_eq!(spec.soft_delete.as_deref(), Some("deleted_at"));
    assert_eq!(people.row_filter().expression, people.filter);
    let rule = TableRule {
        columns: Columns::Except(list(&["password_hash"])),
        ..TableRule::new(pattern("crm", "*"), None)
    };
    assert_eq!(*crm, TableConfig { rule, filter: None, whole: true });
    assert_eq!(crm.spec().columns, None);
    assert!(all.rule.pattern.is_everything() && !all.whole && all.rule.record.is_none());
}

/// Patterns may overlap: an exact name comes first, then the order of the file.
#[test]
fn tables_may_be_meant_twice_but_not_written_twice() {
    let text = |names: &[&str]| {
        names.iter().map(|name| format!("[[table]]\nname = '{name}'\n")).collect::<String>()
    };
    assert_eq!(parse(&text(&["crm.*", "crm.people", "*.people"])).unwrap().len(), 3);
    for (names, what) in [
        (["crm.*", "\"crm\".*"], "the pattern crm.*"),
        (["*", "public.*"], "the pattern public.*"),
        (["people", "public.people"], "the table public.people"),
    ] {
        assert_eq!(
            parse(&text(&names)).unwrap_err().to_string(),
            format!(
                "w.toml:6: `table.name` names {what} a second time (first in line 4): remove one of them"
            )
        );
    }
}

/// Each wrong table and the sentence it gets. `[[table]]` is line 3, what is given begins in 5.
#[test]
fn wrong_tables_get_one_sentence() {
    let people = |lines: &str| format!("[[table]]\nname = \"people\"\n{lines}");
    let crm = |lines: &str| format!("[[table]]\nname = \"crm.*\"\n{lines}");
    for (text, sentence) in [
        (
            crm("record = \"person\""),
            "5: `table.record` calls the rows of all tables of the pattern crm.* \"person\", and those are always called after their own table: remove it, or name the table exactly",
        ),
        (
            people("columns = []"),
            "5: `table.columns` is empty: name the columns to be told, or remove it",
        ),
        (
            people("exclude = []"),
            "5: `table.exclude` is empty: name the columns to be left out, or remove it",
        ),
        (
            people("columns = [\"a\",\n\"b\",\n\"a\"]"),
            "7: `table.columns` names the column \"a\" twice: remove one of them",
        ),
        (people("exclude = [\"\"]"), "5: `table.exclude` names \"\", which is no name of a column"),
        (
            people("columns = \"a\""),
            "5: `table.columns` is a text: write a list of texts, such as [\"a\", \"b\"]",
        ),
        (
            people("exclude = [\"a\"]\ncolumns = [\"b\"]"),
            "5: `table.exclude` stands beside `columns`, which leaves out all others by itself: keep one of the two",
        ),
        (
            people("where = \" \""),
            "5: `table.where` is empty: write a condition such as \"tenant_id = 7\", or remove it",
        ),
        (
            people("where = \"a = '\\u0000'\""),
            "5: `table.where` holds a null character, which no SQL may: take it out",
        ),
        (
            people("soft_delete = \"\""),
            "5: `table.soft_delete` names \"\", which is no name of a column",
        ),
        (people("soft_delete = true"), "5: `table.soft_delete` is true: write a text in quotes"),
        (
            people("rename = { a = \"x\", b = \"x\" }"),
            "5: `table.rename.b` is \"x\", as \"a\" is: give each a name of its own",
        ),
        (
            people("rename = { a = \"\" }"),
            "5: `table.rename.a` is empty: write the name events shall say",
        ),
        (
            people("rename = { a = \"x\" }\nexclude = [\"a\"]"),
            "5: `table.rename.a` renames a column that no event tells: remove it, or let `columns` or `exclude` allow the column",
        ),
        (
            people("columns = [\"a\", \"b\"]\nrename = { a = \"b\" }"),
            "6: `table.rename.a` is \"b\", which is the name of another column of `columns`: choose another one",
        ),
        (people("case = \"snake\""), "5: `table.case` is \"snake\": write \"camel\" or \"as-is\""),
        (
            people("whole = true"),
            "5: `table.whole` has no effect with the name public.people: remove it, or name whole schemas, as \"crm.*\" and \"*.*\" do",
        ),
        (
            "[[table]]\nname = \"crm.a*\"\nwhole = true".to_owned(),
            "5: `table.whole` has no effect with the name crm.a*: remove it, or name whole schemas, as \"crm.*\" and \"*.*\" do",
        ),
        (
            people("softdelete = \"x\""),
            "5: `table.softdelete` is an unknown key: did you mean `soft_delete`?",
        ),
        (
            people("snapshot = false"),
            "5: `table.snapshot` is not supported by this version of walhook: remove it",
        ),
    ] {
        let said = parse(&text).map(|_| ()).expect_err(&text).to_string();
        assert_eq!(said, format!("w.toml:{sentence}"), "{text}");
    }
}

/// A column that is read need not be told, and names may change places.
#[test]
fn what_only_looks_wrong_is_allowed() {
    for lines in [
        "exclude = [\"gone\"]\nsoft_delete = \"gone\"",
        "columns = [\"id\"]\nsoft_delete = \"gone\"",
        "columns = [\"a\", \"b\"]\nrename = { a = \"b\", b = \"a\" }",
        "columns = [\"a\"]\nrename = { a = \"b\" }",
        "rename = {}",
        "where = \"note <> ';)' and name = '(('\"",
    ] {
        let text = format!("[[table]]\nname = \"people\"\n{lines}");
        assert!(parse(&text).is_ok(), "{text}: {:?}", parse(&text));
    }
}

#[test]
fn the_command_line_may_say_patterns() {
    let config = |table: &str| {
        let flags = Flags {
            source: Some("postgres://ann@h/crm".into()),
            tables: vec![table.to_owned()],
            ..Flags::default()
        };
        Config::from_flags(&flags, None, Needs::Tables).map_err(|error| error.to_string())
    };
    let tables = config("crm.*").unwrap().tables;
    let rule = TableRule::new(pattern("crm", "*"), None);
    assert_eq!(tables, [TableConfig { rule, filter: None, whole: false }]);
    assert_eq!(
        config("crm.*=x").unwrap_err(),
        "`--table` calls the rows of all tables of the pattern crm.* \"x\", and those are always called after their own table: remove it, or name the table exactly"
    );
}

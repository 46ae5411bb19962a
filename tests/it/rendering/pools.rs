//! Values for every type that a column can have, by the type's name.

use super::types::VALUES;

/// Where a type's values come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pool {
    /// A query of one column.
    Query(&'static str),
    /// There are none to be had, for this reason.
    None(&'static str),
}

use Pool::{None as Without, Query};

/// What is needed before the types are listed: one of every kind that users make.
pub(super) const TYPES: &str = r#"
create type floats as range (subtype = float8, multirange_type_name = many_floats);
create type words as range (subtype = text, collation = "C");
create type vacant as ();
create type mixed as (p pair, at timestamptz, tags text[], pairs pair[], n nested, r floats, big int8);
create domain positive_floats as floats check (not isempty(value));
create domain moods as mood[];
create table parent (id int, name text, gone int, child pair, more jsonb);
alter table parent drop gone;
"#;

/// Extensions whose types are compared where the server has them.
pub(super) const EXTENSIONS: &[&str] =
    &["hstore", "ltree", "citext", "cube", "seg", "isn", "lo", "postgis", "vector"];

/// Types of the server, of the test and of extensions. What is in [`VALUES`] comes first.
const POOLS: &[(&str, Pool)] = &[
    ("bit", Query("values (b''), (b'1'), (b'10101010101'), (b'0')")),
    ("varbit", Query("values (b''::varbit), (b'1'), (b'10101010101'), (b'0')")),
    ("int2vector", Query("values (''::int2vector), ('1'), ('-32768 0 32767'), ('1 2 3 4 5 6 7')")),
    ("oidvector", Query("values (''::oidvector), ('0'), ('4294967295 1 16')")),
    (
        "regproc",
        Query(
            "select oid::regproc from pg_proc where oid::int % 37 = 0 union all select 0::oid::regproc union all select 4294967295::oid::regproc",
        ),
    ),
    (
        "regprocedure",
        Query(
            "select oid::regprocedure from pg_proc where oid::int % 37 = 0 union all select 4294967295::oid::regprocedure",
        ),
    ),
    (
        "regoper",
        Query(
            "select oid::regoper from pg_operator where oid::int % 17 = 0 union all select 0::oid::regoper",
        ),
    ),
    (
        "regoperator",
        Query(
            "select oid::regoperator from pg_operator where oid::int % 17 = 0 union all select 0::oid::regoperator",
        ),
    ),
    (
        "regclass",
        Query(
            "select oid::regclass from pg_class where oid::int % 7 = 0 union all select 0::oid::regclass union all select 4294967295::oid::regclass",
        ),
    ),
    ("regcollation", Query("select oid::regcollation from pg_collation limit 30")),
    (
        "regtype",
        Query(
            "select oid::regtype from pg_type where oid::int % 7 = 0 or typname = 'char' union all select 0::oid::regtype",
        ),
    ),
    ("regrole", Query("select oid::regrole from pg_roles union all select 0::oid::regrole")),
    (
        "regnamespace",
        Query("select oid::regnamespace from pg_namespace union all select 0::oid::regnamespace"),
    ),
    ("regconfig", Query("select oid::regconfig from pg_ts_config")),
    ("regdictionary", Query("select oid::regdictionary from pg_ts_dict")),
    (
        "tid",
        Query(
            "select ('(' || n * 1048577 || ',' || n * 13 || ')')::tid from generate_series(0, 40) n",
        ),
    ),
    ("xid", Query("values ('0'::xid), ('3'), ('4294967295')")),
    ("cid", Query("values ('0'::cid), ('3'), ('4294967295')")),
    ("xid8", Query("values ('0'::xid8), ('3'), ('4294967296'), ('18446744073709551615')")),
    (
        "txid_snapshot",
        Query("values ('10:20:10,14,15'::txid_snapshot), ('1:1:'), ('12345678901:12345678999:')"),
    ),
    (
        "pg_snapshot",
        Query("values ('10:20:10,14,15'::pg_snapshot), ('1:1:'), ('12345678901:12345678999:')"),
    ),
    (
        "xml",
        Query(
            r#"values ('<a b="c">d &amp; "e" \ </a>'::xml), ('no element'), ('<?xml version="1.0"?><x/>'), (''), (E'<a>\n\t<![CDATA[<]]></a>'), (xmlcomment('null'))"#,
        ),
    ),
    ("pg_node_tree", Query("select ev_action from pg_rewrite where oid::int % 5 = 0 limit 10")),
    ("pg_ndistinct", Query("select stxdndistinct from pg_statistic_ext_data")),
    ("pg_dependencies", Query("select stxddependencies from pg_statistic_ext_data")),
    ("pg_mcv_list", Query("select stxdmcv from pg_statistic_ext_data")),
    (
        "point",
        Query(
            "values ('(1,2)'::point), ('(NaN,Infinity)'), ('(-Infinity,-0)'), ('(1e300,5e-324)') union all select point(random()*1e6-5e5, random()) from generate_series(1, 40)",
        ),
    ),
    (
        "lseg",
        Query(
            "select lseg(point(random(), n), point(-n, random()*1e20)) from generate_series(1, 40) n",
        ),
    ),
    (
        "box",
        Query(
            "select box(point(random(), n), point(-n, random()*1e20)) from generate_series(1, 40) n",
        ),
    ),
    (
        "line",
        Query(
            "select line(point(random(), n), point(-n, random()*1e20)) from generate_series(1, 40) n",
        ),
    ),
    ("circle", Query("select circle(point(random(), n), n / 7.0) from generate_series(1, 40) n")),
    ("path", Query("values ('[(0,0),(1,1.5)]'::path), ('((0,0),(1,1),(2,-3e30))'), ('[(1,1)]')")),
    ("polygon", Query("values ('((0,0),(1,1),(2,-3e30))'::polygon), ('((1,1))')")),
    (
        "money",
        Query(
            "values ('-92233720368547758.08'::money), ('92233720368547758.07'), ('0'), ('-0.01') union all select (random()*1e9-5e8)::numeric::money from generate_series(1, 40)",
        ),
    ),
    (
        "macaddr",
        Query("values ('08:00:2b:01:02:03'::macaddr), ('ff:ff:ff:ff:ff:ff'), ('0:0:0:0:0:0')"),
    ),
    (
        "macaddr8",
        Query(
            "values ('08:00:2b:01:02:03:04:05'::macaddr8), ('08:00:2b:01:02:03'), ('0000.0000.0000.0000')",
        ),
    ),
    (
        "inet",
        Query(
            "values ('10.0.0.1/8'::inet), ('::1'), ('::ffff:1.2.3.4'), ('2001:db8::/32'), ('0.0.0.0/0'), ('::/0'), ('255.255.255.255')",
        ),
    ),
    (
        "cidr",
        Query(
            "values ('10.0.0.0/8'::cidr), ('::1'), ('::ffff:1.2.3.4'), ('2001:db8::/32'), ('0.0.0.0/0'), ('::/0')",
        ),
    ),
    ("aclitem", Query("select a from pg_class, unnest(relacl) a where oid::int % 3 = 0 limit 30")),
    ("oid", Query("values (0::oid), (1), (4294967295)")),
    (
        "interval",
        Query(
            "values ('1 year 2 mons -3 days 04:05:06.7'::interval), ('0'), ('-1 day'), ('178000000 years'), ('-178000000 years -1 mon +2147483647 days -00:00:00.000001') union all select make_interval((random()*200)::int-100, (random()*30)::int-15, 0, (random()*90)::int-45, (random()*90)::int-45, 0, random()*1e5) from generate_series(1, 60)",
        ),
    ),
    ("varchar", Query(r#"values (''::varchar), ('null'), ('a "b" \ c, (d) {e}'), (E'\n\t ')"#)),
    ("refcursor", Query(r#"values ('c'::refcursor), (''), ('a "b" \ ')"#)),
    ("pg_lsn", Query("values ('0/0'::pg_lsn), ('16/B374D848'), ('FFFFFFFF/FFFFFFFF')")),
    (
        "tsvector",
        Query(
            r#"values (''::tsvector), ('a b''c:1'), ($$'it''s':1A,2B '\\':3 'x"y' z:4D$$), ('a:1 b:16383C')"#,
        ),
    ),
    (
        "tsquery",
        Query(
            r#"values (''::tsquery), ('a & !b | (c <-> d:*AB)'), ($$'it''s' <3> '\\' & 'x"y'$$)"#,
        ),
    ),
    (
        "jsonpath",
        Query(
            r#"values ('$'::jsonpath), ('strict $.a[*] ? (@.b > 1.50 && @.c like_regex "^x\"" flag "i")'), ('$."k \\ \"q\"".size()'), ('lax $[0 to last] ? (exists (@.x))')"#,
        ),
    ),
    (
        "int4range",
        Query(
            "values ('[1,5)'::int4range), ('empty'), ('(,)'), ('[,3]'), ('(-2147483648,)') union all select int4range(n, n * 3) from generate_series(1, 20) n",
        ),
    ),
    (
        "int8range",
        Query("values ('[1,5)'::int8range), ('empty'), ('(,)'), ('[,9223372036854775806]')"),
    ),
    (
        "numrange",
        Query(
            "values ('[1.50,5)'::numrange), ('empty'), ('(,)'), ('(-1e30,NaN]'), ('[-Infinity,Infinity)')",
        ),
    ),
    (
        "daterange",
        Query(
            "values ('[2024-01-01,2024-02-01)'::daterange), ('empty'), ('[0044-03-15 BC,infinity)'), ('(,10000-01-01)')",
        ),
    ),
    (
        "tsrange",
        Query(
            "values ('[2024-01-01,2024-02-01 12:00:00.5)'::tsrange), ('empty'), ('(\"0044-03-15 00:00:00 BC\",infinity]'), ('(,)')",
        ),
    ),
    (
        "tstzrange",
        Query(
            "values ('[2024-01-01 00:00+00,)'::tstzrange), ('empty'), ('(\"0044-03-15 00:00:00+01 BC\",infinity]'), ('(,)')",
        ),
    ),
    ("int4multirange", Query("values ('{}'::int4multirange), ('{[1,5),[7,9)}'), ('{(,0],[3,)}')")),
    ("int8multirange", Query("values ('{}'::int8multirange), ('{[1,5),[7,9223372036854775806)}')")),
    ("nummultirange", Query("values ('{}'::nummultirange), ('{[1.50,5),(7,NaN]}')")),
    (
        "datemultirange",
        Query("values ('{}'::datemultirange), ('{[2024-01-01,2024-02-01),[2025-01-01,infinity)}')"),
    ),
    (
        "tsmultirange",
        Query(
            "values ('{}'::tsmultirange), ('{[2024-01-01,2024-02-01 12:00:00.5),[2025-01-01,infinity)}')",
        ),
    ),
    (
        "tstzmultirange",
        Query(
            "values ('{}'::tstzmultirange), ('{[2024-01-01 00:00+00,2024-02-01 12:00:00.5+05:30),[2025-01-01 00:00Z,)}')",
        ),
    ),
    // Domains of information_schema.
    ("information_schema.cardinal_number", Query("values (0), (2147483647)")),
    ("information_schema.character_data", Query("values (''), ('a\"b')")),
    ("information_schema.sql_identifier", Query("values (''), ('a\"b')")),
    (
        "information_schema.time_stamp",
        Query(
            "values (timestamptz '2024-02-29 12:00:00.12+00'), ('infinity'), ('0044-03-15 00:00+00 BC')",
        ),
    ),
    ("information_schema.yes_or_no", Query("values ('YES'), ('NO')")),
    // The test's own.
    ("floats", Query("values ('[1.5,5e300)'::floats), ('empty'), ('(-Infinity,NaN]'), ('(,)')")),
    ("many_floats", Query("values ('{}'::many_floats), ('{[1.5,5e300),(6e300,)}')")),
    ("words", Query(r#"values ('[a,b)'::words), ('["x ""y"" \\ ",)'), ('empty'), ('["",""]')"#)),
    ("words_multirange", Query(r#"values ('{}'::words_multirange), ('{[a,b),["x ""y"" \\ ",)}')"#)),
    ("vacant", Query("values (row()::vacant)")),
    (
        "mixed",
        Query(
            r#"select row(row(n, chr(n))::pair, timestamptz 'epoch' + n * interval '1 hour', array['a', chr(n), null], array[row(n, '"')::pair, null], null, floats(n, n * 1e20), n * 1000000000000)::mixed from generate_series(20, 70) n"#,
        ),
    ),
    ("positive_floats", Query("values ('[1.5,5e300)'::positive_floats), ('(,)')")),
    ("moods", Query("values ('{sad,NULL}'::moods), ('{}'), ('[3:3]={\"\"}')")),
    (
        "parent",
        Query(
            r#"values (row(1, 'a "b" \', row(2, 'c')::pair, '{"a": [1.50, "x"]}')::parent), (row(null, '', null, null)::parent)"#,
        ),
    ),
    // Extensions'.
    ("hstore", Query(r#"values (''::hstore), ('a=>1,"b c"=>NULL,"q\"x"=>"\\y"')"#)),
    ("ltree", Query("values (''::ltree), ('a.b.c')")),
    ("lquery", Query("values ('a.*{1,2}.!b'::lquery)")),
    ("ltxtquery", Query("values ('a & !b'::ltxtquery)")),
    ("ghstore", Without("a key inside of an index; has no input and no output")),
    ("ltree_gist", Without("a key inside of an index; has no input and no output")),
    ("citext", Query(r#"values (''::citext), ('A "b" \ c')"#)),
    ("cube", Query("values ('(1,2),(3,4.5)'::cube), ('(0)')")),
    ("seg", Query("values ('1.50 .. 2.5'::seg), ('~1e-7'), ('< 3')")),
    ("ean13", Query("values ('978-0-11-000533-1'::ean13)")),
    ("isbn13", Query("values ('978-0-11-000533-1'::isbn13)")),
    ("ismn13", Query("values ('979-0-060-11561-5'::ismn13)")),
    ("issn13", Query("values ('977-1436-452-00-8'::issn13)")),
    ("isbn", Query("values ('978-0-11-000533-1'::isbn)")),
    ("ismn", Query("values ('979-0-060-11561-5'::ismn)")),
    ("issn", Query("values ('1436-4522'::issn)")),
    ("upc", Query("values ('220356483481'::upc)")),
    ("lo", Query("values (0::lo), (4294967295::oid)")),
    ("geometry", Query("values ('SRID=4326;POINT(1 2)'::geometry), ('LINESTRING(0 0, 1 1.5)')")),
    ("geography", Query("values ('POINT(1 2)'::geography)")),
    ("vector", Query("values ('[1,2.5,-3e10]'::vector)")),
    // Internals.
    ("gtsvector", Without("a key inside of an index; has no input")),
    ("pg_brin_bloom_summary", Without("lies in indexes only; has no input")),
    ("pg_brin_minmax_multi_summary", Without("lies in indexes only; has no input")),
];

/// Where the values of a type come from, as one or more queries; `None` for a type unheard of.
pub(super) fn pool(name: &str) -> Option<Result<Vec<&'static str>, &'static str>> {
    // What is in both has more here.
    let own = POOLS.iter().find(|(known, _)| *known == name);
    if let Some((_, pool)) = own {
        return Some(match pool {
            Query(query) => Ok(vec![query]),
            Without(why) => Err(why),
        });
    }
    let common = VALUES.iter().find(|(known, _)| known.trim_matches('"') == name)?;
    Some(Ok(common.1.to_vec()))
}

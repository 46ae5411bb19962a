//! Which values of which types are compared.

/// What is needed before the tables.
pub(super) const TYPES: &str = r#"
create type mood as enum ('sad', 'o''k "\', 'glücklich', '');
create type pair as (a int8, "b ""c" text);
create type nested as (p pair, at timestamptz, tags text[], pairs pair[], doc json, ok bool, f float8);
create domain positive as numeric(12, 3) check (value > 0);
create domain positives as positive[];
create domain couple as pair;
create domain document as jsonb;
"#;

/// A type and queries of one column whose rows are its values.
pub(super) const VALUES: &[(&str, &[&str])] = &[
    (
        "int2",
        &[
            "select unnest('{0,-1,32767,-32768}'::int2[])",
            "select (random()*60000-30000)::int2 from generate_series(1,300)",
        ],
    ),
    (
        "int4",
        &[
            "select unnest('{0,-1,2147483647,-2147483648}'::int4[])",
            "select (random()*4e9-2e9)::int4 from generate_series(1,300)",
        ],
    ),
    (
        "int8",
        &[
            "select unnest('{0,-1,9007199254740993,9223372036854775807,-9223372036854775808}'::int8[])",
            "select (random()*1.8e19-9e18)::int8 from generate_series(1,300)",
        ],
    ),
    (
        "float4",
        &[
            "select unnest('{0,-0,1,-1.5,NaN,Infinity,-Infinity,1e-45,3.4028235e38,1e6,1e5,123456.7,1e-4,1e-5,16777216}'::float4[])",
            "select ((random()-0.5) * 10 ^ (random()*70-33))::float4 from generate_series(1,400)",
        ],
    ),
    (
        "float8",
        &[
            "select unnest('{0,-0,1,-1.5,NaN,Infinity,-Infinity,5e-324,1.7976931348623157e308,1e15,1e14,1e16,123456789012345.67,1e-4,1e-5,9007199254740993,1e22,1e23,-1e100}'::float8[])",
            "select (random()-0.5) * 10 ^ (random()*600-300) from generate_series(1,500)",
            "select (random()*2-1) * 10 ^ (random()*40-20) from generate_series(1,300)",
        ],
    ),
    (
        "numeric",
        &[
            "select unnest('{0,0.00,-0.10,1.50,NaN,Infinity,-Infinity,1e100,1e-100,12345678901234567890123456789012345678901234567890.12345678901234567890}'::numeric[])",
            "select ((random()-0.5) * 1e12)::numeric(30, 7) from generate_series(1,300)",
            "select trunc(random()::numeric * 10::numeric ^ (random()*60)::int, (random()*30)::int) from generate_series(1,300)",
        ],
    ),
    ("numeric(10,2)", &["select (random()*10000-5000)::numeric(10,2) from generate_series(1,200)"]),
    ("bool", &["values (true), (false)"]),
    (
        "text",
        &[
            "select 'a' || chr(n) || 'z' from generate_series(1, 700) n",
            "select repeat(chr(n), n % 19) || '\"\\' || repeat('x', n % 23) from generate_series(8000, 8400) n",
            "select substr(repeat(md5(n::text), 5), 1, n) || chr(n % 40 + 1) || 'ü🦀' from generate_series(0, 150) n",
            "values (''), ('null'), ('NULL'), ('{\"a\":1}'), (E'\\u2028\\u2029\\uFEFF'), (U&'\\+10FFFF')",
            "select repeat(md5(random()::text), 400) from generate_series(1, 5)",
        ],
    ),
    ("varchar(20)", &["select left(md5(random()::text), n % 20) from generate_series(1,200) n"]),
    (
        "char(12)",
        &[
            "select left(md5(random()::text), n % 13) from generate_series(1,200) n",
            "values ('é\"')",
        ],
    ),
    ("bpchar", &["values ('a  '), (''), (' ')"]),
    ("name", &["select relname from pg_class", "values ('na\"me'), ('')"]),
    ("\"char\"", &["select n::\"char\" from generate_series(1,127) n", "values (''::\"char\")"]),
    ("uuid", &["select gen_random_uuid() from generate_series(1,200)"]),
    (
        "date",
        &[
            "values ('infinity'::date), ('-infinity'), ('epoch'), ('0001-01-01'), ('0001-01-01 BC'), ('4713-01-01 BC'), ('5874897-12-31'), ('10000-01-01'), ('9999-12-31')",
            "select date '0100-01-01 BC' + (random()*5000000)::int from generate_series(1,300)",
        ],
    ),
    (
        "time",
        &[
            "values ('00:00'::time), ('24:00'), ('23:59:59.999999'), ('01:02:03.4')",
            "select (random()*interval '24 hours')::time from generate_series(1,200)",
        ],
    ),
    ("time(0)", &["select (random()*interval '24 hours')::time from generate_series(1,100)"]),
    (
        "timetz",
        &[
            "values ('00:00+00'::timetz), ('24:00-15:59:59'), ('01:02:03.4+05:30'), ('12:00+15:59')",
            "select (random()*interval '24 hours')::time::timetz from generate_series(1,200)",
        ],
    ),
    (
        "timestamp",
        &[
            "values ('infinity'::timestamp), ('-infinity'), ('epoch'), ('0001-12-31 23:59:59.999999 BC'), ('4713-01-01 00:00:00 BC'), ('294276-12-31 23:59:59.999999'), ('10000-01-01'), ('2024-02-29 12:00:00.1')",
            "select timestamp '0500-01-01 BC' + random() * interval '5000 years' from generate_series(1,400)",
            "select date_trunc('second', timestamp '1900-01-01' + random() * interval '200 years') from generate_series(1,200)",
        ],
    ),
    (
        "timestamp(3)",
        &[
            "select timestamp '1900-01-01' + random() * interval '200 years' from generate_series(1,200)",
        ],
    ),
    (
        "timestamptz",
        &[
            "values ('infinity'::timestamptz), ('-infinity'), ('epoch'), ('0001-12-31 23:59:59.999999+05:30 BC'), ('4713-01-01 00:00:00+00 BC'), ('294276-12-31 23:59:59.999999+00'), ('10000-01-01 00:00-12'), ('2024-02-29 12:00:00.1+00')",
            "select timestamptz '0500-01-01 00:00+00 BC' + random() * interval '5000 years' from generate_series(1,400)",
            "select date_trunc('second', timestamptz '1900-01-01' + random() * interval '200 years') from generate_series(1,200)",
        ],
    ),
    (
        "json",
        &[
            r#"values ('null'::json), ('1'), ('-0.50'), ('"x"'), ('[]'), ('{}'), ('true'), (' { "a" : [ 1 , {"b":null} ] , "a" : 2 } '), (E'[1,\n\t2]'), ('"é\u00e9\ud83e\udd80\\\""')"#,
            "select json_build_object('k' || n, md5(n::text), 'l', array[n, n+1], 'q', chr(n % 90 + 30)) from generate_series(1,200) n",
        ],
    ),
    (
        "jsonb",
        &[
            r#"values ('null'::jsonb), ('1'), ('-0.50'), ('1e5'), ('1E-7'), ('"x"'), ('[]'), ('{}'), ('true'), ('{"a":[1,{"b":null}],"a":2}'), ('"é\u00e9\ud83e\udd80\\\"\n"'), ('12345678901234567890.123456789')"#,
            "select jsonb_build_object('k' || n, md5(n::text), 'l', array[n, n+1], 'q', chr(n % 90 + 30)) from generate_series(1,200) n",
        ],
    ),
    (
        "bytea",
        &[
            "values (''::bytea), ('\\x00ff5c22')",
            "select decode(md5(random()::text), 'hex') from generate_series(1,200)",
        ],
    ),
    ("mood", &["select unnest(enum_range(null::mood))"]),
    ("int2[]", &["values ('{}'::int2[]), ('{1,NULL,-3}'), ('[0:1]={1,2}')"]),
    (
        "int4[]",
        &[
            "values ('{}'::int4[]), ('{NULL}'), ('{{1,2},{3,NULL}}'), ('[2:3]={1,2}'), ('[-1:0][5:6]={{1,2},{3,4}}'), ('{{{{{{7}}}}}}')",
            "select array(select (random()*1000)::int from generate_series(1, n % 9)) from generate_series(1,200) n",
        ],
    ),
    ("int8[]", &["values ('{9223372036854775807,NULL}'::int8[])"]),
    ("float4[]", &["values ('{NaN,-0,1e10,Infinity,0.1}'::float4[])"]),
    (
        "float8[]",
        &[
            "values ('{NaN,-0,1e20,-Infinity,0.1}'::float8[])",
            "select array[random(), random()*1e30, random()*1e-30] from generate_series(1,100)",
        ],
    ),
    ("numeric[]", &["values ('{NaN,1.50,Infinity,0.000}'::numeric[])"]),
    ("bool[]", &["values ('{t,f,NULL}'::bool[])"]),
    (
        "text[]",
        &[
            r#"values (array['', 'NULL', 'null', null, 'a b', 'a,b', '{x}', '"q"', '\', E'\n\t', 'é🦀', ' lead', 'trail ']), (array[['a','b'],['c"','\\d']]), ('{}')"#,
            "select array['a' || chr(n) || 'z', chr(n), null] from generate_series(1,600) n",
        ],
    ),
    ("char(4)[]", &["values ('{a,\"b c\",NULL}'::char(4)[])"]),
    (
        "uuid[]",
        &["select array[gen_random_uuid(), null, gen_random_uuid()] from generate_series(1,20)"],
    ),
    ("date[]", &["values ('{infinity,2024-01-02,0044-03-15 BC}'::date[])"]),
    ("time[]", &["values ('{12:00,24:00}'::time[])"]),
    (
        "timestamp[]",
        &["values ('{infinity,2024-01-02 03:04:05.6,0044-03-15 00:00 BC}'::timestamp[])"],
    ),
    (
        "timestamptz[]",
        &["values ('{-infinity,2024-01-02 03:04:05.6+02,0044-03-15 00:00+00 BC}'::timestamptz[])"],
    ),
    ("json[]", &[r#"values (array['{"a": "b\"\\c"}', 'null', null, '[1, 2]', '"x"']::json[])"#]),
    ("jsonb[]", &[r#"values (array['{"a": "b\"\\c"}', 'null', null, '[1, 2]', '"x"']::jsonb[])"#]),
    ("bytea[]", &["values (array['\\x00ff', null, '']::bytea[])"]),
    ("mood[]", &["select array[enum_range(null::mood), enum_range(null::mood)]"]),
    (
        "pair",
        &[
            r#"values (row(1, 'x')::pair), (row(null, null)::pair), (row(1, '')::pair), (row(-5, E'a"b\\c,(d) \n''é')::pair)"#,
            "select row(n, chr(n) || ' ' || chr(n))::pair from generate_series(1,300) n",
        ],
    ),
    (
        "pair[]",
        &[r#"values (array[row(1,'a "b" \ c')::pair, null, row(null, 'NULL')::pair]), ('{}')"#],
    ),
    (
        "nested",
        &[
            r#"select row(row(n, chr(n) || '"\')::pair, now() + n * interval '1 hour', array['a', chr(n), null], array[row(n, chr(n))::pair, null], json_build_object('x', chr(n)), n % 2 = 0, case when n % 3 = 0 then 'NaN' else n * 1e20 end)::nested from generate_series(1,300) n"#,
            "values (row(null,null,null,null,null,null,null)::nested)",
        ],
    ),
    ("positive", &["values (1.5::positive), (999999999.999)"]),
    ("positives", &["values ('{1.5,2}'::positives), ('{}')"]),
    ("couple", &["values (row(1,'x')::couple)"]),
    ("document", &[r#"values ('{"a":[1.50]}'::document)"#]),
    ("box[]", &["values (array['((0,0),(1,1))', '((2,2),(3,3))']::box[])"]),
    // Postgres's text, for these too.
    ("interval", &["values ('1 year 2 mons -3 days 04:05:06.7'::interval), ('0'), ('-1 day')"]),
    ("inet", &["values ('10.0.0.1/8'::inet), ('::1')"]),
    ("oid", &["values (4294967295::oid)"]),
    ("int4range", &["values ('[1,5)'::int4range), ('empty')"]),
    ("tstzrange", &["values ('[2024-01-01 00:00+00,)'::tstzrange)"]),
    ("point", &["values ('(1,2)'::point)"]),
    ("bit(4)", &["values (b'1010')"]),
    ("money", &["values (1234.5::money)"]),
    ("tsvector", &["values ('a b''c:1'::tsvector)"]),
    ("pg_lsn", &["values ('16/B374D848'::pg_lsn)"]),
    ("regclass", &["values ('pg_class'::regclass)"]),
];

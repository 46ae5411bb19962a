//! What connection strings mean, and that bad ones are refused without telling secrets.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

fn options(text: &str) -> ConnectionOptions {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    match text.parse::<ConnectionOptions>() {
        Ok(options) => panic!("{text} was read as {options:?}"),
        Err(error) => {
            assert!(!error.is_retryable());
            error.to_string()
        }
    }
}

fn tcp(name: &str, port: u16) -> Server {
    Server { host: Host::Tcp { name: name.to_owned(), address: None }, port }
}

fn password(options: &ConnectionOptions) -> Option<String> {
    options.password_for(&options.servers[0]).map(|p| p.expose_secret().to_owned())
}

#[test]
fn a_url_names_everything() {
    let o = options(
        "postgresql://m%C3%BCller:p%40ss%2Fw%3Ard@db.example.com:5433/my%20db?sslmode=verify-full\
         &sslrootcert=/etc/ca.pem&application_name=crm&connect_timeout=3\
         &options=-c%20work_mem%3D1MB",
    );
    assert_eq!(o.to_string(), "müller@db.example.com:5433/my db");
    assert_eq!(password(&o).as_deref(), Some("p@ss/w:rd"));
    assert_eq!(o.tls.mode, SslMode::VerifyFull);
    assert_eq!(o.tls.root_cert, Some(RootCert::File("/etc/ca.pem".into())));
    assert_eq!(o.application_name, "crm");
    assert_eq!(o.connect_timeout, Some(Duration::from_secs(3)));
    assert!(o.startup_options().starts_with("-c work_mem=1MB -c datestyle=ISO "));
}

#[test]
fn words_name_the_same() {
    let url = options("postgres://u:it's%20a%5Csecret@h1,h2:5433/d?target_session_attrs=primary");
    let words = options(
        r"host=h1,h2 port = ,5433 user=u dbname='d' password='it\'s a\\secret'
          target_session_attrs=primary",
    );
    assert_eq!(url, words);
    assert_eq!(url.servers, [tcp("h1", 5432), tcp("h2", 5433)]);
    assert_eq!(url.to_string(), "u@h1:5432,h2:5433/d");
}

#[test]
fn hosts_come_in_every_form() {
    assert_eq!(options("postgres://u@[2001:db8::1]:99/d").servers, [tcp("2001:db8::1", 99)]);
    assert_eq!(options("postgres://u@[::1]/d").to_string(), "u@[::1]:5432/d");
    let socket = [Server { host: Host::Unix("/run/pg".into()), port: 6000 }];
    assert_eq!(options("postgres://u@%2Frun%2Fpg:6000/d").servers, socket);
    assert_eq!(options("postgres://u@/d?host=/run/pg&port=6000").servers, socket);
    assert_eq!(options("host=/run/pg port=6000 user=u").servers, socket);
    let local = [Server { host: Host::Local, port: 5432 }];
    assert_eq!(options("postgres://u@/d").servers, local);
    assert_eq!(options("user=u").servers, local);
    let found = Host::Tcp { name: "db".into(), address: Some([10, 0, 0, 1].into()) };
    let both = options("host=db hostaddr=10.0.0.1 user=u");
    assert_eq!(both.servers, [Server { host: found, port: 5432 }]);
    assert_eq!(options("hostaddr=::1 user=u").to_string(), "u@[::1]:5432/u");
    assert_eq!(options("host=a,b port=7 user=u").servers, [tcp("a", 7), tcp("b", 7)]);
}

#[test]
fn the_last_of_several_counts_and_the_database_defaults_to_the_user() {
    let o = options("postgres://u@a/d?host=b&port=7&user=v&dbname=e");
    assert_eq!(o.to_string(), "v@b:7/e");
    assert_eq!(options("postgres://u@a").database(), "u");
    assert_eq!(o.with_database("x").to_string(), "v@b:7/x");
    assert_eq!(o.with_application_name("y").application_name, "y");
}

#[test]
fn what_providers_hand_out_is_understood() {
    let neon = options(
        "postgresql://u:p@ep-1.eu.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
    );
    assert_eq!(neon.channel_binding, ChannelBindingMode::Require);
    assert_eq!(neon.tls.mode, SslMode::Require);
    assert_eq!(options("postgres://u@h/d?ssl=true").tls.mode, SslMode::Require);
    assert_eq!(options("postgres://u@h/d?sslrootcert=system").tls.mode, SslMode::VerifyFull);
    assert_eq!(options("postgres://u@h/d?sslmode=allow").tls.mode, SslMode::Prefer);
    options("postgres://u@h/d?replication=database&client_encoding=UTF8&gssencmode=disable");
}

#[test]
fn refusals_say_what_to_do() {
    let cases = [
        ("", "neither a URL"),
        ("mydb", "neither a URL"),
        ("mysql://u@h/d", "neither a URL"),
        ("postgres://u@h/d?sslmod=require", "did you mean `sslmode`?"),
        ("postgres://u@h/d?applicationname=x", "did you mean `application_name`?"),
        ("host=h user=u sslcrl=/x", "`sslcrl` in the connection string is not supported"),
        ("postgres://u@h/d?sslmode=maybe", "one of disable, allow, prefer"),
        ("postgres://u@h/d?sslmode=verify-ca", "needs sslrootcert"),
        ("postgres://u@h/d?sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
        ("postgres://u@h/d?sslcert=/x", "go together"),
        ("postgres://u@h/d?channel_binding=require&sslmode=disable", "needs TLS"),
        ("postgres://u@h/d?sslnegotiation=direct", "sslmode=require"),
        ("postgres://u@h:0/d", "between 1 and 65535"),
        ("postgres://u@h:65536/d", "between 1 and 65535"),
        ("host=a,b,c port=1,2 user=u", "as many ports"),
        ("host=a,b hostaddr=10.0.0.1 user=u", "as many addresses"),
        ("hostaddr=db user=u", "not an IP address"),
        ("postgres://u@[::1/d", "closing `]`"),
        ("postgres://u@[::1]x/d", "IPv6"),
        ("postgres://u@h/d?x", "without `=`"),
        ("postgres://u@h/%zz", "hexadecimal"),
        ("postgres://u@h/%00", "hexadecimal"),
        ("postgres://u@h/%FF", "not valid UTF-8"),
        ("host='h user=u", "closing quote"),
        ("host=h user", "without `=`"),
        ("host=h\0 user=u", "zero byte"),
        ("user=u connect_timeout=-1", "between 0 and"),
        ("user=u keepalives_idle=99999999", "between 0 and"),
        (r"user=u options='-c x=y\\'", "ends in a backslash"),
        ("user=u host=@abstract", "abstract"),
    ];
    for (text, expected) in cases {
        let said = refusal(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn a_badly_written_password_is_never_quoted() {
    for text in [
        "postgres://u:Se/cret1@h/d",
        "postgres://u:Se@cret1@h/d",
        "postgres://u:Se%cret1@h/d",
        "postgres://u:Se#cret1/@h/d",
        "host=h user=u password=Se cret1=x",
        "host=h user=u password=Se cret1",
        "host=h user=u password='Secret1",
        "postgres://u:Secret1@h/d?sslmode=nope",
    ] {
        let said = refusal(text);
        assert!(!said.contains("cret1"), "{text}: {said}");
    }
    let o = options("postgres://u:Secret1@h/d");
    assert!(!format!("{o:?} {o}").contains("Secret1"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = text.parse::<ConnectionOptions>();
    }

    #[test]
    fn any_url_like_text_is_read_or_refused(
        text in r"postgres(ql)?://[a-z:@/?\[\]%,&=0-9 ]{0,60}",
    ) {
        if let Ok(options) = text.parse::<ConnectionOptions>() {
            prop_assert!(!options.servers.is_empty());
            prop_assert!(!options.rounds().is_empty());
        }
    }

    #[test]
    fn any_words_are_read_or_refused(
        text in r"((host|port|user|password|dbname|options|sslmode|hostaddr) ?= ?['\\a-z0-9,/:]{0,9} ){0,6}",
    ) {
        let _ = text.parse::<ConnectionOptions>();
    }

    #[test]
    fn any_user_password_and_database_survive_a_url(
        user in "[^\0]{1,12}", secret in "[^\0]{1,12}", dbname in "[^\0]{1,12}",
    ) {
        let encode = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
        let url = format!(
            "postgres://{}:{}@h/{}", encode(&user), encode(&secret), encode(&dbname)
        );
        let options = options(&url);
        prop_assert_eq!(options.user(), user);
        prop_assert_eq!(options.database(), dbname);
        prop_assert_eq!(password(&options), Some(secret));
    }

    #[test]
    fn any_value_survives_quoting(
        user in "[^\0]{1,12}", secret in "[^\0]{1,12}", dbname in "[^\0]{1,12}",
    ) {
        let quote = |text: &str| {
            format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
        };
        let words = format!(
            "host=h user={} password = {} dbname ={}", quote(&user), quote(&secret), quote(&dbname)
        );
        let options = options(&words);
        prop_assert_eq!(options.user(), user);
        prop_assert_eq!(options.database(), dbname);
        prop_assert_eq!(password(&options), Some(secret));
    }
}

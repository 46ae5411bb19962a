//! Hosts, TLS and logins, for both kinds of connection.

use std::fs;
use std::time::{Duration, Instant};

use walhook::postgres::replication::ReplicationClient;
use walhook::postgres::{ConnectionOptions, PgError, connect};

use crate::harness::{Database, Workspace};

use super::fixture::{ClusterFixture, PASSWORD, authority, certificate};

/// Connects with both clients and says whether both connections are encrypted; where one fails
/// the other must fail alike.
async fn both(cluster: &ClusterFixture, options: &ConnectionOptions) -> Result<bool, PgError> {
    let query = connect(options).await;
    let blocking = {
        let options = options.with_application_name("replication under test");
        tokio::task::spawn_blocking(move || ReplicationClient::connect(&options)).await.unwrap()
    };
    for error in [query.as_ref().err(), blocking.as_ref().err()].into_iter().flatten() {
        let text = error.to_string();
        assert!(!text.contains(PASSWORD) && !text.contains("s3cret"), "{text}");
    }
    let (query, mut blocking) = match (query, blocking) {
        (Ok(query), Ok(blocking)) => (query, blocking),
        (Err(query), Err(blocking)) => {
            assert_eq!(query.sqlstate(), blocking.sqlstate(), "{query} | {blocking}");
            assert_eq!(query.is_retryable(), blocking.is_retryable(), "{query} | {blocking}");
            return Err(blocking);
        }
        (query, blocking) => panic!("{:?} | {:?}", query.err(), blocking.err()),
    };
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let encrypted: bool = query.query_one(sql, &[]).await.unwrap().get(0);
    let identity = tokio::task::spawn_blocking(move || {
        let identity = blocking.identify_system();
        (identity, blocking)
    });
    let (identity, blocking) = identity.await.unwrap();
    assert_eq!(identity.unwrap().database.as_deref(), Some("app"));
    let sql = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'replication under test' AND usename = $1";
    let row = cluster.client().await.query_one(sql, &[&options.user()]).await.unwrap();
    assert!(row.get::<_, i64>(1) > 0);
    if row.get::<_, i64>(1) == 1 {
        assert_eq!(row.get::<_, bool>(0), encrypted);
    }
    drop(blocking);
    Ok(encrypted)
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_30_every_login_works_in_the_clear_and_encrypted() {
    let cluster = ClusterFixture::shared();
    for user in ["trusty", "plain", "md5er", "scram"] {
        for (more, encrypted) in [
            ("sslmode=disable", false),
            ("", true),
            ("sslmode=require", true),
            ("sslmode=require channel_binding=disable", true),
            ("sslmode=require ssl_min_protocol_version=TLSv1.3 sslsni=0", true),
        ] {
            let options = cluster.tcp(user, more);
            assert_eq!(both(&cluster, &options).await.unwrap(), encrypted, "{user} {more}");
        }
    }
    assert!(!both(&cluster, &cluster.unix("scram")).await.unwrap());
}

/// One connection string with much in it serves the program for both of its connections.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_30_the_program_takes_the_connection_string_as_it_is() {
    let cluster = ClusterFixture::shared();
    let port = cluster.port();
    let root = cluster.path("root.crt").display().to_string();
    // Taken and let go: nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let password = PASSWORD.replace(' ', "%20").replace('\'', "%27");
    let tcp = format!("postgres://scram:{password}@localhost:{dead},localhost:{port}/app");
    let socket = format!(
        "host={} port={port} user=scram dbname=app",
        cluster.cluster().socket_dir().display()
    );
    let verified = format!(
        "{tcp}?sslmode=verify-full&sslrootcert={root}&channel_binding=require\
         &target_session_attrs=read-write"
    );
    let database = Database::create().await;
    for (url, works) in [
        (&verified, true),
        (&socket, true),
        (&verified.replace(&password, "wr0ng"), false),
        (&verified.replace("read-write", "standby"), false),
    ] {
        let workspace = Workspace::new(&database)
            .toml(&format!("[source]\nurl = {url:?}"))
            .table("public.person", "person")
            .endpoint("main", "http://127.0.0.1:9/", "");
        let checked = workspace.run(&["check"]).await.stdout;
        assert_eq!(checked.contains("a replication connection works"), works, "{url}: {checked}");
        assert!(!checked.contains(PASSWORD) && !checked.contains("wr0ng"), "{checked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_name_everything_but_the_password() {
    let cluster = ClusterFixture::shared();
    let port = cluster.port();
    for user in ["plain", "md5er", "scram"] {
        let wrong: ConnectionOptions =
            format!("postgres://{user}:wr0ng@127.0.0.1:{port}/app").parse().unwrap();
        let error = both(&cluster, &wrong).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("{user}@127.0.0.1:{port}/app")), "{text}");
        assert!(text.contains("check user and password") && !text.contains("wr0ng"), "{text}");
        assert_eq!(error.sqlstate(), Some("28P01"));
        assert!(!error.is_retryable());

        let none: ConnectionOptions =
            format!("postgres://{user}@127.0.0.1:{port}/app").parse().unwrap();
        let blocking = ReplicationClient::connect(&none).map(drop).unwrap_err();
        for error in [blocking, connect(&none).await.map(drop).unwrap_err()] {
            assert!(error.to_string().contains("the connection string has none"), "{error}");
            assert!(!error.is_retryable());
        }
    }
    let error = both(&cluster, &cluster.tcp("trusty", "").with_database("nope")).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("3D000"), "{error}");
    let error = both(&cluster, &cluster.tcp("nobody", "")).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    let error = ReplicationClient::connect(&cluster.tcp("mortal", "")).map(drop).unwrap_err();
    assert!(error.to_string().contains("REPLICATION"), "{error}");
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_is_read_when_named() {
    let cluster = ClusterFixture::shared();
    let file = cluster.path("passfile");
    let escaped = PASSWORD.replace(':', "\\:");
    fs::write(&file, format!("# ours\nlocalhost:*:app:scram:{escaped}\n")).unwrap();
    let text = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=scram dbname=app passfile={}",
        cluster.port(),
        file.display()
    );
    assert!(both(&cluster, &text.parse().unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_as_the_mode_says() {
    let cluster = ClusterFixture::shared();
    let root = cluster.path("root.crt").display().to_string();
    let stranger = cluster.path("stranger.crt");
    fs::write(&stranger, authority(&rcgen::PKCS_ECDSA_P256_SHA256).0).unwrap();
    let stranger = stranger.display().to_string();
    let works = |more: String| {
        let cluster = cluster.clone();
        async move {
            let options = cluster.tcp("scram", &more);
            assert!(both(&cluster, &options).await.unwrap_or_else(|e| panic!("{more}: {e}")));
        }
    };
    works(format!("sslmode=verify-full sslrootcert={root}")).await;
    works(format!("sslmode=verify-ca sslrootcert={root}")).await;
    works(format!("sslmode=require sslrootcert={root}")).await;
    // hostaddr keeps the connection here; the name is another's.
    works(format!("sslmode=verify-ca sslrootcert={root} host=other.example")).await;
    for more in [
        format!("sslmode=verify-full sslrootcert={root} host=other.example"),
        format!("sslmode=verify-full sslrootcert={stranger}"),
        format!("sslmode=verify-ca sslrootcert={stranger}"),
        format!("sslmode=require sslrootcert={stranger}"),
        "sslmode=verify-full sslrootcert=/nonexistent".to_owned(),
    ] {
        let error = both(&cluster, &cluster.tcp("scram", &more)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("certificate") || text.contains("sslrootcert"), "{more}: {text}");
        assert!(!error.is_retryable(), "{more}: {text}");
    }
    // As in libpq, prefer goes on without.
    let options = cluster.tcp("scram", &format!("sslmode=prefer sslrootcert={stranger}"));
    assert!(!both(&cluster, &options).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_takes_what_pg_hba_admits() {
    let cluster = ClusterFixture::shared();
    assert!(!both(&cluster, &cluster.tcp("clear", "sslmode=prefer")).await.unwrap());
    let error = both(&cluster, &cluster.tcp("clear", "sslmode=require")).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_log_in() {
    let cluster = ClusterFixture::shared();
    let (cert, key) = cluster.client_certificate("certer");
    let more = format!("sslmode=require sslcert={} sslkey={}", cert.display(), key.display());
    assert!(both(&cluster, &cluster.tcp("certer", &more)).await.unwrap());
    let error = both(&cluster, &cluster.tcp("certer", "sslmode=require")).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_binding_is_had_where_required() {
    let cluster = ClusterFixture::shared();
    assert!(both(&cluster, &cluster.tcp("scram", "channel_binding=require")).await.unwrap());
    for user in ["trusty", "plain", "md5er"] {
        let options = cluster.tcp(user, "channel_binding=require");
        let error = both(&cluster, &options).await.unwrap_err();
        assert!(error.to_string().contains("channel_binding=require"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_every_kind_bind_or_are_called_unsupported() {
    let cluster = ClusterFixture::start();
    // Signed with SHA-384, then with Ed25519, for which no binding is defined.
    for (algorithm, binds) in
        [(&rcgen::PKCS_ECDSA_P384_SHA384, true), (&rcgen::PKCS_ED25519, false)]
    {
        let (root, issuer) = authority(algorithm);
        let (server, key) = certificate(&issuer, &["localhost"], "localhost");
        cluster.install(&server, &key);
        let path = cluster.path("new-root.crt");
        fs::write(&path, root).unwrap();
        cluster.execute("SELECT pg_reload_conf()");
        let more = format!("sslmode=verify-full sslrootcert={}", path.display());
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = connect(&cluster.tcp("scram", &more)).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::task::yield_now().await;
        }
        assert!(both(&cluster, &cluster.tcp("scram", &more)).await.unwrap());
        let required = cluster.tcp("scram", &format!("{more} channel_binding=require"));
        assert_eq!(both(&cluster, &required).await.is_ok(), binds);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_tried_in_turn() {
    let cluster = ClusterFixture::shared();
    let port = cluster.port();
    // Taken and let go: nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = |target: &str| {
        format!(
            "postgres://trusty@127.0.0.1:{dead},127.0.0.1:{port}/app?target_session_attrs={target}"
        )
    };
    for target in ["any", "read-write", "primary", "prefer-standby"] {
        both(&cluster, &text(target).parse().unwrap()).await.unwrap();
    }
    for target in ["standby", "read-only"] {
        let error = both(&cluster, &text(target).parse().unwrap()).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("127.0.0.1:{dead}")), "{said}");
        assert!(
            said.contains(&format!(
                "it is not {}",
                match target {
                    "standby" => "a standby",
                    _ => "read-only",
                }
            )),
            "{said}"
        );
        assert!(error.is_retryable(), "a failover may be under way");
    }
    let missing = "postgres://u@127.0.0.1/d?host=/nonexistent".parse().unwrap();
    let error = ReplicationClient::connect(&missing).map(drop).unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_do_not_depend_on_the_databases_settings() {
    let cluster = ClusterFixture::shared();
    let options = cluster.tcp("trusty", "options='-c work_mem=5MB -c datestyle=SQL'");
    let client = connect(&options).await.unwrap();
    for (setting, value) in [
        ("datestyle", "ISO, MDY"),
        ("intervalstyle", "postgres"),
        ("timezone", "UTC"),
        ("bytea_output", "hex"),
        ("extra_float_digits", "3"),
        ("client_encoding", "UTF8"),
        ("statement_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("application_name", "walhook"),
        ("work_mem", "5MB"),
    ] {
        let row = client.query_one("SELECT current_setting($1)", &[&setting]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }
}

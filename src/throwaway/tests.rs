use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

async fn query_one(cluster: &Cluster, sql: &str) -> String {
    let (client, connection) =
        tokio_postgres::connect(&cluster.url("postgres"), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let value = client.query_one(sql, &[]).await.unwrap().get(0);
    drop(client);
    connection.await.unwrap().unwrap();
    value
}

const IDENTITY: &str = "select system_identifier::text from pg_control_system()";

#[tokio::test]
async fn a_cluster_serves_restarts_and_leaves_nothing() {
    let cluster = Cluster::start(&Options::new().conf("work_mem = '7MB'")).unwrap();
    assert_eq!(query_one(&cluster, "show work_mem").await, "7MB");
    assert_eq!(query_one(&cluster, "show wal_level").await, "logical");
    assert_eq!(query_one(&cluster, "show server_encoding").await, "UTF8");
    assert!(cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port())).exists());

    cluster.add_conf("work_mem = '9MB'").unwrap();
    cluster.restart(StopMode::Immediate).unwrap();
    assert_eq!(query_one(&cluster, "show work_mem").await, "9MB");

    let twin = Cluster::start(&Options::new()).unwrap();
    assert_eq!(query_one(&cluster, IDENTITY).await, query_one(&twin, IDENTITY).await);
    let stranger = Cluster::start(&Options::new().own_identity()).unwrap();
    assert_ne!(query_one(&cluster, IDENTITY).await, query_one(&stranger, IDENTITY).await);

    let dirs = [&cluster, &twin, &stranger].map(|cluster| cluster.socket_dir().to_owned());
    drop((cluster, twin, stranger));
    assert!(dirs.iter().all(|dir| !dir.exists()));
}

#[tokio::test]
async fn a_standby_can_be_promoted() {
    let primary = Cluster::start(&Options::new()).unwrap();
    let standby = primary.standby(&Options::new()).unwrap();
    assert_eq!(query_one(&standby, "select pg_is_in_recovery()::text").await, "true");
    primary.stop(StopMode::Fast).unwrap();
    standby.promote().unwrap();
    assert_eq!(query_one(&standby, "select pg_is_in_recovery()::text").await, "false");
}

/// Set in the process that `nothing_is_left_when_the_owner_is_killed` starts and kills.
const OWNER: &str = "WALHOOK_TEST_THROWAWAY_OWNER";

#[test]
fn nothing_is_left_when_the_owner_is_killed() {
    if std::env::var_os(OWNER).is_some() {
        let cluster = Cluster::start(&Options::new()).unwrap();
        let pid = fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        println!("\nhere: {pid} {}", cluster.socket_dir().parent().unwrap().display());
        loop {
            std::thread::park();
        }
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["throwaway::tests::nothing_is_left_when_the_owner_is_killed", "--exact"])
        .arg("--nocapture")
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("here: ").map(str::to_owned));
    let line = line.expect("the owner ends without a cluster");
    let (pid, root) = line.split_once(' ').unwrap();
    let (pid, root) =
        (rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap(), Path::new(root));
    let runs = || rustix::process::test_kill_process(pid).is_ok();
    assert!(root.exists() && runs());

    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while root.exists() || runs() {
        assert!(Instant::now() < deadline, "still there: {}", root.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

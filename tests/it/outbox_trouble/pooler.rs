//! A pooler in front of the server that gives every transaction any of its sessions, as pgbouncer
//! does with `pool_mode = transaction`.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A session at the server, and what the server said at its beginning.
struct Session {
    stream: TcpStream,
    greeting: Vec<u8>,
}

type Pool = Arc<Mutex<Vec<Session>>>;

/// Starts one before the server on this port; says its own.
pub(super) async fn start(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pool = Pool::default();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let pool = Arc::clone(&pool);
            // Whoever leaves ends it.
            tokio::spawn(async move { serve(client, server, &pool).await.ok() });
        }
    });
    port
}

async fn serve(mut client: TcpStream, server: u16, pool: &Pool) -> io::Result<()> {
    let startup = startup(&mut client).await?;
    let session = session(server, &startup, pool).await?;
    let greeting = session.greeting.clone();
    put_back(pool, session);
    client.write_all(&greeting).await?;
    loop {
        let message = message(&mut client).await?;
        if message[0] == b'X' {
            return Ok(());
        }
        let mut session = self::session(server, &startup, pool).await?;
        let end = transaction(&mut client, &mut session.stream, message).await?;
        // Before the client can ask for the next.
        put_back(pool, session);
        client.write_all(&end).await?;
    }
}

/// Passes messages on until the server waits for the next one outside of a transaction, and gives the
/// message that says so.
async fn transaction(
    client: &mut TcpStream,
    server: &mut TcpStream,
    first: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let mut answers_due = 0;
    let mut next = Some(first);
    loop {
        if let Some(message) = next.take() {
            answers_due += u32::from(matches!(message[0], b'Q' | b'S'));
            server.write_all(&message).await?;
        }
        if answers_due == 0 {
            next = Some(message(client).await?);
            continue;
        }
        let answer = message(server).await?;
        if answer[0] == b'Z' {
            answers_due -= 1;
            if answers_due == 0 && answer[5] == b'I' {
                return Ok(answer);
            }
        }
        client.write_all(&answer).await?;
    }
}

fn put_back(pool: &Pool, session: Session) {
    pool.lock().unwrap().push(session);
}

/// The session that was used last, or a new one.
async fn session(server: u16, startup: &[u8], pool: &Pool) -> io::Result<Session> {
    if let Some(session) = pool.lock().unwrap().pop() {
        return Ok(session);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", server)).await?;
    stream.write_all(startup).await?;
    let mut greeting = Vec::new();
    loop {
        let message = message(&mut stream).await?;
        greeting.extend_from_slice(&message);
        if message[0] == b'Z' {
            return Ok(Session { stream, greeting });
        }
    }
}

/// The startup packet; encryption is refused.
async fn startup(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    loop {
        let packet = body(client, Vec::new()).await?;
        match u32::from_be_bytes(packet[4..8].try_into().unwrap()) {
            80_877_103 | 80_877_104 => client.write_all(b"N").await?,
            _ => return Ok(packet),
        }
    }
}

async fn message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let kind = stream.read_u8().await?;
    body(stream, vec![kind]).await
}

/// A length and what it announces, behind what was read already.
async fn body(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    bytes.extend_from_slice(&length.to_be_bytes());
    let start = bytes.len();
    bytes.resize(start + length as usize - 4, 0);
    stream.read_exact(&mut bytes[start..]).await?;
    Ok(bytes)
}

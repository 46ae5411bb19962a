//! The receiver's own limit: the same requests from a bare client that does nothing else.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends `requests` POSTs of `body_bytes` over `connections` keep-alive connections, one in flight
/// on each, and says how long it took.
pub(crate) async fn send(
    address: SocketAddr,
    requests: usize,
    connections: usize,
    body_bytes: usize,
) -> Result<Duration, Box<dyn Error>> {
    let mut message = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {body_bytes}\r\n\r\n"
    )
    .into_bytes();
    message.resize(message.len() + body_bytes, b'x');
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let message = message.clone();
        let share = requests / connections;
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut answer = [0; 512];
            for _ in 0..share {
                stream.write_all(&message).await?;
                if stream.read(&mut answer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok::<(), std::io::Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(started.elapsed())
}

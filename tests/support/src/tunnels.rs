//! A small real proxy, also for the end-to-end tests.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// A proxy for HTTP CONNECT and SOCKS5 that records its targets.
pub async fn proxy(credentials: Option<(&'static str, &'static str)>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let mut first = [0];
                client.peek(&mut first).await.unwrap();
                let target = if first == [5] {
                    socks(&mut client, credentials).await
                } else {
                    connect(&mut client, credentials).await
                };
                let Some(target) = target else { return };
                log.lock().unwrap().push(target.clone());
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, asked)
}

/// RFC 9110, 9.3.6
async fn connect(client: &mut TcpStream, credentials: Option<(&str, &str)>) -> Option<String> {
    let head = read_head(client).await?;
    // user:p@ss
    if credentials.is_some() && !head.contains("Proxy-Authorization: Basic dXNlcjpwQHNz\r\n") {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
        return None;
    }
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    Some(head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned())
}

/// RFC 1928 and 1929
async fn socks(client: &mut TcpStream, credentials: Option<(&str, &str)>) -> Option<String> {
    let mut hello = [0; 2];
    client.read_exact(&mut hello).await.ok()?;
    let mut methods = vec![0; hello[1].into()];
    client.read_exact(&mut methods).await.ok()?;
    match credentials {
        None => client.write_all(&[5, 0]).await.ok()?,
        Some((user, password)) => {
            assert!(methods.contains(&2), "{methods:?}");
            client.write_all(&[5, 2]).await.ok()?;
            let expected = [&[1, user.len() as u8], user.as_bytes(), &[password.len() as u8], password.as_bytes()].concat();
            let mut said = vec![0; expected.len()];
            client.read_exact(&mut said).await.ok()?;
            assert_eq!(said, expected);
            client.write_all(&[1, 0]).await.ok()?;
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        1 => {
            let mut address = [0; 4];
            client.read_exact(&mut address).await.ok()?;
            Ipv4Addr::from(address).to_string()
        }
        4 => {
            let mut address = [0; 16];
            client.read_exact(&mut address).await.ok()?;
            format!("[{}]", Ipv6Addr::from(address))
        }
        _ => {
            let mut name = vec![0; client.read_u8().await.ok()?.into()];
            client.read_exact(&mut name).await.ok()?;
            String::from_utf8(name).ok()?
        }
    };
    let port = client.read_u16().await.ok()?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    Some(format!("{host}:{port}"))
}

/// The head of a request; `None` at the end of the connection.
pub async fn read_head(connection: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

//! A minimal HTTP/1.1 server for tests: one request per connection.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// A request without its body.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn length(&self) -> u64 {
        self.header("content-length").map_or(0, |length| length.parse().unwrap())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
        Some(value.replace("%3A", ":").replace("%2F", "/"))
    }
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it with the first `most` bytes of the body. A body with `Transfer-Encoding` is one chunk.
    pub fn send(&self, stream: &mut TcpStream, head: &Head, most: usize) {
        let has = |header: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(header));
        let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        if !has("content-length") && !has("transfer-encoding") && self.status != 204 {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let body = if head.method == "HEAD" { &[] } else { &self.body[..most.min(self.body.len())] };
        let mut bytes = text.into_bytes();
        if has("transfer-encoding") {
            bytes.extend(format!("{:x}\r\n", body.len()).bytes().chain(body.iter().copied()).chain(*b"\r\n0\r\n\r\n"));
        } else {
            bytes.extend(body);
        }
        // The client may have closed the connection.
        let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
    }
}

/// Reads a request up to its body.
pub fn read_head(reader: &mut impl std::io::BufRead) -> Option<Head> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => return Some(Head { method, target, headers }),
        }
    }
}

/// Handles one request; the reader returns the received body.
pub type Handler = dyn Fn(&Head, &mut dyn Read, &mut TcpStream) + Send + Sync;

/// Serves on a free loopback port until the process ends; returns `127.0.0.1:<port>`.
pub fn serve(handler: Arc<Handler>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), handler) = (stream, Arc::clone(&handler)) else { continue };
            thread::spawn(move || {
                let Ok(copy) = stream.try_clone() else { return };
                let mut reader = BufReader::new(copy);
                let Some(head) = read_head(&mut reader) else { return };
                let length = head.length();
                let mut body = reader.take(length);
                handler(&head, &mut body, &mut stream);
                // Unread data would make the kernel reset the connection before the response is read.
                let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(50)));
                let _ = std::io::copy(&mut body.by_ref().take(1 << 16), &mut std::io::sink());
            });
        }
    });
    address
}

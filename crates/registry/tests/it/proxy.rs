//! A proxy that injects faults at chosen requests.

use std::io::{BufReader, Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http::{Answer, Head, read_head, serve};

/// Fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The registry gets nothing.
    DropRequest,
    /// The registry gets the head and this many bytes of the body.
    CutRequest(u64),
    /// The client gets nothing.
    DropAnswer,
    /// The client gets this many bytes of the body.
    CutAnswer(u64),
    /// The client gets this status, the registry nothing.
    Status(u16),
    /// Adds this many milliseconds.
    Delay(u64),
}

pub struct Proxy {
    pub address: String,
    /// Fault of each request.
    pub log: Arc<Mutex<Vec<(String, Fault)>>>,
}

impl Proxy {
    /// `schedule` returns the fault of request number `n` (from 0).
    pub fn start(upstream: &str, schedule: impl Fn(usize, &Head) -> Fault + Send + Sync + 'static) -> Self {
        let (upstream, log) = (upstream.to_owned(), Arc::new(Mutex::new(Vec::new())));
        let shared = Arc::clone(&log);
        let handler = move |head: &Head, body: &mut dyn Read, stream: &mut TcpStream| {
            let fault = {
                let mut log = shared.lock().unwrap();
                let fault = schedule(log.len(), head);
                log.push((format!("{} {}", head.method, head.path()), fault));
                fault
            };
            pass(&upstream, head, body, stream, fault);
        };
        Self { address: serve(Arc::new(handler)), log }
    }
}

/// Passes a request to `upstream`, and its answer back, with this fault.
pub fn pass(upstream: &str, head: &Head, body: &mut dyn Read, stream: &mut TcpStream, fault: Fault) {
    let close = |stream: &TcpStream| drop(stream.shutdown(Shutdown::Both));
    match fault {
        Fault::DropRequest => return close(stream),
        Fault::Status(status) => {
            std::io::copy(body, &mut std::io::sink()).unwrap();
            return Answer::new(status).header("Retry-After", "1").body("fault").send(stream, head, usize::MAX);
        }
        Fault::Delay(time) => std::thread::sleep(Duration::from_millis(time)),
        _ => {}
    }
    let Ok(mut to) = TcpStream::connect(upstream) else { return close(stream) };
    let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", head.method, head.target);
    for (name, value) in head.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection")) {
        text += &format!("{name}: {value}\r\n");
    }
    let _ = to.write_all((text + "\r\n").as_bytes());
    if let Fault::CutRequest(most) = fault {
        let _ = std::io::copy(&mut body.take(most), &mut to);
        let _ = to.shutdown(Shutdown::Write);
        // Wait until the registry has noticed.
        let _ = to.set_read_timeout(Some(Duration::from_secs(2)));
        let _ = to.read_to_end(&mut Vec::new());
        return close(stream);
    }
    let _ = std::io::copy(body, &mut to);
    let mut reader = BufReader::new(to);
    let Some(answer) = read_answer(&mut reader, &head.method) else { return close(stream) };
    match fault {
        Fault::DropAnswer => close(stream),
        Fault::CutAnswer(most) => {
            answer.send(stream, head, usize::try_from(most).unwrap());
            close(stream);
        }
        _ => answer.send(stream, head, usize::MAX),
    }
}

fn read_answer(reader: &mut BufReader<TcpStream>, method: &str) -> Option<Answer> {
    let head = read_head(reader)?;
    let status = head.target.parse().ok()?;
    let chunked = head.header("transfer-encoding").is_some();
    let mut body = Vec::new();
    if chunked {
        read_chunks(reader, &mut body)?;
    } else if method != "HEAD" && status != 204 {
        reader.take(head.length()).read_to_end(&mut body).ok()?;
    }
    let dropped = ["connection", "transfer-encoding"];
    let keep = |name: &str| !dropped.iter().any(|d| name.eq_ignore_ascii_case(d));
    let headers = head.headers.into_iter().filter(|(name, _)| keep(name)).collect();
    Some(Answer { status, headers, body })
}

fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        std::io::BufRead::read_line(reader, &mut line).ok()?;
        let length = u64::from_str_radix(line.trim(), 16).ok()?;
        reader.by_ref().take(length + 2).read_to_end(body).ok()?;
        body.truncate(body.len() - 2);
        if length == 0 {
            return Some(());
        }
    }
}

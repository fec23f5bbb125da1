//! Ports of the host that are forwarded to a node.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use common::{Class, Error, Result};
use qemu::Forward;

/// Parses `HOST:GUEST`, two port numbers.
///
/// # Errors
/// The reason, for anything else.
pub fn forward(text: &str) -> Result<Forward, String> {
    let port = |text: &str| text.parse().ok().filter(|&port: &u16| port > 0);
    let both = text.split_once(':').and_then(|(host, guest)| Some(Forward { host: port(host)?, guest: port(guest)? }));
    both.ok_or_else(|| format!("`{text}` is not HOST:GUEST, two port numbers such as 6443:6443"))
}

/// Fails unless every port of the host is free. QEMU takes it a moment later and reports the rest.
///
/// # Errors
/// [`Class::Infrastructure`] naming the port.
pub fn check(forwards: &[Forward]) -> Result<()> {
    for (number, forward) in forwards.iter().enumerate() {
        if forwards[..number].iter().any(|other| other.host == forward.host) {
            return Err(Error::new(Class::BadInput, format!("port {} is forwarded twice", forward.host))
                .hint("choose others with `--port` or `--forward`"));
        }
        TcpListener::bind((Ipv4Addr::LOCALHOST, forward.host)).map_err(|why| taken(*forward, &why))?;
    }
    Ok(())
}

fn taken(forward: Forward, why: &std::io::Error) -> Error {
    let Forward { host, guest } = forward;
    let what = match why.kind() {
        ErrorKind::AddrInUse => format!("port {host} is in use"),
        _ => format!("cannot listen on port {host}"),
    };
    Error::new(Class::Infrastructure, what)
        .why(format!("127.0.0.1:{host} has to lead to port {guest} of a node: {why}"))
        .hint(format!(
            "find the process with `ss -ltnp sport = :{host}`, or choose others with `--port` or `--forward`"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_two_ports() {
        assert_eq!(forward("6443:443"), Ok(Forward { host: 6443, guest: 443 }));
        for text in ["", "1", "0:1", "1:0", "1:65536", "a:b", "1:2:3"] {
            assert!(forward(text).unwrap_err().contains("is not HOST:GUEST"), "{text}");
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let forward = Forward { host: listener.local_addr().unwrap().port(), guest: 50000 };
        let error = check(&[forward]).unwrap_err();
        assert_eq!(error.class(), Class::Infrastructure);
        let text = error.to_string();
        assert!(text.contains(&format!("port {} is in use", forward.host)) && text.contains("--port"), "{text}");
        drop(listener);
        check(&[forward]).unwrap();
        assert!(check(&[forward, forward]).unwrap_err().to_string().contains("forwarded twice"));
    }
}

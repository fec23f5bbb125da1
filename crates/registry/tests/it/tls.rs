//! Registries on loopback that have TLS only.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::http::Answer;
use crate::setup::Setup;

/// First byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

fn config() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../../../keys/testdata/golden.crt.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../../keys/testdata/rsa2048.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

/// Handles a connection of plain HTTP.
type Plain = fn(TcpStream);

/// Serves TLS, and plain HTTP with `plain`.
fn serve(plain: Plain) -> String {
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), config());
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, config) = (stream.unwrap(), Arc::clone(&config));
            std::thread::spawn(move || {
                let mut first = [0];
                if stream.peek(&mut first).is_ok() && first[0] != HANDSHAKE {
                    return plain(stream);
                }
                let mut connection = ServerConnection::new(config).unwrap();
                // The client does not trust the certificate and ends the handshake.
                let _ = Stream::new(&mut connection, &mut stream).read(&mut [0; 512]);
            });
        }
    });
    address
}

fn answer(mut stream: TcpStream, answer: &Answer) {
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    if let Some(head) = crate::http::read_head(&mut reader) {
        answer.send(&mut stream, &head, usize::MAX);
    }
}

/// HAProxy, stunnel and Envoy close the connection, Go and nginx answer 400, others redirect.
#[test]
fn a_registry_that_has_tls_only_is_reached_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let servers: [(&str, Plain); 3] = [
        ("closes", drop),
        ("400", |stream| answer(stream, &Answer::new(400))),
        ("redirects", |stream| answer(stream, &Answer::new(301).header("Location", "https://127.0.0.1/v2/"))),
    ];
    for (name, plain) in servers {
        let address = serve(plain);
        let setup = Setup { attempts: 2, ..Setup::default() };
        let error = setup.pull(&format!("{address}/acme/app:v1"), &dir.path().join("a.oci")).unwrap_err().to_string();
        assert!(error.contains("certificate") && error.contains("--ca-file"), "{name}: {error}");
    }
}

/// Nothing listens: the first attempt and the retries go over plain HTTP, as before.
#[test]
fn a_registry_that_is_not_there_is_not_reached() {
    let dir = tempfile::tempdir().unwrap();
    let address =
        TcpListener::bind("[::1]:0").map_or("[::1]:1".to_owned(), |free| free.local_addr().unwrap().to_string());
    let setup = Setup { attempts: 2, ..Setup::default() };
    let error = setup.pull(&format!("{address}/acme/app:v1"), &dir.path().join("a.oci")).unwrap_err();
    assert_eq!(error.class().exit_code(), 6, "{error}");
    assert!(error.to_string().contains(&address), "{error}");
}

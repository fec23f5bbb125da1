//! TLS over `rustls`, as ureq's own connector makes it, with one addition: a server whose certificate is itself one of the trusted ones is
//! accepted, whoever signed it and even if it says that it is an authority's. Docker's documentation makes self-signed certificates so
//! (`openssl req -x509`), and curl and Go accept them.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ALL_VERSIONS, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::ecdsa;

/// Adds TLS to connections for https.
#[derive(Debug)]
pub(crate) struct TlsConnector(Arc<ClientConfig>);

impl TlsConnector {
    /// Trusts the certificates `roots`.
    pub fn new(roots: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let provider = Arc::new(provider());
        let verifier = Arc::new(Verifier::new(Arc::clone(&provider), roots)?);
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(ALL_VERSIONS)?;
        let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// ring, with the signatures that it does not know.
fn provider() -> CryptoProvider {
    let ring = rustls::crypto::ring::default_provider();
    CryptoProvider { signature_verification_algorithms: *ecdsa::ALGORITHMS, ..ring }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, Tls>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ureq::Error::Tls("invalid host name"))?;
        let mut connection = ClientConnection::new(Arc::clone(&self.0), name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Tls { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

/// A connection with TLS.
pub(crate) struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Verifies as `rustls` does, and accepts a trusted certificate itself.
#[derive(Debug)]
struct Verifier {
    /// `None` without any trusted certificate.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(provider: Arc<CryptoProvider>, roots: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        // A system's bundle may have certificates that are not usable; those of --ca-file are checked before.
        store.add_parsable_certificates(roots.iter().cloned());
        let webpki = if store.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
            Some(builder.build().map_err(|e| Error::General(e.to_string()))?)
        };
        Ok(Self { webpki, trusted: roots.to_vec(), provider })
    }
}

/// Whether verification failed only because no trusted authority signed the certificate, or it says that it is an authority's. The period of
/// validity has been checked then.
fn is_about_its_issuer(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(webpki) = &self.webpki else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        match webpki.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(e) if is_about_its_issuer(&e) && self.trusted.iter().any(|trusted| trusted == certificate) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authorities::parse;

    /// Made by the commands in `tests/data/README.md`: for `localhost`, from 2026 to 2126.
    const SELF_SIGNED: &[u8] = include_bytes!("../tests/data/self-signed.pem");
    const AUTHORITY: &[u8] = include_bytes!("../tests/data/authority.pem");
    const LEAF: &[u8] = include_bytes!("../tests/data/leaf.pem");
    const YEAR: u64 = 31_556_952;

    fn verify(trusted: &[u8], shown: &[u8], name: &str, year: u64) -> Result<ServerCertVerified, Error> {
        verify_der(&parse(trusted).unwrap(), &parse(shown).unwrap()[0], name, year)
    }

    fn verify_der(
        trusted: &[CertificateDer<'static>],
        shown: &CertificateDer<'_>,
        name: &str,
        year: u64,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = Verifier::new(Arc::new(provider()), trusted).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * YEAR));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], now)
    }

    #[test]
    fn a_trusted_certificate_is_accepted_whoever_signed_it() {
        for (trusted, shown) in [(SELF_SIGNED, SELF_SIGNED), (AUTHORITY, LEAF), (LEAF, LEAF)] {
            verify(trusted, shown, "localhost", 2030).unwrap();
            assert!(verify(trusted, shown, "r.io", 2030).is_err(), "another name");
            assert!(verify(trusted, shown, "localhost", 2020).is_err(), "not valid yet");
            assert!(verify(trusted, shown, "localhost", 2130).is_err(), "expired");
        }
        for (trusted, shown) in
            [(SELF_SIGNED, LEAF), (AUTHORITY, SELF_SIGNED), (LEAF, SELF_SIGNED), (&b""[..], SELF_SIGNED)]
        {
            assert!(verify(trusted, shown, "localhost", 2030).is_err(), "not trusted");
        }
    }

    #[test]
    fn signatures_that_ring_does_not_know_are_verified() {
        for file in
            ["prime256v1-sha512", "secp384r1-sha512", "secp521r1-sha256", "secp521r1-sha384", "secp521r1-sha512"]
        {
            let path = format!("{}/tests/data/{file}.pem", env!("CARGO_MANIFEST_DIR"));
            let own = parse(&std::fs::read(path).unwrap()).unwrap();
            verify_der(&own, &own[0], "localhost", 2030).unwrap_or_else(|e| panic!("{file}: {e}"));
            // The signature is the end of the certificate.
            let mut bytes = own[0].to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            let error = verify_der(&own, &bytes.into(), "localhost", 2030).unwrap_err();
            assert_eq!(error, Error::InvalidCertificate(CertificateError::BadSignature), "{file}");
        }
        let schemes = provider().signature_verification_algorithms.supported_schemes();
        assert!(schemes.contains(&SignatureScheme::ECDSA_NISTP521_SHA512), "{schemes:?}");
    }
}

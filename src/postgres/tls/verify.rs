//! Whether the server is who we were told it is, in libpq's terms: not at all, by its chain
//! (`verify-ca`), or by its chain and name (`verify-full`).

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Whom to believe.
#[derive(Debug)]
pub(super) enum Trust {
    /// Anybody: encryption against listeners, not against impostors (`require`, `prefer`).
    Anybody,
    /// Whose certificate one of these has signed, or who has one of these.
    Roots { store: RootCertStore, certificates: Vec<CertificateDer<'static>> },
}

#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    check_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        trust: Trust,
        check_name: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Verifier {
        Verifier { trust, check_name, algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Trust::Roots { store, certificates } = &self.trust {
            if certificates.iter().any(|root| root.as_ref() == end_entity.as_ref()) {
                // A self-signed server certificate that was handed to us as its own authority,
                // the way Postgres's documentation makes one. It is marked as an authority, which
                // rules it out as a server's for webpki, but there is nothing to infer: it is the
                // very one we were told to trust.
                check_validity(end_entity, now)?;
            } else {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    store,
                    intermediates,
                    now,
                    self.algorithms.all,
                )?;
            }
        }
        if self.check_name {
            check_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    // Even where anybody is believed, the peer must hold the certificate's key: channel binding
    // rests on it.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = parse(certificate)?.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

/// Checks the subject alternative names and, as libpq does, the subject's common name where the
/// certificate has no names of that kind: certificates for databases often have nothing else.
fn check_name(certificate: &CertificateDer<'_>, server_name: &ServerName<'_>) -> Result<(), Error> {
    let refusal = match ParsedCertificate::try_from(certificate) {
        Ok(parsed) => match verify_server_name(&parsed, server_name) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        Err(error) => return Err(error),
    };
    let certificate = parse(certificate)?;
    let names = certificate.tbs_certificate.get::<SubjectAltName>();
    let has_names = match names {
        Ok(None) => false,
        Ok(Some((_, SubjectAltName(names)))) => names
            .iter()
            .any(|name| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_))),
        Err(_) => true,
    };
    if has_names {
        return Err(refusal);
    }
    let host = server_name.to_str();
    match common_name(&certificate).is_some_and(|name| name_fits(&name, &host)) {
        true => Ok(()),
        false => Err(refusal),
    }
}

/// The subject's last common name.
fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = &certificate.tbs_certificate.subject;
    let mut attributes = subject.0.iter().flat_map(|set| set.0.iter());
    attributes.rfind(|attribute| attribute.oid.to_string() == "2.5.4.3").and_then(|attribute| {
        let value = &attribute.value;
        let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|s| s.as_str().to_owned());
        utf8.or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|s| s.as_str().to_owned()))
            .ok()
    })
}

/// Equal but for case, or a wildcard that stands for the first label.
fn name_fits(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(parent), Some((label, rest))) => {
            !label.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_fits_as_in_libpq() {
        assert!(name_fits("DB.example.com", "db.example.com"));
        assert!(name_fits("*.example.com", "db.example.com"));
        assert!(!name_fits("*.example.com", "a.db.example.com"));
        assert!(!name_fits("*.com", "example.com"));
        assert!(!name_fits("*", "db"));
        assert!(!name_fits("db.example.com", "other.example.com"));
        assert!(!name_fits("*.example.com", ".example.com"));
    }
}

//! The channel binding `tls-server-end-point`
//! (RFC 5929, section 4: <https://www.rfc-editor.org/rfc/rfc5929#section-4>).

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::asn1::{ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Any, Decode, Reader, TagMode, TagNumber};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The hash of the server's certificate by its own signature's hash algorithm, where that is MD5
/// or SHA-1 by SHA-256. `None` where RFC 5929 defines none (Ed25519), so that channel binding has
/// to be called unsupported.
pub(crate) fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = &parsed.signature_algorithm;
    let hash = match algorithm.oid.to_string().as_str() {
        RSA_PSS => pss_hash(algorithm.parameters.as_ref())?,
        oid => SIGNATURES.iter().find(|(known, _)| *known == oid)?.1,
    };
    Some(match hash {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

const RSA_PSS: &str = "1.2.840.113549.1.1.10";

/// Signature algorithms that imply one hash: RSA by PKCS #1, then ECDSA.
const SIGNATURES: &[(&str, Hash)] = &[
    ("1.2.840.113549.1.1.4", Hash::Sha256),
    ("1.2.840.113549.1.1.5", Hash::Sha256),
    ("1.2.840.113549.1.1.14", Hash::Sha224),
    ("1.2.840.113549.1.1.11", Hash::Sha256),
    ("1.2.840.113549.1.1.12", Hash::Sha384),
    ("1.2.840.113549.1.1.13", Hash::Sha512),
    ("1.2.840.10045.4.1", Hash::Sha256),
    ("1.2.840.10045.4.3.1", Hash::Sha224),
    ("1.2.840.10045.4.3.2", Hash::Sha256),
    ("1.2.840.10045.4.3.3", Hash::Sha384),
    ("1.2.840.10045.4.3.4", Hash::Sha512),
];

const HASHES: &[(&str, Hash)] = &[
    ("1.3.14.3.2.26", Hash::Sha256),
    ("2.16.840.1.101.3.4.2.4", Hash::Sha224),
    ("2.16.840.1.101.3.4.2.1", Hash::Sha256),
    ("2.16.840.1.101.3.4.2.2", Hash::Sha384),
    ("2.16.840.1.101.3.4.2.3", Hash::Sha512),
];

/// RSASSA-PSS names its hash in its parameters, SHA-1 by default (RFC 4055, section 3.1).
fn pss_hash(parameters: Option<&Any>) -> Option<Hash> {
    let parameters = parameters?;
    let named: Option<ObjectIdentifier> = parameters
        .sequence(|reader| {
            let hash = ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(
                reader,
                TagNumber::N0,
            )?;
            // Mask generation and salt length don't matter here.
            let rest = reader.remaining_len();
            reader.read_slice(rest)?;
            debug_assert!(hash.as_ref().is_none_or(|h| h.tag_mode == TagMode::Explicit));
            Ok(hash.map(|hash| hash.value.oid))
        })
        .ok()?;
    let oid = named.map_or_else(|| "1.3.14.3.2.26".to_owned(), |oid| oid.to_string());
    HASHES.iter().find(|(known, _)| *known == oid).map(|(_, hash)| *hash)
}

//! Certificates of every kind, and what becomes of them.

use std::time::Duration;

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;
use sha2::{Digest, Sha256, Sha384};

use super::*;

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn authority(
    algorithm: &'static SignatureAlgorithm,
) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), Issuer::new(params, key))
}

fn named(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn verify(
    roots: &[CertificateDer<'static>],
    certificate: &CertificateDer<'static>,
    name: Option<&str>,
) -> Result<(), rustls::Error> {
    let trust = verify::Trust::Roots { store: store(roots).unwrap(), certificates: roots.to_vec() };
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let verifier = verify::Verifier::new(trust, name.is_some(), algorithms);
    let name = server_name(name.unwrap_or("unchecked"), true).unwrap();
    verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).map(drop)
}

#[test]
fn chain_and_name_are_checked() {
    let (root, issuer) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (other, _) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
    let server = named(&["db.example.com", "10.0.0.1"], "ignored.example.com");
    let server = server.signed_by(&key(), &issuer).unwrap().der().clone();
    let roots = [root];
    verify(&roots, &server, None).unwrap();
    verify(&roots, &server, Some("db.example.com")).unwrap();
    verify(&roots, &server, Some("10.0.0.1")).unwrap();
    for name in ["other.example.com", "10.0.0.2", "ignored.example.com"] {
        assert!(verify(&roots, &server, Some(name)).is_err(), "{name}");
    }
    assert!(verify(&[other], &server, None).is_err());
}

#[test]
fn a_common_name_counts_where_there_are_no_other_names() {
    let (root, issuer) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
    let server = named(&[], "db.internal").signed_by(&key(), &issuer).unwrap().der().clone();
    let roots = [root];
    verify(&roots, &server, Some("db.internal")).unwrap();
    assert!(verify(&roots, &server, Some("other.internal")).is_err());
}

#[test]
fn a_self_signed_certificate_is_its_own_authority() {
    let mut params = named(&["db"], "db");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = params.self_signed(&key()).unwrap().der().clone();
    let impostor = params.self_signed(&key()).unwrap().der().clone();
    verify(std::slice::from_ref(&own), &own, Some("db")).unwrap();
    assert!(verify(std::slice::from_ref(&own), &own, Some("other")).is_err());
    assert!(verify(&[own], &impostor, Some("db")).is_err());

    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(7200)).into();
    params.not_after = (now - Duration::from_secs(3600)).into();
    let expired = params.self_signed(&key()).unwrap().der().clone();
    assert!(verify(std::slice::from_ref(&expired), &expired, Some("db")).is_err());
}

#[test]
fn channel_binding_hashes_as_the_certificate_was_signed() {
    let signed_with = |algorithm| {
        let (_, issuer) = authority(algorithm);
        named(&["db"], "db").signed_by(&key(), &issuer).unwrap().der().clone()
    };
    let p256 = signed_with(&rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(server_end_point(&p256), Some(Sha256::digest(&p256).to_vec()));
    let p384 = signed_with(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert_eq!(server_end_point(&p384), Some(Sha384::digest(&p384).to_vec()));
    let ed25519 = signed_with(&rcgen::PKCS_ED25519);
    assert_eq!(server_end_point(&ed25519), None);
    assert_eq!(server_end_point(&CertificateDer::from(b"nonsense".to_vec())), None);
}

#[test]
fn files_that_are_no_use_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("empty.pem"), "").unwrap();
    std::fs::write(path("broken.pem"), "-----BEGIN CERTIFICATE-----\n!!\n").unwrap();
    for name in ["missing.pem", "empty.pem", "broken.pem"] {
        let options = TlsOptions {
            mode: SslMode::VerifyFull,
            root_cert: Some(RootCert::File(path(name))),
            ..TlsOptions::default()
        };
        let error = TlsSetup::load(&options, "db").unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(!error.is_retryable() && !error.is_tls(), "{error}");
    }
    let (root, _) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
    let pem = named(&[], "u").self_signed(&key()).unwrap().pem();
    std::fs::write(path("client.pem"), pem).unwrap();
    std::fs::write(path("client.key"), key().serialize_pem()).unwrap();
    let options = TlsOptions {
        mode: SslMode::Require,
        cert: Some(path("client.pem")),
        key: Some(path("client.key")),
        ..TlsOptions::default()
    };
    let error = TlsSetup::load(&options, "db").unwrap_err();
    assert!(error.to_string().contains("client.pem"), "{error}");
    drop(root);
}

use super::*;

fn signer(scheme: Scheme, secrets: &[&str]) -> Signer {
    let secrets: Vec<SecretString> = secrets.iter().map(|&text| SecretString::from(text)).collect();
    Signer::new(scheme, &secrets).unwrap()
}

const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const FIRST_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const FIRST_AT_MS: i64 = 1_614_265_330_000;
const FIRST_BODY: &[u8] = br#"{"test": 2432232314}"#;
const FIRST_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

#[test]
fn standard_vectors() {
    let vectors = [
        (FIRST, FIRST_ID, 1_614_265_330, FIRST_BODY, FIRST_SIGNATURE),
        (
            SECOND,
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            br#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ];
    for (secret, id, at, body, expected) in vectors {
        let signer = signer(Scheme::Standard, &[secret]);
        // The fraction of the second is cut off.
        let headers = signer.sign(id, at * 1_000 + 999, body).unwrap();
        assert_eq!(headers["webhook-id"], id);
        assert_eq!(headers["webhook-timestamp"], at.to_string().as_str());
        assert_eq!(headers["webhook-signature"], expected);
        assert_eq!(headers.len(), 3);
        signer.verify(&headers, body, at * 1_000, Some(DEFAULT_TOLERANCE)).unwrap();
    }
}

#[test]
fn twenty_vector() {
    let body = br#"{"eventName":"person.created"}"#;
    let signer = signer(Scheme::Twenty, &["secret"]);
    let headers = signer.sign("evt_1", 1_735_066_639_761, body).unwrap();
    assert_eq!(
        headers["X-Twenty-Webhook-Signature"],
        "d8c3fbb769758a0e405b897e92a6ca8a33aea312f3e958f25fb4ed33adb9f9c0"
    );
    assert_eq!(headers["X-Twenty-Webhook-Timestamp"], "1735066639761");
    assert_eq!(headers.len(), 2);
    signer.verify(&headers, body, 1_735_066_639_761, Some(DEFAULT_TOLERANCE)).unwrap();
}

#[test]
fn twenty_header_prefix_is_configurable_and_checked() {
    let signer = signer(Scheme::Twenty, &["secret"]).with_header_prefix("X-Crm").unwrap();
    let headers = signer.sign("evt_1", 0, b"{}").unwrap();
    assert!(headers.contains_key("x-crm-signature") && headers.contains_key("x-crm-timestamp"));
    for prefix in ["X Crm", "X-Crm\r\nEvil: 1", "é"] {
        assert!(signer.clone().with_header_prefix(prefix).is_err(), "{prefix:?}");
    }
    assert!(self::signer(Scheme::Standard, &[FIRST]).with_header_prefix("X-Crm").is_err());
}

#[test]
fn rotation_sends_both_and_either_receiver_is_content() {
    let both = signer(Scheme::Standard, &[FIRST, SECOND]);
    let headers = both.sign(FIRST_ID, FIRST_AT_MS, FIRST_BODY).unwrap();
    let list = headers["webhook-signature"].to_str().unwrap();
    assert!(list.starts_with(FIRST_SIGNATURE));
    assert_eq!(list.split(' ').count(), 2);
    for secret in [FIRST, SECOND] {
        signer(Scheme::Standard, &[secret])
            .verify(&headers, FIRST_BODY, FIRST_AT_MS, Some(DEFAULT_TOLERANCE))
            .unwrap();
    }
    let old = signer(Scheme::Twenty, &["old"]).sign("", 5, b"x").unwrap();
    signer(Scheme::Twenty, &["new", "old"]).verify(&old, b"x", 5, None).unwrap();
}

#[test]
fn other_bytes_secrets_times_and_headers_are_refused() {
    let signer = signer(Scheme::Standard, &[FIRST]);
    let headers = signer.sign(FIRST_ID, FIRST_AT_MS, FIRST_BODY).unwrap();
    let check = |headers: &HeaderMap, body: &[u8], now_ms: i64| {
        signer.verify(headers, body, now_ms, Some(DEFAULT_TOLERANCE))
    };
    assert!(check(&headers, b"{\"test\": 2432232315}", FIRST_AT_MS).unwrap_err().is_mismatch());
    for (offset_ms, fresh) in
        [(300_000, true), (-300_000, true), (300_001, false), (-300_001, false)]
    {
        let outcome = check(&headers, FIRST_BODY, FIRST_AT_MS + offset_ms);
        assert_eq!(outcome.is_ok(), fresh, "{offset_ms}");
        assert!(fresh || outcome.unwrap_err().is_stale());
    }
    signer.verify(&headers, FIRST_BODY, i64::MAX, None).unwrap();
    for (name, value) in [
        ("webhook-id", "msg_other"),
        ("webhook-timestamp", "1614265331"),
        ("webhook-signature", "v1,"),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,AAAA"),
        ("webhook-signature", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ] {
        let mut forged = headers.clone();
        forged.insert(name, HeaderValue::from_static(value));
        assert!(check(&forged, FIRST_BODY, FIRST_AT_MS).unwrap_err().is_mismatch(), "{value}");
    }
    let mut odd = headers.clone();
    odd.insert("webhook-timestamp", HeaderValue::from_static("9223372036854775808"));
    assert!(check(&odd, FIRST_BODY, FIRST_AT_MS).is_err());
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut cut = headers.clone();
        cut.remove(name);
        assert!(check(&cut, FIRST_BODY, FIRST_AT_MS).unwrap_err().is_unsigned());
    }
}

#[test]
fn secrets_are_checked_and_never_shown() {
    for bad in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_???"] {
        let error = Signer::new(Scheme::Standard, &[SecretString::from(bad)]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(bad.len() < 7 || !shown.contains(bad), "{shown}");
    }
    assert!(Signer::new(Scheme::Standard, &[]).is_err());
    assert!(Signer::new(Scheme::Twenty, &[SecretString::from("")]).is_err());
    let shown = format!("{:?}", signer(Scheme::Standard, &[FIRST]));
    assert!(!shown.contains("MfKQ") && shown.contains("Standard"), "{shown}");
    assert!(!redact(&SecretString::from(FIRST)).contains("MfKQ"));
}

#[test]
fn generated_secrets_are_fit_for_their_scheme_and_differ() {
    for scheme in Scheme::ALL {
        let (one, two) = (generate_secret(scheme), generate_secret(scheme));
        assert_ne!(one.expose_secret(), two.expose_secret());
        Signer::new(scheme, &[one, two]).unwrap();
        assert_eq!(scheme.name().parse::<Scheme>(), Ok(scheme));
    }
    assert!("hmac".parse::<Scheme>().unwrap_err().to_string().contains("standard, twenty"));
}

#[test]
fn no_prefix_writes_over_the_headers_of_another_scheme() {
    let signer = Signer::new(Scheme::Twenty, &[SecretString::from("secret")]).unwrap();
    for prefix in ["webhook", "Webhook"] {
        let error = signer.clone().with_header_prefix(prefix).unwrap_err();
        assert!(error.to_string().contains("another prefix"), "{error}");
    }
}

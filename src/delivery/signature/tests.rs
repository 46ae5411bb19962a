use secrecy::ExposeSecret as _;

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
        let headers = signer.sign(id, "person.created", at * 1_000 + 999, body).unwrap();
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
    let headers = signer.sign("evt_1", "person.created", 1_735_066_639_761, body).unwrap();
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
    let headers = signer.sign("evt_1", "person.created", 0, b"{}").unwrap();
    assert!(headers.contains_key("x-crm-signature") && headers.contains_key("x-crm-timestamp"));
    for prefix in ["X Crm", "X-Crm\r\nEvil: 1", "é"] {
        assert!(signer.clone().with_header_prefix(prefix).is_err(), "{prefix:?}");
    }
    assert!(self::signer(Scheme::Standard, &[FIRST]).with_header_prefix("X-Crm").is_err());
}

#[test]
fn rotation_sends_both_and_either_receiver_is_content() {
    let both = signer(Scheme::Standard, &[FIRST, SECOND]);
    let headers = both.sign(FIRST_ID, "person.created", FIRST_AT_MS, FIRST_BODY).unwrap();
    let list = headers["webhook-signature"].to_str().unwrap();
    assert!(list.starts_with(FIRST_SIGNATURE));
    assert_eq!(list.split(' ').count(), 2);
    for secret in [FIRST, SECOND] {
        signer(Scheme::Standard, &[secret])
            .verify(&headers, FIRST_BODY, FIRST_AT_MS, Some(DEFAULT_TOLERANCE))
            .unwrap();
    }
    let old = signer(Scheme::Twenty, &["old"]).sign("", "person.created", 5, b"x").unwrap();
    signer(Scheme::Twenty, &["new", "old"]).verify(&old, b"x", 5, None).unwrap();
}

#[test]
fn other_bytes_secrets_times_and_headers_are_refused() {
    let signer = signer(Scheme::Standard, &[FIRST]);
    let headers = signer.sign(FIRST_ID, "person.created", FIRST_AT_MS, FIRST_BODY).unwrap();
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

const PRIVATE: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const ED25519_SIGNATURE: &str =
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

#[test]
fn ed25519_vector() {
    let headers =
        signer(Scheme::Standard, &[PRIVATE]).sign(FIRST_ID, "", FIRST_AT_MS, FIRST_BODY).unwrap();
    assert_eq!(headers["webhook-signature"], ED25519_SIGNATURE);
    for secret in [PRIVATE, PUBLIC] {
        let verifier = Verifier::new(Scheme::Standard, &[SecretString::from(secret)]).unwrap();
        let check = |headers: &HeaderMap, body: &[u8]| {
            verifier.verify(headers, body, FIRST_AT_MS, Some(DEFAULT_TOLERANCE))
        };
        check(&headers, FIRST_BODY).unwrap();
        assert!(check(&headers, b"{}").unwrap_err().is_mismatch());
        let mut renamed = headers.clone();
        let value = ED25519_SIGNATURE.replace("v1a,", "v1,");
        renamed.insert("webhook-signature", value.parse().unwrap());
        assert!(check(&renamed, FIRST_BODY).unwrap_err().is_mismatch());
    }
}

#[test]
fn rotation_leads_from_a_symmetric_secret_to_an_ed25519_key() {
    let both = signer(Scheme::Standard, &[PRIVATE, FIRST]);
    let headers = both.sign(FIRST_ID, "", FIRST_AT_MS, FIRST_BODY).unwrap();
    assert_eq!(
        headers["webhook-signature"].to_str().unwrap(),
        format!("{ED25519_SIGNATURE} {FIRST_SIGNATURE}")
    );
    for secret in [FIRST, PUBLIC] {
        Verifier::new(Scheme::Standard, &[SecretString::from(secret)])
            .unwrap()
            .verify(&headers, FIRST_BODY, FIRST_AT_MS, Some(DEFAULT_TOLERANCE))
            .unwrap();
    }
}

#[test]
fn an_ed25519_key_is_checked() {
    let refused = |secret: &str| {
        let error = Signer::new(Scheme::Standard, &[SecretString::from(secret)]).unwrap_err();
        let said = error.to_string();
        assert!(secret.len() < 12 || !said.contains(&secret[6..]), "{said}");
        said
    };
    assert!(refused(PUBLIC).contains("public key"));
    assert!(refused("whsk_AAAA").contains("holds 3 bytes"));
    assert!(refused("whsk_é").contains("is not base64"));
    let other = format!("whsk_{}", BASE64.encode([7; 64]));
    assert!(refused(&other).contains("not its own"));
    let seed = format!("whsk_{}", BASE64.encode([7; 32]));
    assert!(refused(&seed).contains("holds 32 bytes"));
    let short = [SecretString::from("whpk_AAAA")];
    assert!(Verifier::new(Scheme::Standard, &short).unwrap_err().to_string().contains("32 bytes"));
    for scheme in [Scheme::Twenty, Scheme::Stripe, Scheme::Github] {
        for key in [PRIVATE, PUBLIC] {
            let error = Signer::new(scheme, &[SecretString::from(key)]).unwrap_err();
            assert!(error.to_string().contains("only the scheme `standard`"), "{error}");
        }
    }
}

#[test]
fn a_generated_key_pair_signs_and_verifies() {
    let pair = generate_key_pair().unwrap();
    assert!(!format!("{pair:?}").contains("whsk_"));
    let headers = signer(Scheme::Standard, &[pair.signing.expose_secret()])
        .sign("evt_1", "", 5_000, b"{}")
        .unwrap();
    Verifier::new(Scheme::Standard, &[SecretString::from(pair.verifying)])
        .unwrap()
        .verify(&headers, b"{}", 5_000, Some(DEFAULT_TOLERANCE))
        .unwrap();
    let other = generate_key_pair().unwrap().verifying;
    Verifier::new(Scheme::Standard, &[SecretString::from(other)])
        .unwrap()
        .verify(&headers, b"{}", 5_000, None)
        .unwrap_err();
}

const STRIPE_BODY: &[u8] = b"{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}";
const STRIPE_SIGNATURE: &str =
    "t=1492774577,v1=c2f890decbc5ede7c5060bb9a6d31e0626a4342bacb9aeae2adb1bcea72f9812";

#[test]
fn stripe_vector_and_rotation() {
    let at_ms = 1_492_774_577_000;
    let one = signer(Scheme::Stripe, &["whsec_test_secret"]);
    let headers = one.sign("evt_1", "", at_ms + 999, STRIPE_BODY).unwrap();
    assert_eq!(headers["stripe-signature"], STRIPE_SIGNATURE);
    assert_eq!(headers.len(), 1);
    one.verify(&headers, STRIPE_BODY, at_ms, Some(DEFAULT_TOLERANCE)).unwrap();
    assert!(one.verify(&headers, b"{}", at_ms, None).unwrap_err().is_mismatch());
    let late = one.verify(&headers, STRIPE_BODY, at_ms + 300_001, Some(DEFAULT_TOLERANCE));
    assert!(late.unwrap_err().is_stale());

    let both = signer(Scheme::Stripe, &["new", "whsec_test_secret"]).with_header("X-Pay").unwrap();
    let headers = both.sign("evt_1", "", at_ms, STRIPE_BODY).unwrap();
    let value = headers["x-pay"].to_str().unwrap();
    assert_eq!(value.matches(",v1=").count(), 2);
    for secret in ["new", "whsec_test_secret"] {
        let old = signer(Scheme::Stripe, &[secret]).with_header("X-Pay").unwrap();
        old.verify(&headers, STRIPE_BODY, at_ms, Some(DEFAULT_TOLERANCE)).unwrap();
    }
    for odd in ["", "v1=00", "t=1", "t=x,v1=00", "t", ",", "t=1492774577,v0=00", "t=1492774577,v1="]
    {
        let mut forged = HeaderMap::new();
        forged.insert("stripe-signature", HeaderValue::from_static(odd));
        assert!(one.verify(&forged, STRIPE_BODY, at_ms, None).is_err(), "{odd}");
    }
    for name in ["webhook-signature", "X-Hub-Signature-256", "a b", "", "x\r\ny"] {
        assert!(one.clone().with_header(name).is_err(), "{name:?}");
    }
    assert!(signer(Scheme::Github, &["a"]).with_header("X-Pay").is_err());
}

#[test]
fn github_vector() {
    let signer = signer(Scheme::Github, &["It's a Secret to Everybody", "old"]);
    let headers = signer.sign("evt_1", "größe.100%\r\nX: 1", 7, b"Hello, World!").unwrap();
    assert_eq!(
        headers["x-hub-signature-256"],
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
    assert_eq!(headers["x-github-delivery"], "evt_1");
    assert_eq!(headers["x-github-event"], "gr%C3%B6%C3%9Fe.100%25%0D%0AX:%201");
    assert_eq!(headers.len(), 3);
    signer.verify(&headers, b"Hello, World!", i64::MAX, Some(DEFAULT_TOLERANCE)).unwrap();
    assert!(signer.verify(&headers, b"Hello, World", 0, None).unwrap_err().is_mismatch());
    let old = self::signer(Scheme::Github, &["old"]).sign("", "", 7, b"x").unwrap();
    assert_eq!(old.len(), 1);
    signer.verify(&old, b"x", 7, None).unwrap();
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// A scheme with one or two secrets that it takes.
    fn signers() -> impl Strategy<Value = Signer> {
        let keys = (proptest::sample::select(&Scheme::ALL[..]), 1..3_usize, any::<bool>());
        keys.prop_map(|(scheme, count, ed25519)| {
            let secrets: Vec<SecretString> = (0..count)
                .map(|i| match scheme {
                    Scheme::Standard if ed25519 && i == 0 => generate_key_pair().unwrap().signing,
                    _ => generate_secret(scheme),
                })
                .collect();
            Signer::new(scheme, &secrets).unwrap()
        })
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_nothing_else_does(
            signer in signers(),
            other in signers(),
            id in "evt_[a-z0-9]{1,20}",
            event in "\\PC{0,20}",
            at_ms in 0..4_000_000_000_000_i64,
            body in proptest::collection::vec(any::<u8>(), 0..200),
            place in any::<proptest::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let headers = signer.sign(&id, &event, at_ms, &body).unwrap();
            signer.verify(&headers, &body, at_ms, Some(DEFAULT_TOLERANCE)).unwrap();
            // One bit of the body.
            let mut tampered = body.clone();
            match tampered.len() {
                0 => tampered.push(0),
                length => tampered[place.index(length)] ^= 1 << bit,
            }
            prop_assert!(signer.verify(&headers, &tampered, at_ms, None).is_err());
            // Other secrets.
            prop_assert!(other.verify(&headers, &body, at_ms, None).is_err());
            // The time it was signed at.
            if signer.scheme() != Scheme::Github {
                let late = at_ms + 301_000;
                let stale = signer.verify(&headers, &body, late, Some(DEFAULT_TOLERANCE));
                prop_assert!(stale.unwrap_err().is_stale());
            }
            // Every header that is signed.
            for name in signer.header_names() {
                if name.as_str().starts_with("x-github") {
                    continue;
                }
                let mut forged = headers.clone();
                let value = headers[&name].to_str().unwrap();
                let at = place.index(value.len());
                let mut changed = value.to_owned();
                changed.replace_range(at..=at, if value.as_bytes()[at] == b'7' { "8" } else { "7" });
                forged.insert(&name, changed.parse().unwrap());
                let outcome = signer.verify(&forged, &body, at_ms, None);
                // One of two signatures may still be right.
                let several = signer.keys.len() > 1 && name.as_str().contains("signature");
                prop_assert!(outcome.is_err() || several, "{}: {}", name, changed);
            }
        }

        #[test]
        fn no_header_makes_it_panic(
            value in "\\PC{0,80}",
            body in "\\PC{0,20}",
            signer in signers(),
        ) {
            let mut headers = HeaderMap::new();
            for name in signer.header_names() {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
            prop_assert!(signer.verify(&headers, body.as_bytes(), 0, None).is_err());
        }
    }
}

//! Standard Webhooks verification, written apart from walhook's own.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Request;

/// How far the sender's clock may be off, in seconds.
const TOLERANCE_S: i64 = 300;

/// Whether a request carries the signature of `secret` over exactly its bytes.
pub(crate) fn verify(request: &Request, secret: &str) -> Result<(), String> {
    let header = |name| request.header(name).ok_or_else(|| format!("no header {name}"));
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let sent_at: i64 = timestamp.parse().map_err(|_| format!("odd timestamp {timestamp}"))?;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    if (now - sent_at).abs() > TOLERANCE_S {
        return Err(format!("sent at {sent_at}, and now it is {now}"));
    }
    let key = secret.strip_prefix("whsec_").ok_or("the secret does not start with whsec_")?;
    let key = BASE64_STANDARD.decode(key).map_err(|error| error.to_string())?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    if header("webhook-signature")?.split(' ').any(|signature| signature == expected) {
        return Ok(());
    }
    Err(format!("no valid signature among: {}", header("webhook-signature")?))
}

#[test]
fn accepts_the_specification_s_vector_and_nothing_else() {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut request = Request::for_test(
        &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ],
        br#"{"test": 2432232314}"#,
    );
    assert!(verify(&request, key).unwrap_err().starts_with("sent at 1614265330"));

    // The same key over the same bytes, now: what the vector's algorithm yields must be taken.
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(&key["whsec_".len()..]).unwrap())
            .unwrap();
    mac.update(format!("msg_p5jXN8AQM9LWM0D4loKWxJek.{now}.").as_bytes());
    mac.update(&request.body);
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    request.headers[1].1 = now.to_string();
    request.headers[2].1 = format!("v1,other v1,{signature}");
    assert_eq!(verify(&request, key), Ok(()));
    request.body[0] = b'[';
    assert!(verify(&request, key).is_err());
}

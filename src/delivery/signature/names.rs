//! Which headers a scheme writes.

use reqwest::header::HeaderName;

use super::{
    GITHUB_DELIVERY, GITHUB_EVENT, GITHUB_SIGNATURE, STRIPE_SIGNATURE, Scheme, SignatureError,
    TWENTY_PREFIX, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
};

#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) signature: HeaderName,
    /// None where the timestamp stands with the signature, or nowhere.
    pub(super) timestamp: Option<HeaderName>,
}

impl Names {
    pub(super) fn of(scheme: Scheme) -> Names {
        let (signature, timestamp) = match scheme {
            Scheme::Standard => (WEBHOOK_SIGNATURE, Some(WEBHOOK_TIMESTAMP)),
            Scheme::Twenty => (
                HeaderName::from_static("x-twenty-webhook-signature"),
                Some(HeaderName::from_static("x-twenty-webhook-timestamp")),
            ),
            Scheme::Stripe => (STRIPE_SIGNATURE, None),
            Scheme::Github => (GITHUB_SIGNATURE, None),
        };
        Names { signature, timestamp }
    }

    pub(super) fn with_prefix(scheme: Scheme, prefix: &str) -> Result<Names, SignatureError> {
        if scheme != Scheme::Twenty {
            return Err(SignatureError::no_prefix(scheme));
        }
        let name = |end: &str| {
            format!("{prefix}{end}")
                .parse::<HeaderName>()
                .map_err(|_| SignatureError::header_prefix(prefix))
        };
        let names = Names { signature: name("-Signature")?, timestamp: Some(name("-Timestamp")?) };
        match names.taken(scheme) {
            Some(other) => Err(SignatureError::taken_prefix(prefix, other)),
            None => Ok(names),
        }
    }

    pub(super) fn with_header(scheme: Scheme, name: &str) -> Result<Names, SignatureError> {
        if scheme != Scheme::Stripe {
            return Err(SignatureError::no_header(scheme));
        }
        let signature =
            name.parse::<HeaderName>().map_err(|_| SignatureError::header_name(name))?;
        let names = Names { signature, timestamp: None };
        match names.taken(scheme) {
            Some(other) => Err(SignatureError::taken_header(name, other)),
            None => Ok(names),
        }
    }

    /// All of them.
    pub(super) fn all(&self, scheme: Scheme) -> Vec<HeaderName> {
        let mut names: Vec<HeaderName> = match scheme {
            Scheme::Standard => vec![WEBHOOK_ID],
            Scheme::Github => vec![GITHUB_DELIVERY, GITHUB_EVENT],
            Scheme::Twenty | Scheme::Stripe => Vec::new(),
        };
        names.extend(self.timestamp.clone());
        names.push(self.signature.clone());
        names
    }

    /// The scheme whose usual headers these are, unless it is their own.
    fn taken(&self, own: Scheme) -> Option<Scheme> {
        let mine = self.all(own);
        Scheme::ALL
            .into_iter()
            .filter(|&scheme| scheme != own)
            .find(|&scheme| Names::of(scheme).all(scheme).iter().any(|name| mine.contains(name)))
    }
}

/// The names of a scheme's headers as its documentation writes them.
pub(crate) fn documented(
    scheme: Scheme,
    prefix: Option<&str>,
    header: Option<&str>,
) -> Vec<String> {
    match scheme {
        Scheme::Standard => {
            ["webhook-id", "webhook-timestamp", "webhook-signature"].map(String::from).into()
        }
        Scheme::Twenty => {
            let prefix = prefix.unwrap_or(TWENTY_PREFIX);
            vec![format!("{prefix}-Timestamp"), format!("{prefix}-Signature")]
        }
        Scheme::Stripe => vec![header.unwrap_or(super::STRIPE_HEADER).to_owned()],
        Scheme::Github => {
            ["X-GitHub-Delivery", "X-GitHub-Event", "X-Hub-Signature-256"].map(String::from).into()
        }
    }
}

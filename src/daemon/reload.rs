//! What a new configuration changes while the daemon runs, and what takes a restart.

use crate::config::Config;

/// The parts of a configuration that are read once, in a form to compare. Secrets are not in it.
#[derive(Clone, Debug)]
pub(super) struct Fixed(Vec<(String, String)>);

impl Fixed {
    pub(super) fn of(config: &Config) -> Fixed {
        let source = &config.source;
        let mut parts = vec![
            ("source.url".to_owned(), format!("{:?}", source.connection)),
            ("source.capture".to_owned(), source.capture.as_str().to_owned()),
            ("source.outbox".to_owned(), format!("{:?}", source.outbox)),
            ("source.slot".to_owned(), source.slot.clone()),
            ("source.publication".to_owned(), source.publication.clone()),
            ("source.failover".to_owned(), source.failover.to_string()),
            ("source.create".to_owned(), source.create.to_string()),
            ("source.int8".to_owned(), source.int8_as_string.to_string()),
            ("source.origin".to_owned(), format!("{:?}", source.origin)),
            ("source.invalid_utf8".to_owned(), source.replace_invalid_utf8.to_string()),
            ("source.lag_warning".to_owned(), format!("{:?}", source.lag_warning_bytes)),
            ("journal".to_owned(), format!("{:?}", config.journal)),
            ("daemon".to_owned(), format!("{:?}", config.daemon)),
        ];
        let endpoints = config.endpoints.iter();
        parts.extend(endpoints.map(|e| (format!("endpoint {}", e.name), format!("{e:?}"))));
        Fixed(parts)
    }

    /// The names of what differs.
    pub(super) fn differences(&self, new: &Fixed) -> Vec<String> {
        let lacks = |parts: &[(String, String)], part: &(String, String)| !parts.contains(part);
        let mut names: Vec<String> = Vec::new();
        let changed = new.0.iter().filter(|part| lacks(&self.0, part));
        let gone = self.0.iter().filter(|part| lacks(&new.0, part));
        for (name, _) in changed.chain(gone) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

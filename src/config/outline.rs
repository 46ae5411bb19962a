//! The little of a configuration that is needed to find the journal, also where variables of
//! secrets are not set, or keys of the rest are wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::endpoint::{default_name, parse_url};
use super::error::ConfigError;
use super::ready::DEFAULT_JOURNAL;
use super::section::{Document, Section};

/// Where the journal is, and which endpoints there are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The journal's file.
    pub journal: PathBuf,
    /// The names of the endpoints; `None` where one of them cannot be read.
    pub endpoints: Option<Vec<String>>,
}

impl Outline {
    /// What is known without a file: the journal's usual name, in the current folder.
    pub fn without_file() -> Outline {
        Outline { journal: PathBuf::from(DEFAULT_JOURNAL), endpoints: None }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or its `journal.path` cannot be used.
    pub fn load(path: &Path) -> Result<Outline, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::general(format_args!(
                "cannot read the configuration {}: {error}; name another with --config, or the \
                 journal itself with --journal",
                path.display()
            ))
        })?;
        Outline::parse(path, &text, &|name| std::env::var(name).ok())
    }

    fn parse(
        path: &Path,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Outline, ConfigError> {
        let document = Document { file: Arc::from(path.display().to_string()), text, variable };
        let mut root = document.root()?;
        let journal = match root.section("journal")? {
            Some(mut section) => section.string("path")?.map(|path| path.value),
            None => None,
        };
        let journal = journal.filter(|path| !path.is_empty());
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let endpoints = root.sections("endpoint").ok();
        let endpoints = endpoints.and_then(|sections| sections.into_iter().map(endpoint).collect());
        let journal = directory.join(journal.unwrap_or_else(|| DEFAULT_JOURNAL.to_owned()));
        Ok(Outline { journal, endpoints })
    }
}

fn endpoint(mut section: Section<'_>) -> Option<String> {
    match section.string("name").ok()? {
        Some(name) => Some(name.value),
        None => {
            let url = section.string("url").ok()??;
            Some(default_name(&parse_url(&url.value).ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_found_though_the_rest_is_wrong() {
        let text = "[source]\nurl = \"${NOT_SET}\"\n[journal]\npath = \"${DIR}/w.db\"\n\
                    [[endpoint]]\nurl = \"https://example.com/\"\nsecret = \"${NOT_SET}\"\n\
                    [[endpoint]]\nname = \"b\"\nwrong = 1\n";
        let variable = |name: &str| (name == "DIR").then(|| "d".to_owned());
        let outline = Outline::parse(Path::new("/etc/walhook.toml"), text, &variable).unwrap();
        assert_eq!(outline.journal, Path::new("/etc/d/w.db"));
        assert_eq!(outline.endpoints.unwrap(), ["example.com", "b"]);
        let text = "[[endpoint]]\nurl = \"${NOT_SET}\"";
        let outline = Outline::parse(Path::new("walhook.toml"), text, &variable).unwrap();
        assert_eq!(outline, Outline::without_file());
        assert!(
            Outline::parse(Path::new("walhook.toml"), "[journal]\npath = 1", &variable).is_err()
        );
    }
}

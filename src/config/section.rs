//! One table of a TOML document, taken apart key by key. Whatever is not taken is unknown.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Located, Place};
use super::expand::{expand, has_variable};
use super::suggest::hint;
use super::units::{parse_duration, parse_size};

/// What every section of a document needs: the file's name, its text for line numbers, and the
/// environment.
pub(crate) struct Document<'a> {
    pub(crate) file: Arc<str>,
    pub(crate) text: &'a str,
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Document<'a> {
    /// Parses the text.
    pub(crate) fn root(&'a self) -> Result<Section<'a>> {
        match DeTable::parse(self.text) {
            Ok(table) => Ok(Section {
                document: self,
                name: String::new(),
                place: self.place(0, String::new()),
                table: table.into_inner(),
                taken: Vec::new(),
            }),
            Err(error) => {
                // Not the error's own Display: it quotes the line, which may hold a secret.
                let start = error.span().map_or(0, |span| span.start);
                let message = error.message().trim().replace('\n', ", ");
                let place = self.place(start, String::new());
                Err(ConfigError::at(&place, format_args!("this is not TOML: {message}")))
            }
        }
    }

    fn place(&self, offset: usize, key: String) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place::File { file: Arc::clone(&self.file), line, key }
    }
}

/// A table whose keys are taken one by one.
pub(crate) struct Section<'a> {
    document: &'a Document<'a>,
    name: String,
    place: Place,
    table: DeTable<'a>,
    taken: Vec<&'static str>,
}

type Entry<'a> = Located<DeValue<'a>>;
type Result<T, E = ConfigError> = std::result::Result<T, E>;

impl<'a> Section<'a> {
    /// Where the section begins; its key is the section's name.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    fn key(&self, key: &str) -> String {
        // Keys may be quoted and hold anything; an error stays on one line.
        let key: String =
            key.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        if self.name.is_empty() { key } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.taken.push(key);
        let (written, value) = self.table.remove_entry(key)?;
        let place = self.document.place(written.span().start, self.key(key));
        Some(Located { value: value.into_inner(), place })
    }

    /// A string, its variables expanded.
    pub(crate) fn string(&mut self, key: &'static str) -> Result<Option<Located<String>>> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        let place = entry.place;
        self.text(entry.value, &place, "a text in quotes")
            .map(|value| Some(Located { value, place }))
    }

    /// A string that [`FromStr`] or a function like it understands.
    pub(crate) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<Located<T>>> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        let text = self.text(entry.value, &entry.place, what)?;
        Located { value: text, place: entry.place }.try_map(|text| parse(&text)).map(Some)
    }

    /// A duration, see [`parse_duration`].
    pub(crate) fn duration(&mut self, key: &'static str) -> Result<Option<Located<Duration>>> {
        self.parsed(key, "a duration in quotes, such as \"15s\"", parse_duration)
    }

    /// A size in bytes, see [`parse_size`].
    pub(crate) fn size(&mut self, key: &'static str) -> Result<Option<Located<u64>>> {
        self.parsed(key, "a size in quotes, such as \"512MiB\"", parse_size)
    }

    /// `true` or `false`, or a string with a variable that expands to one.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Result<Option<Located<bool>>> {
        self.scalar(key, "true or false", |value| match value {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        })
    }

    /// A whole number that is not negative, or a string with a variable that expands to one.
    pub(crate) fn whole_number(&mut self, key: &'static str) -> Result<Option<Located<u32>>> {
        self.scalar(key, "a whole number, such as 8", |value| match value {
            DeValue::Integer(value) => u32::from_str_radix(value.as_str(), value.radix()).ok(),
            _ => None,
        })
    }

    /// A number, or a string with a variable that expands to one.
    pub(crate) fn number(&mut self, key: &'static str) -> Result<Option<Located<f64>>> {
        self.scalar(key, "a number, such as 0.2", |value| match value {
            DeValue::Float(value) => value.as_str().parse().ok(),
            DeValue::Integer(value) => value.as_str().parse().ok(),
            _ => None,
        })
    }

    fn scalar<T: FromStr>(
        &mut self,
        key: &'static str,
        what: &str,
        read: impl FnOnce(&DeValue<'a>) -> Option<T>,
    ) -> Result<Option<Located<T>>> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        let value = match &entry.value {
            DeValue::String(text) if has_variable(text) => {
                self.expanded(text, &entry.place)?.trim().parse().ok()
            }
            value => read(value),
        };
        match value {
            Some(value) => Ok(Some(Located { value, place: entry.place })),
            None => Err(wrong_type(&entry.place, &entry.value, what)),
        }
    }

    /// A list of strings.
    pub(crate) fn strings(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Located<Vec<Located<String>>>>> {
        const WHAT: &str = "a list of texts, such as [\"a\", \"b\"]";
        let Some(entry) = self.take(key) else { return Ok(None) };
        let DeValue::Array(items) = entry.value else {
            return Err(wrong_type(&entry.place, &entry.value, WHAT));
        };
        let mut strings = Vec::with_capacity(items.len());
        for item in items {
            let place = self.document.place(item.span().start, self.key(key));
            let value = self.text(item.into_inner(), &place, WHAT)?;
            strings.push(Located { value, place });
        }
        Ok(Some(Located { value: strings, place: entry.place }))
    }

    /// A table of strings, in the order they are written.
    pub(crate) fn string_map(
        &mut self,
        key: &'static str,
    ) -> Result<Vec<(String, Located<String>)>> {
        const WHAT: &str = "a table of texts, such as { Name = \"value\" }";
        let Some(entry) = self.take(key) else { return Ok(Vec::new()) };
        let DeValue::Table(table) = entry.value else {
            return Err(wrong_type(&entry.place, &entry.value, WHAT));
        };
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut strings = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let start = name.span().start;
            let name = name.into_inner().into_owned();
            let place = self.document.place(start, self.key(&format!("{key}.{name}")));
            let value = self.text(value.into_inner(), &place, "a text in quotes")?;
            strings.push((name, Located { value, place }));
        }
        Ok(strings)
    }

    /// A table inside this one.
    pub(crate) fn section(&mut self, key: &'static str) -> Result<Option<Section<'a>>> {
        let Some(entry) = self.take(key) else { return Ok(None) };
        match entry.value {
            DeValue::Table(table) => Ok(Some(self.inner(key, entry.place, table))),
            value @ DeValue::Array(_) if self.name.is_empty() => Err(ConfigError::at(
                &entry.place,
                format_args!("{}: write it once, as [{key}]", describe(&value)),
            )),
            value => Err(wrong_type(&entry.place, &value, "a table")),
        }
    }

    /// Every `[[key]]`.
    pub(crate) fn sections(&mut self, key: &'static str) -> Result<Vec<Section<'a>>> {
        let Some(entry) = self.take(key) else { return Ok(Vec::new()) };
        let what = format!("a list of tables, each headed [[{key}]]");
        let DeValue::Array(items) = entry.value else {
            return Err(wrong_type(&entry.place, &entry.value, &what));
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items {
            let place = self.document.place(item.span().start, self.key(key));
            match item.into_inner() {
                DeValue::Table(table) => sections.push(self.inner(key, place, table)),
                value => return Err(wrong_type(&place, &value, &what)),
            }
        }
        Ok(sections)
    }

    fn inner(&self, key: &'static str, place: Place, table: DeTable<'a>) -> Section<'a> {
        Section { document: self.document, name: self.key(key), place, table, taken: Vec::new() }
    }

    /// Ends the section: a key nobody took is an error. `planned` are the keys that are part of
    /// the interface and not of this version.
    pub(crate) fn finish(self, planned: &[&'static str]) -> Result<()> {
        let Some(first) = self.table.keys().min_by_key(|key| key.span().start) else {
            return Ok(());
        };
        let place = self.document.place(first.span().start, self.key(first.get_ref()));
        if planned.contains(&first.get_ref().as_ref()) {
            let message = "is not supported by this version of walhook: remove it";
            return Err(ConfigError::at(&place, message));
        }
        let hint = hint(first.get_ref(), &self.taken);
        Err(ConfigError::at(&place, format_args!("is an unknown key: {hint}")))
    }

    fn text(&self, value: DeValue<'a>, place: &Place, what: &str) -> Result<String> {
        match value {
            DeValue::String(text) => self.expanded(&text, place),
            value => Err(wrong_type(place, &value, what)),
        }
    }

    fn expanded(&self, text: &str, place: &Place) -> Result<String> {
        expand(text, self.document.variable)
            .map(|text| text.into_owned())
            .map_err(|predicate| ConfigError::at(place, predicate))
    }
}

fn wrong_type(place: &Place, value: &DeValue<'_>, what: &str) -> ConfigError {
    ConfigError::at(place, format_args!("{}: write {what}", describe(value)))
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "is a text".into(),
        DeValue::Integer(value) => format!("is the number {}", value.as_str()),
        DeValue::Float(value) => format!("is the number {}", value.as_str()),
        DeValue::Boolean(value) => format!("is {value}"),
        DeValue::Datetime(_) => "is a date or time".into(),
        DeValue::Array(_) => "is a list".into(),
        DeValue::Table(_) => "is a table".into(),
    }
}

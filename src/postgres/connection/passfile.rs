//! Password files, as `passfile` names them
//! (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).

use std::path::Path;

use secrecy::SecretString;

use super::{Host, Server};

/// The password of the first line that matches. A file that can't be read holds none, as in
/// libpq: the server may not ask for one.
pub(super) fn find(file: &Path, server: &Server, dbname: &str, user: &str) -> Option<SecretString> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "could not read the password file");
            return None;
        }
    };
    search(&text, server, dbname, user)
}

fn search(text: &str, server: &Server, dbname: &str, user: &str) -> Option<SecretString> {
    let host = match &server.host {
        Host::Tcp { name, .. } => name.as_str(),
        Host::Local | Host::Unix(_) => "localhost",
    };
    let port = server.port.to_string();
    let wanted = [host, &port, dbname, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let [host, port, dbname, user, password] = fields.as_slice() else { return None };
        let given = [host, port, dbname, user];
        let fits =
            given.iter().zip(wanted).all(|(given, wanted)| *given == "*" || *given == wanted);
        fits.then(|| SecretString::from(password.as_str()))
    })
}

/// Splits at colons; a backslash takes the next character as it is.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let literal = match c {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(field) = fields.last_mut() {
            field.push(literal);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_first_matching_line_wins() {
        let text = "# a comment\nother:*:*:*:no\ndb:5432:app:u\\:1:a\\\\b:c\n*:*:*:*:rest\nbroken";
        let server = |name: &str| Server {
            host: Host::Tcp { name: name.to_owned(), address: None },
            port: 5432,
        };
        let get = |host, user| {
            search(text, &server(host), "app", user).map(|p| p.expose_secret().to_owned())
        };
        assert_eq!(get("db", "u:1").as_deref(), Some("a\\b:c"));
        assert_eq!(get("db", "v").as_deref(), Some("rest"));
        assert_eq!(get("other", "v").as_deref(), Some("no"));
    }
}

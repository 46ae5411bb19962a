//! Files that hold a secret.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// More than any secret needs; a file that is larger was meant for something else.
const MAX_BYTES: u64 = 16 * 1024;

/// Reads a secret from a file; white space around it is not part of it. The error is a predicate.
pub fn read_secret_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("names the file {shown}, which cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("names the file {shown}, which is too large to hold a secret"));
    }
    match String::from_utf8(bytes).as_deref().map(str::trim) {
        Ok("") => Err(format!("names the file {shown}, which is empty: write the secret into it")),
        Ok(secret) => Ok(secret.to_owned()),
        Err(_) => Err(format!("names the file {shown}, which is not UTF-8 text")),
    }
}

/// Reads a file with a secret a line, the current one first; empty lines are passed over.
pub fn read_secrets_file(path: &Path) -> Result<Vec<String>, String> {
    let text = read_secret_file(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// The file beside a journal that keeps the secret walhook made for it.
pub(crate) fn path_beside(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".secret");
    PathBuf::from(name)
}

/// Keeps `secret` in a new file that only its owner can read. `false` if the file is there
/// already.
pub(crate) fn create(path: &Path, secret: &str) -> Result<bool, String> {
    let result = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{secret}\n").as_bytes()));
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(format!("cannot write {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_secret_to_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = path_beside(&folder.path().join("walhook.db"));
        assert!(path.ends_with("walhook.db.secret"));
        assert_eq!(create(&path, "whsec_one"), Ok(true));
        assert_eq!(create(&path, "whsec_two"), Ok(false));
        assert_eq!(read_secret_file(&path).as_deref(), Ok("whsec_one"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn holds_a_secret_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        fs::write(&path, "\n  whsec_new \r\n\nwhsec_old\n").unwrap();
        assert_eq!(read_secrets_file(&path).unwrap(), ["whsec_new", "whsec_old"]);
        fs::write(&path, " \n\n").unwrap();
        assert!(read_secrets_file(&path).unwrap_err().contains("which is empty"));
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            read_secret_file(&path).unwrap_err()
        };
        assert!(file("empty", b" \n").contains("which is empty"));
        assert!(file("binary", &[0xff]).contains("not UTF-8"));
        assert!(file("large", &[b'a'; 17_000]).contains("too large"));
        let missing = read_secret_file(&folder.path().join("missing")).unwrap_err();
        assert!(missing.contains("cannot be read"));
    }
}

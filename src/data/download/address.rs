//! What may be shown of addresses.

/// A text in which every address is without user, password and query: those are secrets, and logs
/// are shared.
pub fn without_secrets(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(shown).collect()
}

/// A word without secrets, if it is an address.
fn shown(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_string() };
    let closing = |c: char| c.is_whitespace() || ")];:,.'\"".contains(c);
    let (rest, after) = rest.split_at(rest.trim_end_matches(closing).len());
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    // A password with a slash in it makes no address, but is one no less.
    let odd = !authority.starts_with('[') && port.chars().any(|c| !c.is_ascii_digit());
    let user = if odd || authority.contains('@') { rest.rfind('@').map_or(0, |at| at + 1) } else { 0 };
    format!("{scheme}://{}{after}", &rest[user..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_addresses_are_not_shown() {
        for (text, expected) in [
            ("from https://a.org/b.gz", "from https://a.org/b.gz"),
            ("https://user:pw@a.org/b.gz: HTTP 404", "https://a.org/b.gz: HTTP 404"),
            ("http://token@127.0.0.1:1/x", "http://127.0.0.1:1/x"),
            ("https://a.org/b?key=pw#x", "https://a.org/b"),
            ("(https://a.org/b?key=pw); next", "(https://a.org/b); next"),
            ("https://user:p/w@a.org/b", "https://a.org/b"),
            ("https://user:p@w@a.org/b", "https://a.org/b"),
            ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
            ("https://a.org:443/pack@1.0/x", "https://a.org:443/pack@1.0/x"),
            ("me@home, no address", "me@home, no address"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }
}

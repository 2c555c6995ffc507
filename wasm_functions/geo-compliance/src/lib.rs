//! What the law of the reader's country asks of an answer: no answer at all, or a notice at its end.
//!
//! The country comes from `x-country` (ISO 3166-1 alpha-2), which the load balancer in front of the POP must set. The
//! variable `rules` holds one rule a line, `COUNTRIES refuse REASON` or `COUNTRIES notice TEXT`, with countries separated by
//! commas and `*` for those that no other line names. A request whose country is refused ends in the request phase,
//! before the cache or a model is asked; a notice is added to cached and to fresh answers.

mod edgecache;

use edgecache::{call, escaped, Answer, Request};

enum Rule {
    Refuse(String),
    Notice(String),
}

pub fn handle(request: &Request) -> Option<Answer> {
    let country = request.header("x-country").unwrap_or("").to_ascii_uppercase();
    let phase = request.header("x-edgecache-phase").unwrap_or("");
    match (rule(&rules(), &country)?, phase) {
        (Rule::Refuse(reason), _) => Some(Answer {
            status: 451, // RFC 7725: unavailable for legal reasons
            headers: vec![("x-edgecache-action", "refuse".into()), ("content-type", "text/plain".into())],
            body: reason,
        }),
        (Rule::Notice(_), "request") => None,
        (Rule::Notice(text), _) => Some(Answer {
            status: 200,
            headers: vec![("content-type", "application/json".into()), ("x-notice", country)],
            body: with_notice(request.body, &text),
        }),
    }
}

/// The variable `rules`. Without it this function must not let anything pass: a fault, and the manifest says `fail`.
fn rules() -> String {
    let answer = call("var.get", &[b"rules"]);
    let text = String::from_utf8_lossy(&answer).into_owned();
    match text.strip_prefix('=').and_then(|packed| packed.split_once(':')) {
        Some((_, value)) => value.trim_end_matches(',').to_owned(),
        None => panic!("the variable `rules` cannot be read: {}", text),
    }
}

/// The rule for `country`: a line that names it, else the one of `*`.
fn rule(rules: &str, country: &str) -> Option<Rule> {
    let mut otherwise = None;
    for line in rules.lines() {
        let mut words = line.trim().splitn(3, ' ');
        let (countries, what, text) = (words.next()?, words.next().unwrap_or(""), words.next().unwrap_or(""));
        let found = match what {
            "refuse" => Rule::Refuse(text.to_owned()),
            "notice" => Rule::Notice(text.to_owned()),
            _ => continue,
        };
        if countries.split(',').any(|each| each == country) {
            return Some(found);
        }
        if countries == "*" {
            otherwise = Some(found);
        }
    }
    otherwise
}

/// `body` with `text` at the end of every message's content, which must be a string.
fn with_notice(body: &str, text: &str) -> String {
    let mut made = String::with_capacity(body.len() + text.len() + 16);
    let mut rest = body;
    while let Some(found) = rest.find("\"content\":") {
        let value = found + "\"content\":".len();
        let start = value + rest[value..].len() - rest[value..].trim_start().len();
        made += &rest[..start];
        rest = &rest[start..];
        if !rest.starts_with('"') {
            continue;
        }
        let end = string_end(rest);
        made += &rest[..end];
        made += "\\n\\n";
        made += &escaped(text);
        rest = &rest[end..];
    }
    made + rest
}

/// Where the JSON string that `text` begins with has its closing quote.
fn string_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

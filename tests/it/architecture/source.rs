//! A source file split as far as the rules need it: code and comments, and every path with its full
//! name.

use std::ops::Range;

/// A source file.
#[derive(Debug)]
pub(super) struct Source {
    /// The path below `src/`, with `/` between the names.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with blanks in place of comments, strings and character literals. Lines and columns
    /// are those of the text.
    pub(super) code: String,
    /// The comments, with blanks in place of everything else.
    pub(super) prose: String,
}

/// A path in the code, made absolute: a path into this crate starts with its first module, and
/// others start with the name of the crate.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) is_local: bool,
    /// Whether the path is in a module of tests.
    pub(super) is_in_tests: bool,
    /// Whether the path is part of a visibility, as in `pub(in crate::log)`.
    pub(super) is_visibility: bool,
    pub(super) segments: Vec<String>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let (code, prose) = split(text);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            prose,
        }
    }

    /// Returns the module of this file: `log/open.rs` is `["log", "open"]`, `log/mod.rs` is
    /// `["log"]`, `lib.rs` is `[]`.
    pub(super) fn module(&self) -> Vec<String> {
        let mut module: Vec<String> = self
            .path
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if module
            .last()
            .is_some_and(|name| name == "mod" || name == "lib")
        {
            module.pop();
        }
        module
    }

    /// Returns the number of the line, from 1, that contains a byte of `code`.
    pub(super) fn line_of(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }

    /// Returns every identifier and keyword of the code with its position.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }

    /// Returns the range between the first braces at or after `from`, or `None` if a `;` is before
    /// them.
    pub(super) fn braced(&self, from: usize) -> Option<Range<usize>> {
        let bytes = self.code.as_bytes();
        let mut nesting = 0_usize;
        let open = (from..bytes.len()).find(|&at| {
            match bytes[at] {
                b'(' | b'[' => nesting += 1,
                b')' | b']' => nesting = nesting.saturating_sub(1),
                _ => {}
            }
            nesting == 0 && matches!(bytes[at], b'{' | b';')
        })?;
        if bytes[open] == b';' {
            return None;
        }
        let mut depth = 0_usize;
        let close = (open..bytes.len()).find(|&at| {
            match bytes[at] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            depth == 0
        })?;
        Some(open + 1..close)
    }

    /// Returns all paths that start at a crate, `self` or `super`. A group (`a::{b, c}`) becomes
    /// one path per member.
    pub(super) fn paths(&self) -> Vec<Named> {
        let inline = self.inline_modules();
        let mut found = Vec::new();
        let mut read_up_to = 0;
        for (at, word) in self.words() {
            // The first colons of `::std::fs` do not continue a path. In `Vec::<u8>::new` and
            // `Kind::a::b` all colons do.
            let before = self.code[..at].trim_end().strip_suffix("::");
            let is_first =
                before.is_none_or(|before| !before.ends_with(|c: char| is_word(c) || c == '>'));
            if at < read_up_to
                || !is_first
                || !self.code[at + word.len()..].trim_start().starts_with("::")
            {
                continue;
            }
            let mut module = self.module();
            module.extend(
                inline
                    .iter()
                    .filter(|(_, body)| body.contains(&at))
                    .map(|(name, _)| name.clone()),
            );
            let base = match word {
                "crate" => Vec::new(),
                "self" => module.clone(),
                "super" => module
                    .split_last()
                    .map_or(Vec::new(), |(_, above)| above.to_vec()),
                _ if starts_lower(word) => vec![word.to_owned()],
                _ => continue,
            };
            let is_local = matches!(word, "crate" | "self" | "super");
            let is_in_tests = module.iter().any(|name| name == "tests");
            let is_visibility = self.code[..at].trim_end().ends_with("(in");
            let mut spread = Vec::new();
            read_up_to = self.spread(at + word.len(), base, &mut spread);
            let line = self.line_of(at);
            found.extend(spread.into_iter().map(|segments| Named {
                line,
                is_local,
                is_in_tests,
                is_visibility,
                segments,
            }));
        }
        found
    }

    /// Returns the inline modules with the ranges between their braces, outer ones first.
    fn inline_modules(&self) -> Vec<(String, Range<usize>)> {
        let all: Vec<_> = self.words().collect();
        let pairs = all.iter().zip(all.iter().skip(1));
        let modules = pairs.filter(|((_, keyword), _)| *keyword == "mod");
        modules
            .filter_map(|(_, &(at, name))| Some((name.to_owned(), self.braced(at)?)))
            .collect()
    }

    /// Returns the ranges of test code: modules that are named `tests`, and items that are compiled
    /// only for tests.
    pub(super) fn tests(&self) -> Vec<Range<usize>> {
        let modules = self.inline_modules().into_iter();
        let modules = modules.filter(|(name, _)| name == "tests");
        let items = self.code.match_indices("#[cfg(test)]");
        let items = items.filter_map(|(at, attribute)| {
            let from = at + attribute.len();
            self.braced(from).map(|body| from..body.end)
        });
        modules.map(|(_, body)| body).chain(items).collect()
    }

    /// Follows a path from `at`, which is after `prefix`, and adds the full paths to `found`.
    /// Returns the end of the path.
    fn spread(&self, at: usize, mut prefix: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
        let mut at = self.skip_space(at);
        while self.code[at..].starts_with("::") {
            at = self.skip_space(at + 2);
            match self.code.as_bytes().get(at) {
                Some(b'{') => return self.spread_group(at + 1, &prefix, found),
                Some(b'*') => {
                    prefix.push("*".to_owned());
                    at += 1;
                }
                _ => match word_at(&self.code, at) {
                    Some("super") => {
                        prefix.pop();
                        at += "super".len();
                    }
                    Some(word) => {
                        prefix.push(word.to_owned());
                        at += word.len();
                    }
                    None => break,
                },
            }
            at = self.skip_space(at);
        }
        found.push(prefix);
        at
    }

    fn spread_group(
        &self,
        mut at: usize,
        prefix: &[String],
        found: &mut Vec<Vec<String>>,
    ) -> usize {
        loop {
            at = self.skip_space(at);
            match (self.code.as_bytes().get(at), word_at(&self.code, at)) {
                (None, _) => return at,
                (Some(b'}'), _) => return at + 1,
                (_, Some("self")) => {
                    found.push(prefix.to_vec());
                    at += "self".len();
                }
                (_, Some("as")) => {
                    at = self.skip_space(at + "as".len());
                    at += word_at(&self.code, at).map_or(0, str::len);
                }
                (_, Some("super")) => {
                    let above = prefix
                        .split_last()
                        .map_or(Vec::new(), |(_, above)| above.to_vec());
                    at = self.spread(at + "super".len(), above, found);
                }
                (_, Some(word)) => {
                    let mut longer = prefix.to_vec();
                    longer.push(word.to_owned());
                    at = self.spread(at + word.len(), longer, found);
                }
                (Some(b'*'), _) => {
                    found.push(prefix.iter().cloned().chain(["*".to_owned()]).collect());
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    fn skip_space(&self, at: usize) -> usize {
        self.code.len() - self.code[at..].trim_start().len()
    }
}

/// Returns the words of letters, digits and underscores with their positions.
pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_edge = |c: char| !is_word(c);
    text.split(is_edge)
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn word_at(text: &str, at: usize) -> Option<&str> {
    let rest = &text[at..];
    let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn starts_lower(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
}

/// Splits a text into code and comments. Blanks replace the omitted parts, so lines and columns
/// stay the same.
fn split(text: &str) -> (String, String) {
    let (mut code, mut prose) = (String::new(), String::new());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (taken, is_code, is_prose) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false, true)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false, true)
        } else if let Some(taken) = literal(rest, code.chars().next_back().is_some_and(is_word)) {
            (taken, false, false)
        } else {
            (first.len_utf8(), true, false)
        };
        for c in rest[..taken].chars() {
            code.push(if c == '\n' || (is_code && c.is_ascii()) {
                c
            } else {
                ' '
            });
            prose.push(if c == '\n' || (is_prose && c.is_ascii()) {
                c
            } else {
                ' '
            });
        }
        rest = &rest[taken..];
    }
    (code, prose)
}

/// Returns the length of the block comment at the start of `text`, including nested comments.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Returns the length of the string or character literal at the start of `text`. A lifetime is not
/// a literal.
fn literal(text: &str, follows_word: bool) -> Option<usize> {
    if !follows_word {
        let unprefixed = text.trim_start_matches(['b', 'c']);
        let raw = unprefixed
            .strip_prefix('r')
            .filter(|_| text.len() - unprefixed.len() <= 1);
        if let Some(raw) = raw {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            if raw[hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let body = &raw[hashes + 1..];
                let close = body.find(&end).map_or(body.len(), |at| at + end.len());
                return Some(text.len() - body.len() + close);
            }
        }
    }
    let mut inside = text.strip_prefix(['"', '\''])?.char_indices();
    let quote = text.chars().next()?;
    if quote == '\'' {
        let body = &text[1..];
        let mut ahead = body.chars();
        let first = ahead.next()?;
        if first != '\\' && ahead.next() != Some('\'') {
            return None;
        }
    }
    while let Some((at, c)) = inside.next() {
        match c {
            '\\' => {
                inside.next();
            }
            c if c == quote => return Some(1 + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_comments_are_separated() {
        let source = Source::new(
            "a.rs",
            "let a = \"// no\\\" {\"; // yes \"x\"\nlet b: &'a str = r#\"} \" \"#; /* one /* two */ */ let c = '{'; let d = b'\\'';\n",
        );
        assert_eq!(source.code.lines().count(), 2);
        assert!(
            !source.code.contains(['{', '}', '"', '/']),
            "{}",
            source.code
        );
        assert!(source.code.contains("&'a str"));
        assert!(source.code.contains("let c"));
        let prose: Vec<_> = words(&source.prose).map(|(_, word)| word).collect();
        assert_eq!(prose, ["yes", "x", "one", "two"]);
    }

    #[test]
    fn groups_of_paths_become_absolute_paths() {
        let source = Source::new(
            "log/open.rs",
            "use crate::{format::batch::{self, Frame as F}, segment::*};\nuse super::catalog::Catalog;\n\
             mod tests { use super::super::checkpoints; fn f() { ::std::fs::read(x); Vec::<u8>::new(); } }\n",
        );
        let paths: Vec<_> = source
            .paths()
            .iter()
            .map(|path| (path.line, path.segments.join("::")))
            .collect();
        let expected = [
            (1, "format::batch"),
            (1, "format::batch::Frame"),
            (1, "segment::*"),
            (2, "log::catalog::Catalog"),
            (3, "log::checkpoints"),
            (3, "std::fs::read"),
        ];
        assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
    }
}

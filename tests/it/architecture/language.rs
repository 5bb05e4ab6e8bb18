//! Plain English in numbers: how often a habit that makes prose hard to read may occur in 1,000
//! sentences of comments and documents.

use std::fs;
use std::path::Path;

use regex_lite::Regex;

use super::source::Source;

/// How often a habit may, or must, occur in 1,000 sentences.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Most(f64),
    Least(f64),
}

/// A habit, as a pattern over single sentences in which code spans are replaced by `X`.
struct Habit {
    name: &'static str,
    pattern: &'static str,
    limit: Limit,
    /// A text that misses the limit.
    caught: &'static str,
    /// A similar text that keeps the limit.
    passed: &'static str,
}

const HABITS: [Habit; 18] = [
    Habit {
        name: "a sentence begins with `What`",
        pattern: r"^What\b",
        limit: Limit::Most(2.0),
        caught: "What does not fit is left in the buffer.",
        passed: "Returns what does not fit. Whatever is left stays.",
    },
    Habit {
        name: "a sentence begins with `Where`",
        pattern: r"^Where\b",
        limit: Limit::Most(2.0),
        caught: "Where the batch starts in the file.",
        passed: "Finds where the batch starts. Wherever it is, it is read.",
    },
    Habit {
        name: "a sentence begins with `Who`",
        pattern: r"^(Who|Whoever)\b",
        limit: Limit::Most(1.0),
        caught: "Whoever comes first leads.",
        passed: "Whole batches are read. Whose turn it is does not matter.",
    },
    Habit {
        name: "`nobody`, `nothing`",
        pattern: r"\b(nobody|nothing)\b",
        limit: Limit::Most(15.0),
        caught: "If nobody waits, nothing is synced.",
        passed: "If no thread waits, no file is synced.",
    },
    Habit {
        name: "`behind`",
        pattern: r"\bbehind\b",
        limit: Limit::Most(8.0),
        caught: "The zeros behind the last batch.",
        passed: "The zeros after the last batch.",
    },
    Habit {
        name: "`in front of`",
        pattern: r"\bin front of\b",
        limit: Limit::Most(2.0),
        caught: "The bytes in front of the header.",
        passed: "The bytes before the header, at the front of the file.",
    },
    Habit {
        name: "`gives`, `answers`",
        pattern: r"\b(gives|answers|answered)\b",
        limit: Limit::Most(3.0),
        caught: "The call gives the next offset.",
        passed: "The answer is given as the next offset.",
    },
    Habit {
        name: "`stands`",
        pattern: r"\bstands?\b",
        limit: Limit::Most(4.0),
        caught: "The index stands in the same directory.",
        passed: "The standard index understands both formats.",
    },
    Habit {
        name: "`whoever`, `those who`, `he`",
        pattern: r"\b(whoever|those who|he|his|him)\b",
        limit: Limit::Most(2.0),
        caught: "The lock belongs to whoever took it.",
        passed: "The thread that took the lock keeps those segments.",
    },
    Habit {
        name: "`told`, `tells`, `is said`",
        pattern: r"\b(told|tells|is said|says who)\b",
        limit: Limit::Most(3.0),
        caught: "A gap is told by the reader.",
        passed: "The reader reports a gap, as the topic file says.",
    },
    Habit {
        name: "`anew`, `meanwhile`",
        pattern: r"\b(anew|meanwhile)\b",
        limit: Limit::Most(2.0),
        caught: "The index is written anew.",
        passed: "The index is written from scratch, for a new segment.",
    },
    Habit {
        name: "`goes on`",
        pattern: r"\b(goes|go|going|went) on\b",
        limit: Limit::Most(2.0),
        caught: "The reader goes on at the next batch.",
        passed: "The reader continues, and its bytes go to the next batch.",
    },
    Habit {
        name: "`comes to`",
        pattern: r"\bcomes? to\b",
        limit: Limit::Most(1.0),
        caught: "A record comes to its end.",
        passed: "The record that comes next is at its end.",
    },
    Habit {
        name: "`is no`",
        pattern: r"\b(is|are) no\b",
        limit: Limit::Most(8.0),
        caught: "An empty file is no error.",
        passed: "An empty file is not an error, and there was no loss.",
    },
    Habit {
        name: "an inversion",
        pattern: r"^(Read|Written|Refused|Assumed|Kept|Left|Gone|Given) (is|are)\b",
        limit: Limit::Most(0.5),
        caught: "Read are chunks of any size.",
        passed: "Read chunks are of any size. Left alone is the marker.",
    },
    Habit {
        name: "`beside`",
        pattern: r"\bbeside\b",
        limit: Limit::Most(5.0),
        caught: "A note is kept beside the log.",
        passed: "A note is kept next to the log, besides the marker.",
    },
    Habit {
        name: "a sentence begins with `Returns`",
        pattern: r"^Returns?\b",
        limit: Limit::Least(20.0),
        caught: "The next offset of the partition. Never returns zero.",
        passed: "Returns the next offset of the partition.",
    },
    Habit {
        name: "a sentence has more than 30 words",
        pattern: r"^(\S+\s+){30}\S",
        limit: Limit::Most(40.0),
        caught: concat!(
            "The batch a b c d e f g h i j k l m n o p q r s t u v w x y z ",
            "has thirty-one words."
        ),
        passed: concat!(
            "The batch a b c d e f g h i j k l m n o p q r s t u v w x y z ",
            "has thirty."
        ),
    },
];

/// A sentence of a comment or a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    /// The file and the first line of the paragraph.
    place: String,
    text: String,
}

/// Returns the sentences of the comments in a source file, or of a whole document.
///
/// Headings, tables and code blocks are left out, and so are comments after code on the same line.
/// Links are reduced to their text and code spans to `X`.
pub(super) fn sentences(path: &str, text: &str) -> Vec<Sentence> {
    let link = Regex::new(r"\]\([^)]*\)").expect("the pattern is valid");
    let span = Regex::new("`[^`]*`").expect("the pattern is valid");
    let mut sentences = Vec::new();
    let (mut paragraph, mut first_line, mut is_code) = (Vec::new(), 0, false);
    for (number, line) in text.lines().chain([""]).enumerate() {
        let mut prose = if Path::new(path).extension().is_some_and(|kind| kind == "rs") {
            comment(line)
        } else {
            line.trim()
        };
        if prose.starts_with("```") {
            is_code = !is_code;
            prose = "";
        }
        let is_prose = !is_code && !prose.is_empty() && !prose.starts_with(['|', '#']);
        if is_prose && !prose.starts_with("---") {
            if paragraph.is_empty() {
                first_line = number + 1;
            }
            let is_mark = |c: char| matches!(c, '-' | '*' | '.' | ' ') || c.is_ascii_digit();
            paragraph.extend(prose.trim_start_matches(is_mark).split_whitespace());
            continue;
        }
        let joined = paragraph.join(" ");
        paragraph.clear();
        let joined = span
            .replace_all(&link.replace_all(&joined, "]"), "X")
            .into_owned();
        sentences.extend(cut(&joined).into_iter().map(|sentence| Sentence {
            place: format!("{path}:{first_line}"),
            text: sentence.to_owned(),
        }));
    }
    sentences
}

/// Returns the text of a line that is a comment, and an empty text for other lines.
fn comment(line: &str) -> &str {
    let Some(text) = line.trim_start().strip_prefix("//") else {
        return "";
    };
    text.strip_prefix(['/', '!']).unwrap_or(text).trim()
}

/// Cuts a paragraph into sentences of at least three words. A sentence ends before a capital letter
/// or a link.
fn cut(paragraph: &str) -> Vec<&str> {
    let ends = paragraph.match_indices(' ').map(|(at, _)| at).filter(|at| {
        let (before, after) = (&paragraph[..*at], &paragraph[at + 1..]);
        before.ends_with(['.', '!', '?', ':'])
            && after.starts_with(|c: char| c.is_ascii_uppercase() || c == '[')
    });
    let mut start = 0;
    let mut sentences = Vec::new();
    for end in ends.chain([paragraph.len()]) {
        let sentence = paragraph[start..end].trim_matches([' ', '[', ']']);
        if paragraph[start..end].split_whitespace().count() > 2 {
            sentences.push(sentence);
        }
        start = (end + 1).min(paragraph.len());
    }
    sentences
}

impl Habit {
    /// Returns a complaint with some of the sentences if the limit is missed.
    fn check(&self, sentences: &[Sentence]) -> Option<String> {
        let pattern = Regex::new(self.pattern).expect("the pattern is valid");
        let hits: Vec<_> = sentences
            .iter()
            .filter(|sentence| pattern.is_match(&sentence.text))
            .collect();
        let count = |number: usize| f64::from(u32::try_from(number).expect("the tree is small"));
        let rate = 1000.0 * count(hits.len()) / count(sentences.len().max(1));
        let limit = match self.limit {
            Limit::Most(most) if rate > most => format!("at most {most}"),
            Limit::Least(least) if rate < least => format!("at least {least}"),
            _ => return None,
        };
        let shown = hits.iter().take(10);
        let shown: Vec<_> = shown
            .map(|hit| format!("\n    {}: {}", hit.place, hit.text))
            .collect();
        Some(format!(
            "{}: {rate:.1} in 1,000 sentences; {limit}{}",
            self.name,
            shown.concat()
        ))
    }
}

/// Returns a complaint for each limit that the sentences miss.
pub(super) fn check_habits(sentences: &[Sentence]) -> Vec<String> {
    HABITS
        .iter()
        .filter_map(|habit| habit.check(sentences))
        .collect()
}

#[test]
fn the_prose_of_the_tree_keeps_the_limits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for dir in ["src", "examples", "benches"] {
        super::sources(&root.join(dir), &format!("{dir}/"), &mut sources);
    }
    for page in ["README.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root.join(page)).expect("the page is there");
        sources.push(Source::new(page, &text));
    }
    let all: Vec<_> = sources
        .iter()
        .flat_map(|source| sentences(&source.path, &source.text))
        .collect();
    assert!(all.len() > 3_000, "only {} sentences", all.len());
    let complaints = check_habits(&all);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn each_habit_catches_its_text_and_passes_a_similar_one() {
    for habit in &HABITS {
        let caught = sentences("page.md", habit.caught);
        assert!(habit.check(&caught).is_some(), "{} was missed", habit.name);
        let passed = sentences("page.md", habit.passed);
        assert_eq!(habit.check(&passed), None, "{}", habit.name);
    }
}

#[test]
fn a_limit_counts_per_thousand_sentences() {
    let page = |hits: usize| {
        let hit = "The zeros behind it.\n\n".repeat(hits);
        let all = hit + &"The zeros after it.\n\n".repeat(1000 - hits);
        sentences("page.md", &all)
    };
    let behind = HABITS
        .iter()
        .find(|habit| habit.name == "`behind`")
        .expect("there is such a habit");
    assert_eq!(behind.check(&page(8)), None);
    let complaint = behind.check(&page(9)).expect("9 are too many");
    assert!(complaint.starts_with("`behind`: 9.0 in 1,000 sentences; at most 8"));
    assert!(complaint.contains("page.md:1: The zeros behind it."));
}

#[test]
fn sentences_are_cut_out_of_comments() {
    let source = "\
//! First [`Log`](crate::Log) of all. And a second
//! one: `a. B` is code.
//!
//! | A table | of words |
//! # A heading of words
//! * An item of a list.
//! ```
//! Not prose at all.
//! ```
fn f() { g() } // No comment line here.
    /// Inside a function e.g. here! No. Two words.
    /* Not a line comment. */
// Last one of all";
    let found: Vec<_> = sentences("a.rs", source)
        .into_iter()
        .map(|sentence| (sentence.place, sentence.text))
        .collect();
    let expected = [
        ("a.rs:1", "First [X] of all."),
        ("a.rs:1", "And a second one:"),
        ("a.rs:1", "X is code."),
        ("a.rs:6", "An item of a list."),
        ("a.rs:11", "Inside a function e.g. here!"),
        ("a.rs:13", "Last one of all"),
    ];
    assert_eq!(
        found,
        expected.map(|(place, text)| (place.to_owned(), text.to_owned()))
    );
    let page = "# Heading of a page\n\nSome text here,\nof two lines. [A link](b.md) to it.\n";
    let found = sentences("page.md", page);
    assert_eq!(found[0].text, "Some text here, of two lines.");
    assert_eq!(found[1].text, "A link] to it.");
    assert_eq!(found.len(), 2);
}

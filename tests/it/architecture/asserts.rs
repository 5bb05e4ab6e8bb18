//! Asserts at the borders of floors: the rooms that keep the files consistent check their
//! invariants in the code itself.

use super::source::Source;

/// The rooms that must assert: folders of `src`.
const ROOMS: [&str; 4] = ["segment", "partition", "catalog", "log"];

/// The most functions per assert: a room needs at least 0.2 asserts per function.
const FUNCTIONS_PER_ASSERT: usize = 5;

const ASSERTS: [&str; 7] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "unreachable",
];

/// The functions with a body and the asserts outside of test code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    functions: usize,
    asserts: usize,
}

fn count(source: &Source) -> Count {
    let mut count = Count::default();
    if source.module().iter().any(|name| name == "tests") {
        return count;
    }
    let tests = source.tests();
    let is_test = |at: usize| tests.iter().any(|range| range.contains(&at));
    let words: Vec<_> = source.words().collect();
    for (index, (at, word)) in words.iter().enumerate() {
        let rest = &source.code[at + word.len()..];
        if is_test(*at) {
            continue;
        }
        if ASSERTS.contains(word) && rest.starts_with('!') {
            count.asserts += 1;
        }
        // A function pointer has a parenthesis between `fn` and the next word.
        let has_name = || {
            words
                .get(index + 1)
                .is_some_and(|(next, _)| source.code[at + word.len()..*next].trim().is_empty())
        };
        if *word == "fn" && has_name() && source.braced(at + word.len()).is_some() {
            count.functions += 1;
        }
    }
    count
}

fn count_room(room: &str, sources: &[Source]) -> Count {
    let start = format!("{room}/");
    let counts = sources
        .iter()
        .filter(|source| source.path.starts_with(&start))
        .map(count);
    counts.fold(Count::default(), |all, next| Count {
        functions: all.functions + next.functions,
        asserts: all.asserts + next.asserts,
    })
}

/// Returns a complaint for each room with too few asserts.
fn check_asserts(rooms: &[&str], sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for room in rooms {
        let Count { functions, asserts } = count_room(room, sources);
        if functions == 0 {
            complaints.push(format!("`{room}` has no functions"));
        }
        if asserts * FUNCTIONS_PER_ASSERT < functions {
            complaints.push(format!(
                "`{room}` has {asserts} asserts in {functions} functions; it needs at least {}",
                functions.div_ceil(FUNCTIONS_PER_ASSERT)
            ));
        }
    }
    complaints
}

#[test]
fn each_room_asserts_in_one_of_five_functions() {
    let complaints = check_asserts(&ROOMS, &super::sources_of("src"));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_room_with_too_few_asserts_is_caught() {
    let room = |functions: usize, asserts: usize| {
        let text = "fn f() {}\n".repeat(functions - 1)
            + "fn last() {"
            + &"debug_assert_eq!(a, b);".repeat(asserts)
            + "}";
        [
            Source::new("segment/mod.rs", &text),
            Source::new("segmented/mod.rs", "fn f() { assert!(a); assert!(b); }"),
        ]
    };
    assert_eq!(check_asserts(&["segment"], &room(5, 1)), [""; 0]);
    assert_eq!(check_asserts(&["segment"], &room(10, 2)), [""; 0]);
    for (functions, asserts) in [(1, 0), (6, 1), (11, 2)] {
        let complaints = check_asserts(&["segment"], &room(functions, asserts));
        assert_eq!(complaints.len(), 1, "{asserts} in {functions}");
    }
    assert_eq!(
        check_asserts(&["log"], &room(5, 1)),
        ["`log` has no functions"]
    );
}

#[test]
fn only_asserts_and_functions_outside_of_tests_count() {
    let source = |text: &str| count(&Source::new("log/mod.rs", text));
    let all = "fn f() { assert!(a); assert_eq!(a, b); assert_ne!(a, b); debug_assert!(a); \
               debug_assert_eq!(a, b); debug_assert_ne!(a, b); unreachable!() }";
    let expected = Count {
        functions: 1,
        asserts: 7,
    };
    assert_eq!(source(all), expected);
    let none = Count {
        functions: 2,
        asserts: 0,
    };
    let others = "// assert!(a)\n\
        trait T { fn declared(&self); fn provided(&self) { f(\"assert!(a)\") } }\n\
        fn f(g: fn(u8) -> u8) { assert_bounds(); panic!() }\n\
        #[cfg(test)]\nfn only() { assert!(a) }\n\
        #[cfg(test)]\nmod tests { fn t() { assert!(a) } }\n\
        mod tests { fn t() { assert!(a) } }\n";
    assert_eq!(source(others), none);
    for path in ["log/tests.rs", "log/tests/deep.rs", "log/core/tests/mod.rs"] {
        assert_eq!(count(&Source::new(path, all)), Count::default(), "{path}");
    }
}

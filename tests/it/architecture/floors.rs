//! The floors of the crate. A module may import only from the floors below its own.
//!
//! For a name that a `mod.rs` re-exports, the module that defines it counts.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Named, Source};
use super::{Finding, found};

/// The floors of a room, from the ground up. Each line is a floor, and each word is a room on it. A
/// room is a file, or a folder with all its files. Rooms on the ground floor of the crate may name
/// each other, and so may the public types of the services.
type Floors = &'static [&'static [&'static str]];

const CRATE: Floors = &[
    &[
        "topic_partition",
        "error",
        "clock",
        "config",
        "sync",
        "threads",
        "brief",
    ],
    &["format", "storage"],
    &["segment"],
    &["partition"],
    &["retention", "compaction", "topic"],
    &["catalog"],
    &["producer", "group"],
    &["transaction"],
    &["log"],
    &["inspect", "metrics", "fuzzing"],
    &["lib"],
];

/// Floors inside the large rooms. Test modules may name all of them.
const ROOMS: [(&str, Floors); 3] = [
    (
        "partition",
        &[
            &["state"],
            &["core", "stated"],
            &["keeper"],
            &["scan"],
            &["write"],
            &["read", "remove", "copy"],
            &["open"],
            &["read_only"],
            &["handle"],
            &["tests"],
        ],
    ),
    (
        "group",
        &[
            &["assignor"],
            &["config"],
            &["members", "offsets"],
            &["service"],
            &["consuming"],
            &["handle"],
            &["admin"],
        ],
    ),
    (
        "log",
        &[
            &["directory", "recovery", "read_only"],
            &["core"],
            &["compacting", "snapshot"],
            &["maintenance"],
            &["keeper"],
            &["handle"],
            &["transacting"],
            &["open"],
            &["lone"],
            &["tests"],
        ],
    ),
];

const GROUND: usize = 0;
const SERVICES: usize = 6;

/// The definitions of the names that a `mod.rs` re-exports.
#[derive(Debug, Default)]
pub(super) struct Exports(BTreeMap<Vec<String>, Vec<String>>);

impl Exports {
    pub(super) fn of(sources: &[Source]) -> Self {
        let mut exports = BTreeMap::new();
        for source in sources
            .iter()
            .filter(|source| source.path.ends_with("mod.rs"))
        {
            let module = source.module();
            for path in source.paths().iter().filter(|path| !path.is_in_tests) {
                let Some(name) = path.segments.last() else {
                    continue;
                };
                // `pub use write::append::Appended` starts at a child module.
                let full = if path.is_local {
                    path.segments.clone()
                } else {
                    [&module[..], &path.segments].concat()
                };
                exports
                    .entry([&module[..], std::slice::from_ref(name)].concat())
                    .or_insert(full);
            }
        }
        Self(exports)
    }

    /// Returns the path under which the item is defined.
    fn resolve(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        for _ in 0..4 {
            let next = (1..=path.len()).find_map(|taken| {
                let (start, rest) = path.split_at(taken);
                let target = self
                    .0
                    .get(start)
                    .filter(|target| target.as_slice() != start)?;
                Some([target.as_slice(), rest].concat())
            });
            match next {
                Some(next) => path = next,
                None => break,
            }
        }
        path
    }
}

/// Returns the floor and the room of a module.
fn place(floors: Floors, name: &str) -> Option<(usize, &'static str)> {
    floors
        .iter()
        .enumerate()
        .find_map(|(floor, rooms)| Some((floor, *rooms.iter().find(|room| **room == name)?)))
}

/// Returns a complaint for each path that leads to the same floor or up.
pub(super) fn check_floors(source: &Source, exports: &Exports) -> Vec<Finding> {
    let module = source.module();
    let name = module.first().map_or("lib", String::as_str);
    let Some((floor, room)) = place(CRATE, name) else {
        return found(1, "this module has no floor; add it to the table of floors");
    };
    if room == "lib" {
        return Vec::new();
    }
    let paths = source.paths();
    let local = paths.iter().filter(|path| path.is_local);
    let mut findings: Vec<Finding> = local
        .clone()
        .filter_map(|path| check_path(path, floor, room))
        .collect();
    if let Some((_, floors)) = ROOMS.iter().find(|(name, _)| *name == room) {
        let inside = local.filter(|path| !path.is_in_tests && !path.is_visibility);
        findings.extend(inside.filter_map(|path| check_inside(path, &module, floors, exports)));
    }
    findings
}

fn check_path(path: &Named, floor: usize, room: &str) -> Option<Finding> {
    let name = path.segments.join("::");
    let target = path.segments.first().and_then(|first| place(CRATE, first));
    let Some((target_floor, target_room)) = target.filter(|(_, room)| *room != "lib") else {
        return Some((
            path.line,
            format!("`{name}` is named through the root of the crate; name its module"),
        ));
    };
    let is_face =
        matches!(path.segments.as_slice(), [_, item] if item.starts_with(char::is_uppercase));
    let is_allowed = target_room == room
        || target_floor < floor
        || (floor == GROUND && target_floor == GROUND)
        || (floor == SERVICES && target_floor == SERVICES && is_face);
    (!is_allowed).then(|| {
        (
            path.line,
            format!("`{room}` (floor {floor}) names `{name}` (floor {target_floor})"),
        )
    })
}

/// Checks a path between two rooms inside of a large room. The `mod.rs` of the large room is above
/// all of them.
fn check_inside(
    path: &Named,
    module: &[String],
    floors: Floors,
    exports: &Exports,
) -> Option<Finding> {
    let [house, own, ..] = module else {
        return None;
    };
    let target = exports.resolve(&path.segments);
    let inside = target.strip_prefix(std::slice::from_ref(house))?;
    let Some((floor, room)) = place(floors, own) else {
        return Some((
            1,
            format!("`{own}` has no floor in `{house}`; add it to the table of floors"),
        ));
    };
    let name = target.join("::");
    let Some((target_floor, target_room)) = inside.first().and_then(|first| place(floors, first))
    else {
        return Some((
            path.line,
            format!("`{room}` names `{name}` of the room above; move it to a file below both"),
        ));
    };
    let is_allowed = target_room == room || target_floor < floor;
    (!is_allowed).then(|| {
        (
            path.line,
            format!("`{house}/{room}` (floor {floor}) names `{name}` (floor {target_floor})"),
        )
    })
}

/// Returns the circles of files. In a circle, each file names every other one, directly or through
/// others.
pub(super) fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let exports = Exports::of(sources);
    let files: BTreeMap<Vec<String>, &Source> = sources
        .iter()
        .map(|source| (source.module(), source))
        .collect();
    let is_test = |module: &[String]| module.iter().any(|name| name == "tests");
    let file_of = |mut path: Vec<String>| {
        while !path.is_empty() && !files.contains_key(&path) {
            path.pop();
        }
        path
    };
    let mut names = BTreeMap::<Vec<String>, BTreeSet<Vec<String>>>::new();
    for (module, source) in files
        .iter()
        .filter(|(module, _)| !module.is_empty() && !is_test(module))
    {
        let local = source
            .paths()
            .into_iter()
            .filter(|path| path.is_local && !path.is_in_tests && !path.is_visibility);
        let targets = local.map(|path| file_of(exports.resolve(&path.segments)));
        names.insert(
            module.clone(),
            targets.filter(|target| target != module).collect(),
        );
    }
    let reach = |from: &Vec<String>| {
        let mut found = BTreeSet::new();
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            open.extend(
                names
                    .get(next)
                    .into_iter()
                    .flatten()
                    .filter(|target| found.insert((*target).clone())),
            );
        }
        found
    };
    let reached: BTreeMap<_, _> = names.keys().map(|module| (module, reach(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, targets) in reached
        .iter()
        .filter(|(module, targets)| targets.contains(**module))
    {
        let circle = targets.iter().filter(|target| {
            reached
                .get(target)
                .is_some_and(|back| back.contains(*module))
        });
        circles.insert(circle.map(|module| module.join("::")).collect());
    }
    circles.into_iter().collect()
}

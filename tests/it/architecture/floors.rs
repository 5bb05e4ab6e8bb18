//! Which module stands on which floor. A module imports only from the floors below its own.

use super::source::{Named, Source};
use super::{Finding, found};

/// The house from the ground up: each line a floor, each word a room on it. A room may be one file, or a folder with all in it.
const FLOORS: [&[&str]; 10] = [
    &["topic_partition", "error", "clock", "config", "sync", "threads", "brief"],
    &["format", "storage"],
    &["segment"],
    &["partition"],
    &["retention", "compaction", "topic"],
    &["log/catalog", "log/checkpoints"],
    &["producer", "group", "transaction"],
    &["log"],
    &["inspect", "metrics", "fuzzing"],
    &["lib"],
];

/// The rooms of the ground floor may name each other.
const GROUND: usize = 0;
/// The services may name each other's public types (`crate::group::Consumer`), but nothing behind them.
const SERVICES: usize = 6;

/// Floor and room of a module, or of an item in one.
fn place(module: &[String]) -> Option<(usize, &'static str)> {
    let name = match module {
        [] => return Some((FLOORS.len() - 1, "lib")),
        [first, ..] => first,
    };
    let pair = module.get(1).map(|second| format!("{name}/{second}"));
    let find = |wanted: &str| {
        FLOORS.iter().enumerate().find_map(|(floor, rooms)| Some((floor, *rooms.iter().find(|room| **room == wanted)?)))
    };
    pair.and_then(|pair| find(&pair)).or_else(|| find(name))
}

/// Paths that lead to the same floor or up.
pub(super) fn check_floors(source: &Source) -> Vec<Finding> {
    let Some((floor, room)) = place(&source.module()) else {
        return found(1, "this module stands on no floor; give it one in the table of floors");
    };
    if room == "lib" {
        return Vec::new();
    }
    source.paths().iter().filter(|path| path.is_local).filter_map(|path| check_path(path, floor, room)).collect()
}

fn check_path(path: &Named, floor: usize, room: &str) -> Option<Finding> {
    let name = path.segments.join("::");
    let Some((target_floor, target_room)) = place(&path.segments).filter(|(_, room)| *room != "lib") else {
        return Some((path.line, format!("`{name}` is named through the crate's root; name the module it lives in")));
    };
    let is_face = matches!(path.segments.as_slice(), [_, item] if item.starts_with(char::is_uppercase));
    let is_allowed = target_room == room
        || target_floor < floor
        || (floor == GROUND && target_floor == GROUND)
        || (floor == SERVICES && target_floor == SERVICES && is_face);
    (!is_allowed).then(|| (path.line, format!("`{room}` (floor {floor}) names `{name}` (floor {target_floor})")))
}

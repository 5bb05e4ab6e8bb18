//! Writes the chart, and the table into a page between two markers.

use std::fs;
use std::path::Path;

use crate::chart;
use crate::results::Comparison;
use crate::table;

const BEGIN: &str = "<!-- comparison: begin -->";
const END: &str = "<!-- comparison: end -->";

/// Writes `chart.svg`, and the table into `README.md`, which is created if it does not exist.
pub(crate) fn write(dir: &Path, comparison: &Comparison) -> Result<(), String> {
    let complain = |error: std::io::Error| format!("cannot write in {}: {error}", dir.display());
    fs::create_dir_all(dir).map_err(complain)?;
    fs::write(dir.join("chart.svg"), chart::svg(comparison)).map_err(complain)?;
    let page = dir.join("README.md");
    let old = fs::read_to_string(&page).unwrap_or_else(|_| format!("{BEGIN}\n{END}\n"));
    let new = replaced(&old, &table::markdown(comparison))
        .ok_or_else(|| format!("{} lacks the markers {BEGIN} and {END}", page.display()))?;
    fs::write(page, new).map_err(complain)
}

fn replaced(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n{}\n{END}{after}",
        table.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_markers_changes() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let expected = format!("a\n{BEGIN}\nnew\n{END}\nb\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), expected);
        assert_eq!(replaced(&expected, "new").unwrap(), expected);
    }

    #[test]
    fn a_page_without_markers_stays_as_it_is() {
        assert_eq!(replaced("a", "new"), None);
    }
}

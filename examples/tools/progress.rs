//! Shows progress on a terminal, for tools that may run for more than a second.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Returns a bar on standard error that counts up to `total`, or a spinner if the total is unknown.
/// Neither is drawn unless standard error is a terminal.
///
/// `what` names the unit, such as `records`. For `bytes`, the bar prints KiB, MiB and so on.
pub(crate) fn bar(total: Option<u64>, what: &str) -> ProgressBar {
    let counts = match (what, total) {
        ("bytes", Some(_)) => "{bar:40} {bytes}/{total_bytes} {bytes_per_sec}".to_owned(),
        ("bytes", None) => "{spinner} {bytes} {bytes_per_sec}".to_owned(),
        (what, Some(_)) => format!("{{bar:40}} {{pos}}/{{len}} {what} {{per_sec}}"),
        (what, None) => format!("{{spinner}} {{pos}} {what} {{per_sec}}"),
    };
    let style = ProgressStyle::with_template(&counts).expect("the template is well formed");
    let bar = total
        .map_or_else(ProgressBar::new_spinner, ProgressBar::new)
        .with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

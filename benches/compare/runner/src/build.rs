//! Builds the programs of the peers.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peers::Peer;

/// A peer with its program, or why there is none.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) peer: &'static Peer,
    pub(crate) program: Result<PathBuf, String>,
}

/// Returns the directory of this workspace.
pub(crate) fn workspace() -> &'static Path {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR"));
    runner.parent().expect("the runner is in the workspace")
}

/// Returns where logs and results are written: next to the programs.
pub(crate) fn target_dir() -> PathBuf {
    profile_dir().join("compare-runs")
}

/// Returns the directory of the programs, which is that of this one.
fn profile_dir() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let dir = program.parent().unwrap_or(Path::new("."));
    // A test is one directory deeper.
    if dir.ends_with("deps") {
        dir.join("..")
    } else {
        dir.to_owned()
    }
}

/// Builds the peers, in the profile of this program. A peer that cannot be built does not end the
/// run.
pub(crate) fn all(peers: &[&'static Peer]) -> Result<Vec<Built>, String> {
    let dir = profile_dir();
    let target = dir.parent().ok_or("the target directory was not found")?;
    let mut built: Vec<Built> = Vec::new();
    for &peer in peers {
        let same = built
            .iter()
            .find(|other| other.peer.package == peer.package);
        let program = if peer.is_kafka() {
            Ok(PathBuf::new())
        } else if let Some(Err(error)) = same.map(|other| &other.program) {
            Err(error.clone())
        } else if same.is_some() {
            Ok(dir.join(format!("compare-{}", peer.binary)))
        } else {
            eprintln!("building {}", peer.name);
            package(peer.package, target).map(|()| dir.join(format!("compare-{}", peer.binary)))
        };
        if let Err(error) = &program {
            eprintln!("{}: {error}", peer.name);
        }
        built.push(Built { peer, program });
    }
    Ok(built)
}

/// Builds the package of a peer. Returns the first line that says why it cannot be built.
fn package(name: &str, target: &Path) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--bins", "--package"])
        .arg(format!("compare-{name}"))
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_TERM_COLOR", "never");
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .output()
        .map_err(|error| format!("could not be built: cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    Err(format!("could not be built: {}", reason(&printed)))
}

/// Returns the line of cargo's output that says what failed.
fn reason(printed: &str) -> String {
    let mut lines = printed.lines().map(str::trim);
    let error = lines
        .find(|line| line.starts_with("error"))
        .unwrap_or("cargo failed");
    // The line that names a package and the version of Rust that it needs comes after the error.
    let detail =
        lines.find(|line| line.contains(" requires rustc ") || line.contains("did not match"));
    match detail {
        Some(detail) => detail.to_owned(),
        None => error.trim_start_matches("error: ").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failed_build_is_its_first_error() {
        let printed = "warning: unused\nerror[E0658]: use of unstable library feature `a`\n  --> src\nerror: b";
        assert_eq!(
            reason(printed),
            "error[E0658]: use of unstable library feature `a`"
        );
    }

    #[test]
    fn the_reason_of_an_old_compiler_names_the_version() {
        let printed = "error: rustc 1.95.0 is not supported by the following packages:\n  \
                       peer@0.7.0 requires rustc 1.98.1\nEither upgrade";
        assert_eq!(reason(printed), "peer@0.7.0 requires rustc 1.98.1");
    }
}

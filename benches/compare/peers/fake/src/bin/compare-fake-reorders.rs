//! A fake peer, a binary for each fault of the library.

fn main() -> std::process::ExitCode {
    compare_fake::run::<{ compare_fake::REORDERS }>()
}

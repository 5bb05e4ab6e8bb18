//! Starts all threads of the crate.
//!
//! The system may refuse a thread because of `ulimit -u`, the limit of a container on processes, or
//! a lack of memory. `std::thread::spawn` then panics. The functions of this module return the
//! refusal, and each caller continues without the thread: see the calls.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Starts a thread that may outlive its caller.
pub(crate) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    check_allowed()?;
    Builder::new().name(name.to_owned()).spawn(work)
}

/// Starts a thread that ends before its scope does.
pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    check_allowed()?;
    Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, work)
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "the one for tests can refuse")]
fn check_allowed() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use refusing::check_allowed;
#[cfg(test)]
pub(crate) use refusing::refuse_threads;

#[cfg(test)]
mod refusing {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static IS_REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `work` while the system refuses every thread that the calling thread starts.
    pub(crate) fn refuse_threads<T>(work: impl FnOnce() -> T) -> T {
        IS_REFUSED.set(true);
        let done = work();
        IS_REFUSED.set(false);
        done
    }

    pub(super) fn check_allowed() -> io::Result<()> {
        if IS_REFUSED.get() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_the_name_that_was_passed() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let name = || std::thread::current().name().map(str::to_owned);
        spawn("annals-test", move || sender.send(name()).unwrap())
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("annals-test"));
        let scoped = std::thread::scope(|scope| {
            spawn_scoped(scope, "annals-scoped", name)
                .unwrap()
                .join()
                .unwrap()
        });
        assert_eq!(scoped.as_deref(), Some("annals-scoped"));
    }

    #[test]
    fn a_refused_thread_is_an_error() {
        let refused = refuse_threads(|| spawn("annals-test", || ()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let refused = refuse_threads(|| {
            std::thread::scope(|scope| spawn_scoped(scope, "annals-test", || ()).is_err())
        });
        assert!(refused);
    }
}

//! The one place that starts threads.
//!
//! A system may refuse a thread: `ulimit -u`, a container's limit on processes, no memory.
//! `std::thread::spawn` panics then. These functions return the refusal, and every caller continues
//! without that thread: see where each is called.

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
#[expect(clippy::unnecessary_wraps, reason = "tests have one that refuses")]
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

    /// Runs `work` on a system that refuses each thread that the calling thread asks for.
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
    fn a_thread_has_its_name() {
        let (tell, told) = std::sync::mpsc::channel();
        let name = || std::thread::current().name().map(str::to_owned);
        spawn("annals-test", move || tell.send(name()).unwrap())
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(told.recv().unwrap().as_deref(), Some("annals-test"));
        let scoped = std::thread::scope(|scope| {
            spawn_scoped(scope, "annals-scoped", name)
                .unwrap()
                .join()
                .unwrap()
        });
        assert_eq!(scoped.as_deref(), Some("annals-scoped"));
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refused = refuse_threads(|| spawn("annals-test", || ()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let refused = refuse_threads(|| {
            std::thread::scope(|scope| spawn_scoped(scope, "annals-test", || ()).is_err())
        });
        assert!(refused);
    }
}

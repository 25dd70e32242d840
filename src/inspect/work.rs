//! Long work of the server: one thread at a time for each kind, which can be stopped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, Result, one_line};
use crate::run::Cancel;

/// The thread that was begun last.
#[derive(Debug, Default)]
pub(super) struct Work(Mutex<Option<(Cancel, JoinHandle<()>)>>);

/// Why work did not come to its end.
#[derive(Debug, PartialEq)]
pub(super) enum Broken {
    /// Somebody asked for it.
    Stopped,
    /// The error with its hint, in one line.
    Failed(String),
}

impl Work {
    /// Begins what `prepare` makes, which is to look at the request to stop.
    ///
    /// # Errors
    /// `Missing` with the words in `busy` while something is at work.
    pub(super) fn begin<W: FnOnce() + Send + 'static>(
        &self,
        busy: &str,
        prepare: impl FnOnce(Cancel) -> Result<W>,
    ) -> Result<()> {
        let mut work = held(&self.0);
        if work.as_ref().is_some_and(|(_, thread)| !thread.is_finished()) {
            return Err(Error::missing(busy, ""));
        }
        let cancel = Cancel::default();
        let prepared = prepare(cancel.clone())?;
        *work = Some((cancel, std::thread::spawn(prepared)));
        Ok(())
    }

    /// Whether it is at work.
    pub(super) fn is_busy(&self) -> bool {
        held(&self.0).as_ref().is_some_and(|(_, thread)| !thread.is_finished())
    }

    /// Asks for the end of the work.
    pub(super) fn stop(&self) {
        if let Some((cancel, _)) = &*held(&self.0) {
            cancel.request();
        }
    }

    /// The same, and waits for it: what is in hand is finished.
    pub(super) fn end(&self) {
        self.stop();
        let work = held(&self.0).take();
        if let Some((_, thread)) = work {
            // Its progress says how it ended.
            let _ = thread.join();
        }
    }
}

/// Does the work; a panic is a failure of this work alone.
pub(super) fn attempt<T>(work: impl FnOnce() -> Result<T>) -> Result<T, Broken> {
    let done = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::internal("the work stopped unexpectedly")));
    done.map_err(|error| match error {
        Error::Interrupted => Broken::Stopped,
        error => {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            Broken::Failed(one_line(&error.to_string()) + &hint)
        }
    })
}

/// The content of a lock, also after a panic of whoever held it.
pub(super) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_thread_is_at_work_until_it_ends_or_is_asked_to() {
        let work = Work::default();
        let until_asked = |cancel: Cancel| {
            Ok(move || {
                while !cancel.requested() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        };
        work.begin("busy", until_asked).unwrap();
        assert!(work.is_busy());
        assert!(work.begin("busy", until_asked).unwrap_err().to_string().contains("busy"));
        work.end();
        assert!(!work.is_busy());
        let refused = work.begin("busy", |_| Err::<fn(), _>(Error::internal("no")));
        assert!(refused.is_err() && !work.is_busy());
    }

    #[test]
    fn work_that_breaks_off_says_how() {
        assert_eq!(attempt(|| Ok(1)), Ok(1));
        assert_eq!(attempt(|| Err::<(), _>(Error::Interrupted)), Err(Broken::Stopped));
        let failed = attempt(|| Err::<(), _>(Error::missing("nothing there", "look elsewhere")));
        assert_eq!(failed, Err(Broken::Failed("nothing there (look elsewhere)".into())));
        assert!(matches!(attempt(|| -> Result<()> { panic!("!") }), Err(Broken::Failed(_))));
    }
}

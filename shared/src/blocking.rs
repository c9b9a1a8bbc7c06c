//! Work that blocks, and work that goes on without whoever asked for it, beside a runtime that may end at any time.

use std::future;
use std::panic;

use tokio::task::{self, JoinHandle};

/// Runs what blocks on a thread that may, and gives what it gives; a panic of it goes on in the caller. Where the
/// runtime ends first, this never returns: whoever waits is about to be dropped.
///
/// # Panics
/// Outside a runtime.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(task::spawn_blocking(work)).await
}

/// Runs it to its end also where the caller goes away; otherwise as [`run`].
///
/// # Panics
/// Outside a runtime.
pub async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    joined(task::spawn(work)).await
}

async fn joined<T>(handle: JoinHandle<T>) -> T {
    match handle.await {
        Ok(given) => given,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // Nobody else cancels it. A worker can be amid the caller's poll when the runtime ends.
            Err(_) => future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn it_gives_what_the_work_gives() {
        assert_eq!(runtime().block_on(run(|| 7)), 7);
        assert_eq!(runtime().block_on(to_its_end(async { 7 })), 7);
    }

    #[test]
    fn a_panic_goes_on_in_the_caller() {
        let ended = panic::catch_unwind(|| runtime().block_on(run(|| panic!("as the work did"))));
        assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"as the work did"));
    }

    #[test]
    fn work_goes_on_where_nobody_waits_for_it() {
        let ended = runtime().block_on(async {
            let (done, is_done) = oneshot::channel();
            {
                let mut asked = pin!(to_its_end(async move { done.send(()) }));
                assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            is_done.await
        });
        assert_eq!(ended, Ok(()));
    }

    #[test]
    fn at_the_end_of_the_runtime_it_waits_and_does_not_panic() {
        let runtime = runtime();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        let (work, of_work) = mpsc::channel::<()>();
        let mut waiting = pin!(run(move || drop(work)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        // What was to be done is thrown away, and will never be.
        assert!(of_work.recv().is_err());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
    }
}

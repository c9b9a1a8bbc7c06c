//! Who watches the status page: each gets every snapshot, as server-sent events. One snapshot is made at a time for all
//! of them, and none where nobody watches. Whoever does not take what is sent is let go of, and holds up nobody.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Watchers at a time: a page each.
pub(crate) const WATCHERS_MAX: usize = 32;
/// Snapshots that wait for one watcher, beside what sockets hold.
const WAITING_MAX: usize = 2;
/// From one snapshot to the next.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How soon a browser comes again whose stream ended, in milliseconds.
const COME_AGAIN: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// What makes snapshots.
pub(crate) trait Source: Send + Sync + 'static {
    /// One JSON text without line breaks.
    fn snapshot(&self) -> impl Future<Output = Vec<u8>> + Send;
}

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNow {
    Full,
    /// This process ends.
    Over,
}

/// All that watch.
pub(crate) struct Watchers<S> {
    source: S,
    tick: Duration,
    crowd: Mutex<Crowd>,
}

#[derive(Default)]
struct Crowd {
    waiting: Vec<mpsc::Sender<Bytes>>,
    /// What was sent last, for who comes in between.
    last: Option<Bytes>,
    is_ticking: bool,
    is_over: bool,
}

impl Crowd {
    fn forget_gone(&mut self) {
        self.waiting.retain(|watcher| !watcher.is_closed());
    }
}

impl<S: Source> Watchers<S> {
    pub(crate) fn new(source: S, tick: Duration) -> Arc<Self> {
        Arc::new(Self { source, tick, crowd: Mutex::default() })
    }

    /// A stream of snapshots for one more. Within a runtime.
    ///
    /// # Errors
    /// There are as many as may be, or the process ends.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<Body, NotNow> {
        let mut crowd = self.crowd();
        if crowd.is_over {
            return Err(NotNow::Over);
        }
        crowd.forget_gone();
        if crowd.waiting.len() >= WATCHERS_MAX {
            return Err(NotNow::Full);
        }
        let (watcher, mut snapshots) = mpsc::channel(1 + WAITING_MAX);
        let first = [COME_AGAIN].into_iter().chain(crowd.last.clone());
        first.for_each(|event| watcher.try_send(event).expect("it has room for what is first"));
        crowd.waiting.push(watcher);
        if !std::mem::replace(&mut crowd.is_ticking, true) {
            tokio::spawn(Arc::clone(self).send_snapshots());
        }
        drop(crowd);
        let events = stream::poll_fn(move |context| {
            snapshots.poll_recv(context).map(|event| event.map(Ok::<_, Infallible>))
        });
        Ok(Body::from_stream(events))
    }

    /// Ends all streams, and begins none any more.
    pub(crate) fn end(&self) {
        let mut crowd = self.crowd();
        crowd.is_over = true;
        crowd.waiting.clear();
    }

    /// For as long as somebody watches.
    async fn send_snapshots(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.is_deserted() {
                return;
            }
            let event = event(&self.source.snapshot().await);
            let mut crowd = self.crowd();
            crowd.last = Some(event.clone());
            crowd.waiting.retain(|watcher| watcher.try_send(event.clone()).is_ok());
        }
    }

    fn is_deserted(&self) -> bool {
        let mut crowd = self.crowd();
        crowd.forget_gone();
        let is_deserted = crowd.waiting.is_empty();
        if is_deserted {
            (crowd.is_ticking, crowd.last) = (false, None);
        }
        is_deserted
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().expect("nobody panics while holding the crowd")
    }
}

fn event(snapshot: &[u8]) -> Bytes {
    [b"data: ", snapshot, b"\n\n"].concat().into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(5);
    const LIMIT: Duration = Duration::from_secs(20);

    /// Counts what is asked of it.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Source for Arc<Counting> {
        async fn snapshot(&self) -> Vec<u8> {
            format!("{{\"n\":{}}}", self.0.fetch_add(1, Ordering::SeqCst)).into_bytes()
        }
    }

    fn watchers() -> (Arc<Counting>, Arc<Watchers<Arc<Counting>>>) {
        let source = Arc::<Counting>::default();
        (Arc::clone(&source), Watchers::new(source, SHORT))
    }

    async fn next(body: &mut Body) -> Option<String> {
        let frame = timeout(LIMIT, body.frame()).await.expect("there is news in time")?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    }

    async fn until(what: impl Fn() -> bool) {
        let waited = async {
            while !what() {
                tokio::time::sleep(SHORT).await;
            }
        };
        timeout(LIMIT, waited).await.expect("it comes to be so");
    }

    #[tokio::test]
    async fn all_get_the_same_snapshots_and_nobody_gets_none_made() {
        let (source, watchers) = watchers();
        assert_eq!(source.0.load(Ordering::SeqCst), 0);
        let (mut one, mut other) = (watchers.watch().unwrap(), watchers.watch().unwrap());
        for body in [&mut one, &mut other] {
            assert_eq!(next(body).await.unwrap(), "retry: 1000\n\n");
            assert_eq!(next(body).await.unwrap(), "data: {\"n\":0}\n\n");
        }
        drop((one, other));
        until(|| !watchers.crowd().is_ticking).await;
        let made = source.0.load(Ordering::SeqCst);
        tokio::time::sleep(SHORT * 10).await;
        assert_eq!(source.0.load(Ordering::SeqCst), made, "nobody watches");
        // It begins again with the next.
        let mut again = watchers.watch().unwrap();
        next(&mut again).await.unwrap();
        assert_eq!(next(&mut again).await.unwrap(), format!("data: {{\"n\":{made}}}\n\n"));
    }

    #[tokio::test]
    async fn there_are_so_many_and_no_more() {
        let (_, watchers) = watchers();
        let mut bodies: Vec<_> = (0..WATCHERS_MAX).map(|_| watchers.watch().unwrap()).collect();
        assert_eq!(watchers.watch().err(), Some(NotNow::Full));
        bodies.pop();
        assert!(watchers.watch().is_ok(), "one went, one comes");
    }

    #[tokio::test]
    async fn who_takes_nothing_is_let_go_of_and_others_go_on() {
        let (source, watchers) = watchers();
        let (mut slow, mut quick) = (watchers.watch().unwrap(), watchers.watch().unwrap());
        while source.0.load(Ordering::SeqCst) < 2 * WAITING_MAX + 4 {
            next(&mut quick).await.unwrap();
        }
        until(|| watchers.crowd().waiting.len() == 1).await;
        let mut got = 0;
        while next(&mut slow).await.is_some() {
            got += 1;
        }
        assert_eq!(got, 1 + WAITING_MAX, "what had waited, and the end");
        assert!(next(&mut quick).await.is_some());
    }

    #[tokio::test]
    async fn all_streams_end_with_the_process() {
        let (_, watchers) = watchers();
        let mut body = watchers.watch().unwrap();
        next(&mut body).await.unwrap();
        watchers.end();
        while next(&mut body).await.is_some() {}
        assert_eq!(watchers.watch().err(), Some(NotNow::Over));
        assert!(body.frame().now_or_never().is_some_and(|frame| frame.is_none()));
    }
}

//! One download: from the coordinator to the last byte, through redirections, breaks that are wanted, and breaks that are
//! not.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use super::answer::Progress;
use super::asking::{ApiAnswer, Asked};
use crate::fault::Fault;
use crate::http::{Exchange, Pace, Url};
use crate::outcome::{End, Outcome};
use crate::plan::Task;
use crate::scenario::{Kind, Via};

/// Coordinator, edge, and as often again as an edge may send a token on.
const REDIRECTIONS_MAX: usize = 12;

/// Where an attempt begins.
enum Start {
    /// At the coordinator, or the server that is asked directly.
    Anew,
    /// At the coordinator's exchange of tokens, with the last edge's.
    Renewed,
}

/// What an attempt has seen on its way.
struct Way {
    /// The last server that was asked.
    server: Option<Rc<str>>,
    url: Option<Url>,
    /// When the first answer came that sent the client to an edge.
    asked: Option<Instant>,
}

impl Worker {
    /// Downloads as a task says. `intended` is when it should have begun, which it did by now.
    pub(super) async fn download(&self, task: &Task, intended: Instant) -> Outcome {
        let begun = Instant::now();
        let checked = self.scenario.files.group(task.file).checked(task.file);
        let mut progress = Progress::new(task, checked, &self.known, &self.board.received);
        let mut way = Way { server: None, url: None, asked: None };
        let (mut tries_left, mut start) = (self.scenario.client.tries, Start::Anew);
        let mut breaks = Vec::new();
        let mut parts = 0;
        let end = loop {
            parts += 1;
            let attempted = self.attempt(&mut progress, &start, &mut way).await;
            match attempted {
                Ok(()) if progress.is_complete() => break End::Complete,
                Ok(()) if progress.takes_stop() => match task.wanted.kind {
                    Kind::Abort => break End::BrokenOff,
                    Kind::Renew => start = Start::Renewed,
                    _ => start = Start::Anew,
                },
                // A body that ends with its connection, before its time.
                Ok(()) => break End::Failed(Fault::NotHttp("the body has no length and ended short")),
                Err(fault) => {
                    // What was kept may be what does not work.
                    self.urls.borrow_mut().remove(&task.file);
                    self.links.borrow_mut().remove(&task.file);
                    if fault.is_wrong() || tries_left <= 1 {
                        break End::Failed(fault);
                    }
                    tries_left -= 1;
                    breaks.push(fault.reason());
                    start = Start::Anew;
                    tokio::time::sleep(self.scenario.client.pause).await;
                }
            }
        };
        let since = |moment: Instant| moment.saturating_duration_since(begun);
        Outcome {
            kind: task.wanted.kind,
            file: task.file,
            intended,
            asked: way.asked.map(since),
            first_byte: progress.first_byte.map(|moment| moment.saturating_duration_since(intended)),
            ended: Instant::now(),
            server: way.server,
            parts,
            breaks,
            end,
        }
    }

    /// From the first request to the end of an answer, or to where the client breaks off.
    async fn attempt(&self, progress: &mut Progress<'_>, start: &Start, way: &mut Way) -> Result<(), Fault> {
        let asked_before = way.asked;
        let mut asked = self.first_request(progress, start, way).await?;
        let mut pace = progress.task.wanted.rate.map(Pace::new);
        for _ in 0..REDIRECTIONS_MAX {
            let mut answer = progress.answer(&asked.url);
            let exchange = Exchange { server: &asked.url.server, request: asked.request.as_bytes() };
            // Noted first: it is whose fault it would be.
            way.server = Some(Rc::clone(&asked.url.server));
            self.pool.exchange(&exchange, &mut answer, pace.as_mut()).await?;
            let Some(url) = answer.outcome()? else {
                self.remember(progress.task, way);
                return Ok(());
            };
            if asked_before.is_none() {
                way.asked.get_or_insert_with(Instant::now);
            }
            asked = self.asking.plain(&url, &progress.fields());
            way.url = Some(url);
        }
        Err(Fault::Redirections(REDIRECTIONS_MAX))
    }

    async fn first_request(
        &self,
        progress: &Progress<'_>,
        start: &Start,
        way: &mut Way,
    ) -> Result<Asked, Fault> {
        let (task, fields) = (progress.task, progress.fields());
        let turn = self.turn();
        let token = way.url.as_ref().and_then(|url| url.parameter("token"));
        if let (Start::Renewed, Some(token)) = (start, token) {
            return Ok(self.asking.renewal(turn, token, &fields));
        }
        if let Some(url) = self.remembered(task) {
            let asked = self.asking.plain(&url, &fields);
            way.url = Some(url);
            return Ok(asked);
        }
        let file_id = self.scenario.files.name(task.file);
        if let Some(url) = self.asking.direct(&file_id) {
            return Ok(self.asking.plain(&url, &fields));
        }
        let url = match self.asking.via() {
            Via::Redirect => return Ok(self.asking.redirect(turn, &file_id, task.user, &fields)),
            Via::Api => {
                let url = self.call(&self.asking.offer(turn, &file_id, task.user), "download_url").await?;
                way.asked.get_or_insert_with(Instant::now);
                url
            }
            Via::Link => {
                let known = self.links.borrow().get(&task.file).cloned();
                match known {
                    Some(link) => link,
                    None => {
                        let link = self.call(&self.asking.link(turn, &file_id, task.user), "link").await?;
                        self.links.borrow_mut().insert(task.file, link.clone());
                        link
                    }
                }
            }
        };
        let asked = self.asking.plain(&url, &fields);
        way.url = Some(url);
        Ok(asked)
    }

    /// A call of the API whose answer has a URL.
    async fn call(&self, asked: &Asked, member: &str) -> Result<Url, Fault> {
        let mut answer = ApiAnswer::default();
        let exchange = Exchange { server: &asked.url.server, request: asked.request.as_bytes() };
        self.pool.exchange(&exchange, &mut answer, None).await?;
        self.asking.url_of(answer.body()?, member)
    }

    /// Keeps an edge's URL for the next download of the file, if the scenario has it so.
    fn remember(&self, task: &Task, way: &Way) {
        let reuse = self.scenario.client.reuse;
        if reuse > Duration::ZERO
            && let Some(url) = &way.url
        {
            let until = Instant::now() + reuse;
            self.urls.borrow_mut().entry(task.file).or_insert_with(|| (url.clone(), until));
        }
    }

    fn remembered(&self, task: &Task) -> Option<Url> {
        if self.scenario.client.reuse.is_zero() {
            return None;
        }
        let mut urls = self.urls.borrow_mut();
        let (url, until) = urls.get(&task.file)?;
        if *until > Instant::now() {
            return Some(url.clone());
        }
        urls.remove(&task.file);
        None
    }
}

//! `links`: those that the admin API makes.

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::plain::{plain, plain_json};
use crate::{Format, Session, output};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a timed link, as the other system would. Who has it can download until it expires.
    Timed(Timed),
}

#[derive(clap::Args, Serialize)]
pub(crate) struct Timed {
    /// Whom it is for.
    #[arg(long, value_name = "NAME")]
    to_user: String,
    /// Which file; without it the one of the coordinator's `[timed]` section.
    #[arg(long, value_name = "F")]
    file_id: Option<String>,
}

#[derive(Deserialize)]
struct Link {
    link: String,
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let Self::Timed(asked) = self;
        let body = serde_json::to_string(&asked).expect("texts serialize");
        let answer = session.coordinator.post("/admin/v1/timed-links", body)?;
        let text = match session.format {
            Format::Json => plain_json(answer.json()),
            Format::Table => plain(&answer.read::<Link>()?.link),
        };
        output::print(&text).map_err(Fault::Output)
    }
}

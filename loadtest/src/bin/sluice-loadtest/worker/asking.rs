//! The requests that lead to a file: to a coordinator, under whatever scheme, or straight to a server. Only the first
//! request of a chain carries a caller's credentials.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sluice_loadtest::caller::{self, Caller};
use sluice_shared::token::sealed::SealedCalls;

use super::answer::shown;
use crate::fault::Fault;
use crate::http::{Flow, Head, Sink, Url, percent_encoded};
use crate::scenario::{Client, Credentials, Via};

/// The API's answers are far smaller.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Stands for the file's id in the URL of a server that is asked directly.
const FILE: &str = "{file}";

/// Who is asked first.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// `http://host:port` each; asked in turn.
    Coordinators(Vec<String>),
    /// A URL, with `{file}` in the file's place.
    Server(String),
}

impl Target {
    /// For a report: without what may be a token.
    pub(crate) fn shown(&self) -> Vec<String> {
        match self {
            Self::Coordinators(urls) => urls.clone(),
            Self::Server(url) => vec![url.split('?').next().unwrap_or_default().to_owned()],
        }
    }
}

/// Makes requests of one thread.
pub(super) struct Asking {
    coordinators: Vec<Url>,
    server: Option<String>,
    via: Via,
    caller: AnyCaller,
    /// Fields of every request.
    usual: &'static str,
}

enum AnyCaller {
    Open,
    Signature(Caller),
    AppJwt { app_key: String, secret: String },
    Sealed { calls: SealedCalls, api_secret: String },
}

/// What is sent, and where.
pub(super) struct Asked {
    pub(super) url: Url,
    pub(super) request: String,
}

impl Asking {
    pub(super) fn new(target: &Target, credentials: &Credentials, client: &Client) -> anyhow::Result<Self> {
        let parse = |url: &String| {
            Url::parse(url).ok_or_else(|| anyhow::anyhow!("{url} is no URL; write http://host:port"))
        };
        let (coordinators, server) = match target {
            Target::Coordinators(urls) => (urls.iter().map(parse).collect::<Result<_, _>>()?, None),
            Target::Server(template) => {
                parse(&template.replace(FILE, "file"))?;
                (Vec::new(), Some(template.clone()))
            }
        };
        let caller = match credentials {
            Credentials::Open => AnyCaller::Open,
            Credentials::Signature { access_key, secret } => {
                AnyCaller::Signature(Caller::new("", access_key, secret.reveal()))
            }
            Credentials::AppJwt { access_key, secret } => {
                AnyCaller::AppJwt { app_key: access_key.clone(), secret: secret.reveal().to_owned() }
            }
            Credentials::Sealed { encryption_key, api_secret } => AnyCaller::Sealed {
                calls: SealedCalls::new(encryption_key.reveal(), api_secret.reveal())?,
                api_secret: api_secret.reveal().to_owned(),
            },
        };
        let usual = if client.keep_alive { "" } else { "Connection: close\r\n" };
        Ok(Self { coordinators, server, via: client.via, caller, usual })
    }

    /// The URL of a server that is asked directly, if one is.
    pub(super) fn direct(&self, file_id: &str) -> Option<Url> {
        Url::parse(&self.server.as_ref()?.replace(FILE, &percent_encoded(file_id)))
    }

    pub(super) fn via(&self) -> Via {
        self.via
    }

    fn coordinator(&self, turn: usize) -> &Url {
        &self.coordinators[turn % self.coordinators.len()]
    }

    /// Any request without credentials.
    pub(super) fn plain(&self, url: &Url, fields: &str) -> Asked {
        let request =
            format!("GET {} HTTP/1.1\r\nHost: {}\r\n{}{fields}\r\n", url.target, url.host(), self.usual);
        Asked { url: url.clone(), request }
    }

    /// `GET /download/F`.
    pub(super) fn redirect(&self, turn: usize, file_id: &str, user: u32, fields: &str) -> Asked {
        let target = format!("/download/{}?user_id=user-{user}", percent_encoded(file_id));
        self.call("GET", self.coordinator(turn), &target, "", fields)
    }

    /// `/api/request-download`, or its sealed form.
    pub(super) fn offer(&self, turn: usize, file_id: &str, user: u32) -> Asked {
        let coordinator = self.coordinator(turn);
        if let AnyCaller::Sealed { calls, api_secret } = &self.caller {
            let asked = json!({ "file_id": file_id, "user_id": format!("user-{user}") });
            let body = caller::sealed_call(calls, api_secret, &asked).to_string();
            return self.call("POST", coordinator, "/api/secure/request-download", &body, "");
        }
        let target =
            format!("/api/request-download?file_id={}&user_id=user-{user}", percent_encoded(file_id));
        self.call("GET", coordinator, &target, "", "")
    }

    /// `POST /api/links`.
    pub(super) fn link(&self, turn: usize, file_id: &str, user: u32) -> Asked {
        let body = json!({ "file_id": file_id, "user_id": format!("user-{user}") }).to_string();
        self.call("POST", self.coordinator(turn), "/api/links", &body, "")
    }

    /// `GET /renew`.
    pub(super) fn renewal(&self, turn: usize, token: &str, fields: &str) -> Asked {
        let url = self.coordinator(turn).with_target(format!("/renew?token={token}"));
        self.plain(&url, fields)
    }

    /// The URL in an answer to `offer` or `link`.
    pub(super) fn url_of(&self, answer: &[u8], member: &str) -> Result<Url, Fault> {
        let wrong = |what: &str| Fault::NoOffer(what.to_owned());
        let parse = |bytes: &[u8]| -> Result<Value, Fault> {
            serde_json::from_slice(bytes).map_err(|_| wrong("it is no JSON"))
        };
        let mut json = parse(answer)?;
        if let AnyCaller::Sealed { calls, .. } = &self.caller {
            let data = json["data"].as_str().ok_or_else(|| wrong("it has no `data`"))?;
            json = parse(&calls.open(data).ok_or_else(|| wrong("it is sealed with another key"))?)?;
        }
        let url = json[member].as_str().and_then(Url::parse);
        url.ok_or_else(|| wrong(&format!("it has no http URL as `{member}`")))
    }

    fn call(&self, method: &str, coordinator: &Url, target: &str, body: &str, fields: &str) -> Asked {
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{}{fields}", coordinator.host(), self.usual);
        let mut add = |name: &str, value: &str| {
            let _ = write!(request, "{name}: {value}\r\n");
        };
        match &self.caller {
            AnyCaller::Open | AnyCaller::Sealed { .. } => {}
            AnyCaller::Signature(caller) => {
                for (name, value) in caller.fields(&caller.sign(method, target, body)) {
                    add(name, &value);
                }
            }
            AnyCaller::AppJwt { app_key, secret } => {
                add("AppKey", app_key);
                add("Authorization", &format!("Bearer {}", caller::app_jwt(secret)));
            }
        }
        if !body.is_empty() {
            add("Content-Type", "application/json");
            add("Content-Length", &body.len().to_string());
        }
        request += "\r\n";
        request += body;
        Asked { url: coordinator.with_target(target.to_owned()), request }
    }
}

/// An answer of the API, kept whole.
#[derive(Default)]
pub(crate) struct ApiAnswer {
    status: u16,
    body: Vec<u8>,
}

impl ApiAnswer {
    /// The body of a 200 or 201.
    ///
    /// # Errors
    /// It is neither.
    pub(crate) fn body(&self) -> Result<&[u8], Fault> {
        match self.status {
            200 | 201 => Ok(&self.body),
            status => Err(Fault::Status { status, said: shown(&self.body) }),
        }
    }
}

impl Sink for ApiAnswer {
    fn head(&mut self, head: &Head<'_>) -> Result<(), Fault> {
        self.status = head.status;
        Ok(())
    }

    fn body(&mut self, bytes: &[u8]) -> Result<Flow, Fault> {
        if self.body.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err(Fault::NoOffer("it is too long".to_owned()));
        }
        self.body.extend_from_slice(bytes);
        Ok(Flow::GoOn)
    }
}

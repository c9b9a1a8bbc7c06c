//! One call of a coordinator's admin API. It bounds time and bytes; what the answer means is its caller's.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use sluice_shared::bearer;
use sluice_shared::units::BaseUrl;

use crate::fault::{Doubt, Fault};

/// From the call to the answer's end, name resolution and connecting included.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer lists all clients, whose file has at most 16 MiB.
const BODY_BYTES_MAX: usize = 64 << 20;

pub(crate) struct Coordinator {
    url: BaseUrl,
    token_file: PathBuf,
    authorization: HeaderValue,
}

/// An answer of success: no body, or JSON.
pub(crate) struct Answer {
    url: BaseUrl,
    status: StatusCode,
    body: Bytes,
}

impl Coordinator {
    /// # Errors
    /// The token file is missing, exposed, or its first line has no token.
    pub(crate) fn new(url: BaseUrl, token_file: &Path) -> Result<Self, Fault> {
        let token = bearer::first_token(token_file).map_err(Fault::TokenFile)?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
            .map_err(|_| Fault::TokenText(token_file.to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self { url, token_file: token_file.to_owned(), authorization })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, Fault> {
        self.call(Method::GET, path, String::new())
    }

    pub(crate) fn post(&self, path: &str, body: String) -> Result<Answer, Fault> {
        self.call(Method::POST, path, body)
    }

    pub(crate) fn put(&self, path: &str, body: String) -> Result<Answer, Fault> {
        self.call(Method::PUT, path, body)
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Answer, Fault> {
        self.call(Method::DELETE, path, String::new())
    }

    /// `path` begins with a slash, and what it is made of is percent-encoded.
    fn call(&self, method: Method, path: &str, body: String) -> Result<Answer, Fault> {
        let doubt = if method == Method::GET { Doubt::None } else { Doubt::Change };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a base URL and an encoded path are a URI");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken_off(&error, doubt))?;
        let exchange = async { tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(request, doubt)).await };
        let answered = runtime.block_on(exchange);
        // A name that is still being resolved is not waited for.
        runtime.shutdown_background();
        let (status, body) = answered.map_err(|_| Fault::NoAnswer { url: self.url.clone(), doubt })??;
        self.judge(status, body, doubt)
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        doubt: Doubt,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        let response = client.request(request).await.map_err(|error| {
            if error.is_connect() {
                Fault::Unreachable { url: self.url.clone(), cause: root_of(&error) }
            } else {
                self.broken_off(&error, doubt)
            }
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| self.broken_off(&*error, doubt))?.to_bytes()))
    }

    fn broken_off(&self, error: &(dyn Error + 'static), doubt: Doubt) -> Fault {
        Fault::BrokenOff { url: self.url.clone(), cause: root_of(error), doubt }
    }

    fn judge(&self, status: StatusCode, body: Bytes, doubt: Doubt) -> Result<Answer, Fault> {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        let url = self.url.clone();
        let is_whole = |body: &[u8]| body.is_empty() || serde_json::from_slice::<IgnoredAny>(body).is_ok();
        if status.is_success() && is_whole(&body) {
            return Ok(Answer { url, status, body });
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(_) if status == StatusCode::UNAUTHORIZED => {
                Err(Fault::UnknownToken { url, file: self.token_file.clone() })
            }
            // Lists are on every admin port: this is another one, such as the port for clients.
            Ok(_) if status == StatusCode::NOT_FOUND && doubt == Doubt::None => {
                Err(Fault::Foreign { url, status })
            }
            Ok(problem) if status == StatusCode::CONFLICT => Err(Fault::Conflict { detail: problem.detail }),
            Ok(problem) if !status.is_success() => Err(Fault::Refused { detail: problem.detail }),
            _ => Err(Fault::Foreign { url, status }),
        }
    }
}

impl Answer {
    /// The JSON as it came; empty where there is no body.
    pub(crate) fn json(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Fault::Foreign { url: self.url.clone(), status: self.status })
    }
}

/// What lies at the ground of an error: "Connection refused", not "client error".
fn root_of(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

//! Every call of the API: its path and methods, what it takes, what it answers, and the steps that it can fail at.

use utoipa::openapi::Required;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::ObjectBuilder;

use super::answers::{self, Answer};
use super::callers::{self, Who};
use super::faults::{self, Step};
use super::{Offered, schemas};
use crate::config::SchemeName;
use crate::error::ApiError;
use crate::router;

/// A call; one that is made by GET may be made by HEAD.
pub(super) struct Call {
    /// As the router has it.
    path: &'static str,
    method: HttpMethod,
    id: &'static str,
    summary: &'static str,
    who: Who,
    parameters: Vec<Parameter>,
    body: Option<&'static str>,
    answer: Answer,
    steps: Vec<Step>,
}

/// The calls that a configuration has.
pub(super) fn of(offered: &Offered) -> Vec<Call> {
    let mut calls = vec![
        request_download(),
        download(),
        create_link(),
        revoke_link(),
        redeem_link(),
        renew(),
        told("document", router::DOCUMENT, "This document", Answer::Document),
    ];
    if offered.has_timed {
        calls.push(timed());
    }
    if offered.has(SchemeName::Sealed) {
        calls.push(sealed());
        calls.push(told(
            "security-info",
            router::SECURITY_INFO,
            "What sealed calls are made of",
            Answer::SecurityInfo,
        ));
    }
    calls
}

fn request_download() -> Call {
    use Step::*;
    Call {
        path: router::REQUEST_DOWNLOAD,
        method: HttpMethod::Get,
        id: "request-download",
        summary: "Where a file is, with up to three complete URLs",
        who: Who::Callers,
        parameters: vec![
            parameter("file_id", ParameterIn::Query, Required::True, schemas::file_id()),
            parameter("user_id", ParameterIn::Query, Required::True, schemas::user_id()),
        ],
        body: None,
        answer: Answer::Links,
        steps: vec![
            ComeWithoutBody,
            ReadQuery,
            Need("file_id"),
            Need("user_id"),
            NameFile,
            NameUser,
            Authenticate,
            AskForFile,
            Locate,
            Mint,
        ],
    }
}

fn download() -> Call {
    use Step::*;
    Call {
        path: router::DOWNLOAD,
        method: HttpMethod::Get,
        id: "download",
        summary: "To a file",
        who: Who::CallersOrPublic,
        parameters: vec![
            parameter("file_id", ParameterIn::Path, Required::True, schemas::file_id()),
            parameter("user_id", ParameterIn::Query, Required::False, schemas::user_id()),
        ],
        body: None,
        answer: Answer::Negotiated,
        steps: vec![ComeWithoutBody, ReadQuery, NameFile, NameUser, Authenticate, AskForFile, Locate, Mint],
    }
}

fn create_link() -> Call {
    use Step::*;
    Call {
        path: router::LINKS,
        method: HttpMethod::Post,
        id: "create-link",
        summary: "A durable link",
        who: Who::Callers,
        parameters: vec![],
        body: Some(schemas::NEW_LINK),
        answer: Answer::Created,
        steps: vec![ReadBody, Authenticate, ReadFields, AskForFile, Mint, Remember],
    }
}

fn revoke_link() -> Call {
    use Step::*;
    let id = schemas::text("The link's `id`.").min_length(Some(1));
    Call {
        path: router::LINK,
        method: HttpMethod::Delete,
        id: "revoke-link",
        summary: "Takes a link back, for its maker",
        who: Who::Callers,
        parameters: vec![parameter("id", ParameterIn::Path, Required::True, id)],
        body: None,
        answer: Answer::Revoked,
        steps: vec![ComeWithoutBody, Authenticate, FindLink, Remember, TellEdges],
    }
}

fn redeem_link() -> Call {
    use Step::*;
    let ticket = schemas::text("What follows `/d/` in a link.").min_length(Some(1));
    Call {
        path: router::TICKET,
        method: HttpMethod::Get,
        id: "redeem-link",
        summary: "To a link's file",
        who: Who::Anybody,
        parameters: vec![parameter("ticket", ParameterIn::Path, Required::True, ticket)],
        body: None,
        answer: Answer::Negotiated,
        steps: vec![ComeWithoutBody, OpenLink, CheckLink, Locate, Remember, Mint],
    }
}

fn renew() -> Call {
    use Step::*;
    let token = schemas::text("A token that lives, or whose link does.");
    let not = schemas::text("The id of an edge not to be sent to.");
    Call {
        path: router::RENEW,
        method: HttpMethod::Get,
        id: "renew",
        summary: "To the same file with another token",
        who: Who::Anybody,
        parameters: vec![
            parameter("token", ParameterIn::Query, Required::True, token),
            parameter("not", ParameterIn::Query, Required::False, not),
        ],
        body: None,
        answer: Answer::Redirection,
        steps: vec![ComeWithoutBody, ReadQuery, Need("token"), OpenToken, CheckLink, Locate, Remember, Mint],
    }
}

fn timed() -> Call {
    use Step::*;
    let token = schemas::text("What another system signed (itsdangerous).").min_length(Some(1));
    Call {
        path: router::TIMED,
        method: HttpMethod::Get,
        id: "timed-link",
        summary: "To a timed link's file",
        who: Who::Anybody,
        parameters: vec![parameter("token", ParameterIn::Path, Required::True, token)],
        body: None,
        answer: Answer::Redirection,
        steps: vec![ComeWithoutBody, OpenTimed, NameFile, Locate, Mint],
    }
}

fn sealed() -> Call {
    use Step::*;
    Call {
        path: router::SEALED,
        method: HttpMethod::Post,
        id: "sealed-request-download",
        summary: "Where a file is; sealed both ways",
        who: Who::Anybody,
        parameters: vec![],
        body: Some(schemas::SEALED_CALL),
        answer: Answer::Sealed,
        steps: vec![ReadBody, ReadFields, OpenSealed, Remember, NameFile, NameUser, Locate, Mint],
    }
}

/// What is told to anybody.
fn told(id: &'static str, path: &'static str, summary: &'static str, answer: Answer) -> Call {
    Call {
        path,
        method: HttpMethod::Get,
        id,
        summary,
        who: Who::Anybody,
        parameters: vec![],
        body: None,
        answer,
        steps: vec![Step::ComeWithoutBody],
    }
}

fn parameter(name: &str, place: ParameterIn, required: Required, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema)).build()
}

impl Call {
    pub(super) fn add_to(&self, paths: PathsBuilder, offered: &Offered) -> PathsBuilder {
        // OpenAPI has no wildcards: a file id's slashes are escaped there, which is the same to the router.
        let path = self.path.replace("{*", "{");
        let item = PathItem::new(self.method.clone(), self.operation(offered, true));
        let paths = paths.path(path.clone(), item);
        if self.method != HttpMethod::Get {
            return paths;
        }
        paths.path(path, PathItem::new(HttpMethod::Head, self.operation(offered, false)))
    }

    /// What it can fail with, an error of each kind.
    pub(super) fn errors(&self, offered: &Offered) -> Vec<ApiError> {
        self.steps.iter().flat_map(|step| step.errors(offered)).collect()
    }

    /// Answers to HEAD have no content.
    fn operation(&self, offered: &Offered, has_content: bool) -> Operation {
        let has_pace = offered.has_clients() && self.steps.contains(&Step::Authenticate);
        let request_id = callers::header(
            answers::X_REQUEST_ID,
            schemas::text(
                "The call's name in the logs: 1 to 64 of `A-Z a-z 0-9 . _ -`; others are replaced.",
            )
            .build(),
        );
        let parameters =
            self.parameters.iter().cloned().chain(self.who.parameters(offered)).chain([request_id]);
        let id = if has_content { self.id.to_owned() } else { format!("{}-head", self.id) };
        let mut operation = OperationBuilder::new()
            .operation_id(Some(id))
            .summary(Some(self.summary))
            .parameters(Some(parameters))
            .request_body(self.body.map(body))
            .response(self.answer.status().as_str(), self.answer.described(has_content, has_pace));
        if self.answer == Answer::Negotiated {
            let metalink = Answer::Metalink.described(has_content, has_pace);
            operation = operation.response(Answer::Metalink.status().as_str(), metalink);
        }
        for (status, answer) in faults::answers(self.errors(offered), has_content) {
            operation = operation.response(status.as_str(), answer);
        }
        // The empty list would take away a requirement of the whole document, which has none.
        let ways = self.who.requirements(offered);
        if !ways.is_empty() {
            operation = operation.securities(Some(ways));
        }
        operation.build()
    }
}

fn body(schema: &str) -> RequestBody {
    let content = ContentBuilder::new().schema(Some(schemas::named(schema)));
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", content.build())
        .build()
}

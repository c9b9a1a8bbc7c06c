use std::collections::BTreeSet;

use axum::response::IntoResponse;
use utoipa::openapi::Schema;

use super::faults::Step;
use super::*;
use crate::links::fields::NewLink;
use crate::router;

fn offered(schemes: &[SchemeName], has_timed: bool) -> Offered {
    Offered {
        url: "http://coordinator.example".to_owned(),
        schemes: schemes.to_vec(),
        has_public_files: false,
        has_timed,
        link_ttl_max: Duration::from_secs(86_400),
    }
}

fn everything() -> Offered {
    offered(&[SchemeName::Signature, SchemeName::AppJwt, SchemeName::Sealed], true)
}

fn parsed(offered: &Offered) -> Value {
    serde_json::from_slice(&offered.document()).unwrap()
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let table = [
        (offered(&[SchemeName::Open], false), false, false),
        (offered(&[SchemeName::Open], true), true, false),
        (offered(&[SchemeName::Sealed], false), false, true),
        (everything(), true, true),
    ];
    for (offered, has_timed, has_sealed) in table {
        let routes = router::routes(has_timed, has_sealed).into_iter().map(|(path, _)| path);
        // Where no file id is left, the call is download's with an empty one.
        let routes = routes.filter(|path| *path != router::DOWNLOAD_NOTHING);
        let routes: BTreeSet<String> = routes.map(|path| path.replace("{*", "{")).collect();
        let document = parsed(&offered);
        let paths: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(paths, routes);
    }
}

#[test]
fn it_is_whole_and_of_the_version_it_names() {
    let document = parsed(&everything());
    assert_eq!(document["openapi"], "3.1.0");
    serde_json::from_value::<OpenApi>(document.clone()).unwrap();
    let mut ids = BTreeSet::new();
    check_whole(&document, &document, &mut ids);
    assert!(ids.contains("download") && ids.contains("download-head"));
}

/// Every reference leads somewhere, and no operation has another's name.
fn check_whole(document: &Value, at: &Value, ids: &mut BTreeSet<String>) {
    if let Some(reference) = at["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    if let Some(id) = at["operationId"].as_str() {
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
    }
    match at {
        Value::Object(object) => object.values().for_each(|value| check_whole(document, value, ids)),
        Value::Array(values) => values.iter().for_each(|value| check_whole(document, value, ids)),
        _ => {}
    }
}

/// Says where an error that is new here has to be added too: to the step that ends with it.
fn step_of(error: &ApiError) -> Option<Step> {
    use ApiError as E;
    Some(match error {
        E::Query(_) => Step::ReadQuery,
        E::FileId(_) => Step::NameFile,
        E::MissingParameter(name) => Step::Need(name),
        E::UserId(_) => Step::NameUser,
        E::Seal(_) | E::Barred(_) => Step::Mint,
        E::BodyNotAllowed => Step::ComeWithoutBody,
        E::Body(_) | E::BodyLate => Step::ReadBody,
        E::Field(_) => Step::ReadFields,
        E::HeaderRepeated(_)
        | E::HeaderText(_)
        | E::HeaderTooLong(..)
        | E::HeaderMissing(_)
        | E::HeaderEmpty(_)
        | E::NoSuchKey(_)
        | E::KeyDisabled(_)
        | E::KeyExpired(_)
        | E::Signature(_)
        | E::Timestamp
        | E::NonceUsed
        | E::CredentialMissing(_)
        | E::NoSuchApp(_)
        | E::AppJwt(_)
        | E::SealedOnly
        | E::FailedTooOften { .. }
        | E::Throttled { .. }
        | E::Blocked(_)
        | E::ClientsNotKnown
        | E::NoncesFull => Step::Authenticate,
        E::Sealed(_) | E::SealedUsed => Step::OpenSealed,
        E::FileNotYours => Step::AskForFile,
        E::Link | E::LinkExpired | E::LinkExhausted | E::LinkAddress => Step::OpenLink,
        E::LinkRevoked | E::LinkOwner => Step::CheckLink,
        E::NoSuchLink => Step::FindLink,
        E::MarksFull => Step::TellEdges,
        E::Token | E::TokenExpired | E::TokenAddress | E::NotRedeemed => Step::OpenToken,
        E::TimedBad | E::TimedExpired | E::TimedFile => Step::OpenTimed,
        E::NoLiveEdge => Step::Locate,
        E::State => Step::Remember,
        E::UnknownPath | E::Method => return None,
    })
}

/// The errors that some call of the configuration can end with.
fn errors(offered: &Offered) -> Vec<ApiError> {
    calls::of(offered).iter().flat_map(|call| call.errors(offered)).collect()
}

#[test]
fn every_error_is_some_step_s() {
    for error in errors(&everything()) {
        let step = step_of(&error).unwrap();
        let same = |other: &ApiError| std::mem::discriminant(other) == std::mem::discriminant(&error);
        assert!(step.errors(&everything()).iter().any(same), "{step:?}: {error:?}");
    }
    let sealed_only = offered(&[SchemeName::Sealed], false);
    assert!(errors(&sealed_only).contains(&ApiError::SealedOnly));
    assert!(errors(&offered(&[SchemeName::Open], false)).iter().all(|error| error.status() != 429));
}

#[test]
fn every_status_of_an_error_is_documented() {
    let mut statuses = BTreeSet::new();
    let document = parsed(&everything());
    let paths = document["paths"].as_object().unwrap().values();
    for operation in paths.flat_map(|path| path.as_object().unwrap().values()) {
        let responses = operation["responses"].as_object().unwrap();
        statuses.extend(responses.keys().map(|status| status.parse::<u16>().unwrap()));
    }
    assert_eq!(
        statuses.into_iter().collect::<Vec<_>>(),
        [200, 201, 204, 302, 400, 401, 403, 404, 408, 410, 429, 503]
    );
    let elsewhere = &document["components"]["responses"];
    assert!(elsewhere["MethodNotAllowed"].is_object() && elsewhere["UnknownPath"].is_object());
}

#[test]
fn a_field_that_is_said_to_be_there_is_there() {
    let errors = errors(&everything());
    for error in &errors {
        let headers = error.clone().into_response().headers().clone();
        let of_status = errors.iter().filter(|other| other.status() == error.status()).cloned();
        let (_, answer) = faults::answers(of_status.collect(), true).remove(0);
        for name in answer.headers.keys().filter(|name| !SOMETIMES.contains(&name.as_str())) {
            // The request id comes later, to every answer.
            assert!(name == answers::X_REQUEST_ID || headers.contains_key(name), "{name}: {error:?}");
        }
    }
    let document = parsed(&everything());
    let failure = &document["paths"]["/api/links"]["post"]["responses"]["429"]["headers"];
    assert_eq!(failure["Retry-After"]["required"], true);
    assert_eq!(failure["RateLimit"]["required"], false);
}

#[test]
fn a_link_s_fields_are_those_that_its_parser_takes() {
    let refusal = NewLink::parse(br#"{"no such field":1}"#).unwrap_err().to_string();
    let (_, expected) = refusal.split_once("expected one of").unwrap();
    let names: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
    let schemas = schemas::all(&everything());
    let (_, schema) = schemas.into_iter().find(|(name, _)| *name == schemas::NEW_LINK).unwrap();
    let Schema::Object(object) = schema else { panic!("a body is an object") };
    assert_eq!(object.properties.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
}

#[test]
fn callers_are_asked_for_what_their_schemes_read() {
    let security = |offered: &Offered, path: &str, method: &str| {
        parsed(offered)["paths"][path][method]["security"].clone()
    };
    let open = offered(&[SchemeName::Open], false);
    assert!(security(&open, "/api/links", "post").is_null());
    let mut known = everything();
    let ways = security(&known, "/download/{file_id}", "get");
    assert_eq!(ways.as_array().unwrap().len(), 2);
    assert_eq!(ways[0].as_object().unwrap().len(), 4);
    assert!(ways[1].get("AppKey").is_some());
    known.has_public_files = true;
    assert_eq!(security(&known, "/download/{file_id}", "get")[2], serde_json::json!({}));
    assert_eq!(security(&known, "/api/request-download", "get").as_array().unwrap().len(), 2);
    assert!(security(&known, "/d/{ticket}", "get").is_null());
}

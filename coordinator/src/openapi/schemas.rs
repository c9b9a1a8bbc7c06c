//! The bodies of calls and answers, with the bounds that their parsers hold them to.

use sluice_shared::file_id::FILE_ID_BYTES_MAX;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{KnownFormat, Ref};

use super::Offered;
use crate::api::USER_ID_BYTES_MAX;
use crate::config::SchemeName;
use crate::links::fields::{DOWNLOADS_MAX, FILENAME_BYTES_MAX};

pub(super) const LINKS: &str = "Links";
pub(super) const NEW_LINK: &str = "NewLink";
pub(super) const CREATED: &str = "CreatedLink";
pub(super) const PROBLEM: &str = "Problem";
pub(super) const SEALED_CALL: &str = "SealedCall";
pub(super) const SEALED_ANSWER: &str = "SealedAnswer";
pub(super) const SECURITY_INFO: &str = "SecurityInfo";

/// Every named schema that a call or an answer of this configuration is made of.
pub(super) fn all(offered: &Offered) -> Vec<(&'static str, Schema)> {
    let mut schemas = vec![
        (LINKS, links().into()),
        (NEW_LINK, new_link(offered).into()),
        (CREATED, created().into()),
        (PROBLEM, problem().into()),
    ];
    if offered.has(SchemeName::Sealed) {
        schemas.push((SEALED_CALL, sealed_call().into()));
        schemas.push((SEALED_ANSWER, sealed_answer().into()));
        schemas.push((SECURITY_INFO, security_info().into()));
    }
    schemas
}

pub(super) fn named(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

pub(super) fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

pub(super) fn file_id() -> ObjectBuilder {
    text(
        "The file's name beneath the root: 1 to 1024 bytes of UTF-8, `/`-separated segments, none of them empty, `.` or \
         `..`; no control characters, no bidirectional controls, no backslash.",
    )
    .min_length(Some(1))
    .max_length(Some(FILE_ID_BYTES_MAX))
}

pub(super) fn user_id() -> ObjectBuilder {
    text("For whom, as the caller says: 1 to 256 bytes without control characters.")
        .min_length(Some(1))
        .max_length(Some(USER_ID_BYTES_MAX))
}

fn url(description: &str) -> ObjectBuilder {
    text(description).format(Some(SchemaFormat::Custom("uri".to_owned())))
}

fn time(description: &str) -> ObjectBuilder {
    text(description).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn integer(description: &str, least: u64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).description(Some(description)).minimum(Some(least))
}

/// What a field of a body may be beside `null`, which is as good as none.
fn nullable(builder: ObjectBuilder, of: Type) -> ObjectBuilder {
    builder.schema_type(SchemaType::from_iter([of, Type::Null]))
}

/// An object of these fields, each there, and no other.
fn whole(fields: impl IntoIterator<Item = (&'static str, Schema)>) -> Object {
    let closed = ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let add = |object: ObjectBuilder, (name, schema)| object.property(name, schema).required(name);
    fields.into_iter().fold(closed, add).build()
}

fn object(builder: ObjectBuilder) -> Schema {
    Schema::Object(builder.build())
}

fn links() -> Object {
    let alternates = ArrayBuilder::new()
        .items(url("The same token at another edge.").build())
        .description(Some("The next best edges, best first; the token is the same."));
    whole([
        ("download_url", object(url("Where the file is: at its best edge, with a token."))),
        ("expires_at", object(time("Until when the token opens the file."))),
        ("edge", object(text("The id of the best edge."))),
        ("alternates", Schema::Array(alternates.build())),
    ])
}

fn new_link(offered: &Offered) -> Object {
    let rest = [
        ("user_id", nullable(user_id(), Type::String)),
        (
            "ttl",
            nullable(integer("Seconds that the link lives.", 1), Type::Integer)
                .maximum(Some(offered.link_ttl_max.as_secs())),
        ),
        (
            "filename",
            nullable(text("The name to save as: 1 to 255 bytes of one plain name."), Type::String)
                .min_length(Some(1))
                .max_length(Some(FILENAME_BYTES_MAX))
                .pattern(Some(r"^[^/\\]+$")),
        ),
        (
            "max_downloads",
            nullable(integer("How many addresses may redeem the link.", 1), Type::Integer)
                .maximum(Some(DOWNLOADS_MAX)),
        ),
        (
            "bind_ip",
            nullable(
                text("The address or CIDR block that may download, or `redeemer`: whoever opens the link."),
                Type::String,
            ),
        ),
        (
            "rate",
            nullable(integer("Bytes per second of one connection, at most.", 1), Type::Integer)
                .maximum(Some(u64::MAX)),
        ),
    ];
    let needed = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .property("file_id", file_id())
        .required("file_id");
    rest.into_iter().fold(needed, |object, (name, schema)| object.property(name, schema)).build()
}

fn created() -> Object {
    whole([
        ("link", object(url("The link: anybody who has it may download."))),
        ("id", object(text("What takes the link back."))),
        ("expires_at", object(time("Until when the link is good."))),
    ])
}

fn problem() -> Object {
    let status = integer("The answer's status.", 400).maximum(Some(599));
    whole([
        (
            "type",
            object(
                text("Always `about:blank`: the status says which kind it is.")
                    .enum_values(Some(["about:blank"])),
            ),
        ),
        ("title", object(text("The status in words."))),
        ("status", object(status)),
        ("detail", object(text("What is wrong and what to do, in one sentence."))),
    ])
}

fn sealed_call() -> Object {
    // Of other fields nothing is said: callers of the systems replaced send some.
    let add = |object: ObjectBuilder, (name, schema): (&str, _)| object.property(name, schema).required(name);
    let fields = [
        ("data", text("`{\"file_id\", \"user_id\"}`, as a Fernet token.")),
        ("timestamp", text("Milliseconds since 1970, in 13 digits.").pattern(Some("^[0-9]{13}$"))),
        (
            "signature",
            text("HMAC-SHA256 over `data` and `timestamp`, lowercase hex.").pattern(Some("^[0-9a-f]{64}$")),
        ),
    ];
    fields.into_iter().fold(ObjectBuilder::new(), add).build()
}

fn sealed_answer() -> Object {
    whole([("data", object(text("The JSON of `Links`, as a Fernet token.")))])
}

fn security_info() -> Object {
    whole([
        ("encryption_key_fingerprint", object(text("Of the key; not the key."))),
        ("signature_format", object(text("What is signed, and how."))),
        ("timestamp_format", object(text("What a timestamp is."))),
        ("max_age", object(integer("Milliseconds that a timestamp may be from now.", 0))),
    ])
}

//! What the fields of a request say, as far as a download is asked by them. The same rules for all versions of HTTP.

use std::borrow::Cow;

use super::RequestError;
use super::host::is_host;

/// The fields that a download asks by, as they came.
#[derive(Debug, Default)]
pub struct Conditions<'b> {
    pub if_match: Option<Cow<'b, [u8]>>,
    pub if_none_match: Option<Cow<'b, [u8]>>,
    pub if_modified_since: Option<&'b [u8]>,
    pub if_unmodified_since: Option<&'b [u8]>,
    pub if_range: Option<&'b [u8]>,
    pub range: Option<&'b [u8]>,
}

/// All of them, once through.
#[derive(Debug, Default)]
pub(super) struct Fields<'b> {
    hosts: usize,
    host: &'b [u8],
    content_lengths: usize,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) origin: Option<&'b [u8]>,
    pub(super) conditions: Conditions<'b>,
    /// What is wrong, though there is no doubt where the request ends.
    fault: Option<RequestError>,
}

impl<'b> Fields<'b> {
    /// Takes one field in.
    ///
    /// # Errors
    /// `Body`: where the next request begins is in doubt, or behind content that nobody wants.
    pub(super) fn take(&mut self, name: &str, value: &'b [u8]) -> Result<(), RequestError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length first: one comparison for most fields.
        match name.len() {
            4 if is("Host") => {
                self.hosts += 1;
                self.host = value;
                if !is_host(value) {
                    self.fault = Some(RequestError::Host);
                }
            }
            5 if is("Range") => set_single(&mut self.conditions.range, value),
            6 if is("Expect") => self.expect(value),
            6 if is("Origin") => set_single(&mut self.origin, value),
            8 if is("If-Match") => append(&mut self.conditions.if_match, value),
            8 if is("If-Range") => set_single(&mut self.conditions.if_range, value),
            10 if is("Connection") => self.connection(value),
            13 if is("If-None-Match") => append(&mut self.conditions.if_none_match, value),
            14 if is("Content-Length") => {
                self.content_lengths += 1;
                if self.content_lengths > 1 || value.is_empty() || value.iter().any(|byte| *byte != b'0') {
                    return Err(RequestError::Body);
                }
            }
            17 if is("Transfer-Encoding") => return Err(RequestError::Body),
            17 if is("If-Modified-Since") => set_single(&mut self.conditions.if_modified_since, value),
            19 if is("If-Unmodified-Since") => set_single(&mut self.conditions.if_unmodified_since, value),
            _ => {}
        }
        Ok(())
    }

    /// Takes what stands in the place of a Host in HTTP/2; one beside it says the same (RFC 9113 §8.3.1).
    pub(super) fn take_authority(&mut self, authority: &'b [u8]) {
        if !is_host(authority) || (self.hosts == 1 && self.host != authority) {
            self.fault = Some(RequestError::Host);
        }
        self.hosts = self.hosts.max(1);
    }

    /// RFC 9112 §3.2: exactly one Host in HTTP/1.1, at most one in 1.0. RFC 9110 §10.1.1: Expect says nothing in 1.0.
    pub(super) fn fault(&self, is_http_10: bool) -> Option<RequestError> {
        match self.fault {
            _ if self.hosts > 1 || (self.hosts == 0 && !is_http_10) => Some(RequestError::Host),
            Some(RequestError::Expect) if is_http_10 => None,
            fault => fault,
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Who waits to be told to go on has nothing to go on with: no request here has content, and the answer follows at
    /// once. Nothing else can be expected.
    fn expect(&mut self, value: &[u8]) {
        let expectations = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if !expectations.clone().all(|one| one.is_empty() || one.eq_ignore_ascii_case(b"100-continue")) {
            self.fault.get_or_insert(RequestError::Expect);
        }
    }
}

/// A field of one value that comes twice has no value that both ends agree on; an empty one matches nothing.
fn set_single<'b>(place: &mut Option<&'b [u8]>, value: &'b [u8]) {
    *place = Some(if place.is_some() { b"" } else { value });
}

/// The lines of a list-valued field are one list (RFC 9110 §5.3).
fn append<'b>(place: &mut Option<Cow<'b, [u8]>>, value: &'b [u8]) {
    match place {
        None => *place = Some(Cow::Borrowed(value)),
        Some(list) => {
            let list = list.to_mut();
            list.extend_from_slice(b", ");
            list.extend_from_slice(value);
        }
    }
}

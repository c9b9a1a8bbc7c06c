//! Whether what was opened holds, and what is wrong, in words. Pure; the time is an argument.

use std::net::IpAddr;
use std::time::Duration;

use sluice_shared::client_net::ClientNet;
use sluice_shared::keys::KeyRing;
use sluice_shared::token::{Claims, NumericDate, Ticket, TokenError};

use super::header::Header;

/// How a token is shown to an edge.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) edge: Option<String>,
    pub(super) client: Option<IpAddr>,
    pub(super) is_head: bool,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) faults: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Terms {
    pub(super) fn judge(&self, claims: &Claims<'_>, now: NumericDate) -> Judged {
        let mut judged = Judged::default();
        judged.faults.extend(self.faults_of_time(claims, now));
        if let Err(TokenError::Expired) = claims.judge(now)
            && claims.is_renewable(now)
            && let Some(lxp) = claims.lxp
        {
            judged.notes.push(format!(
                "its link holds until {}: an edge sends the client to /renew of the coordinator",
                moment(lxp)
            ));
        }
        self.judge_address(claims, &mut judged);
        if claims.head && !self.is_head {
            judged.faults.push("it is good for HEAD only, and this is a GET".to_owned());
        }
        if let (Some(here), Some(meant)) = (&self.edge, claims.edg.as_deref())
            && here != meant
        {
            judged
                .notes
                .push(format!("it was minted for edge '{meant}', and edge '{here}' serves it as well"));
        }
        judged
            .notes
            .push("whether it is revoked or blocked is known to coordinators and edges only".to_owned());
        judged
    }

    fn faults_of_time(&self, claims: &Claims<'_>, now: NumericDate) -> Option<String> {
        match claims.judge(now) {
            Ok(()) => None,
            Err(TokenError::Expired) => Some(expired(claims.exp, now)),
            Err(_) => {
                let nbf = claims.nbf.unwrap_or(now);
                let wait = span(nbf.as_secs_f64() - now.as_secs_f64());
                Some(format!(
                    "it is not good before {}, in {wait}; if it is new, the clock here or at the coordinator is off",
                    moment(nbf)
                ))
            }
        }
    }

    fn judge_address(&self, claims: &Claims<'_>, judged: &mut Judged) {
        let Some(bound) = claims.ip.as_deref() else { return };
        match (ClientNet::parse(bound), self.client) {
            (None, _) => judged.faults.push(format!("it is bound to '{bound}', which is no address")),
            (Some(net), Some(client)) if !net.contains(client) => {
                judged.faults.push(format!("it is bound to {net}, and {client} is not in there"));
            }
            (Some(net), None) => judged.notes.push(format!("it is bound to {net}; ask with --client")),
            (Some(_), Some(_)) => {}
        }
    }
}

pub(super) fn judge_ticket(ticket: &Ticket<'_>, now: NumericDate) -> Judged {
    let mut judged = Judged::default();
    if now >= ticket.exp {
        judged.faults.push(expired(ticket.exp, now));
    }
    judged
        .notes
        .push("whether it is revoked, and how often it was opened, is known to coordinators only".to_owned());
    judged
}

fn expired(exp: NumericDate, now: NumericDate) -> String {
    format!("it expired at {}, {} ago", moment(exp), span(now.as_secs_f64() - exp.as_secs_f64()))
}

/// Why something is not opened.
pub(super) fn in_words(error: TokenError, header: &Header, rings: &[KeyRing]) -> String {
    let kid = header.kid.as_deref().unwrap_or_default();
    match error {
        TokenError::UnknownKey if header.kid.is_some() => format!(
            "it is sealed with key '{kid}', which no key file here has: they have {}; it is another cluster's, or that \
             key has been retired",
            names_of(rings)
        ),
        TokenError::Authentication if header.kid.is_some() => format!(
            "key '{kid}' does not open it: a byte of it was changed, or '{kid}' is another key here than where it was \
             sealed (compare fingerprints: sluicectl keys list)"
        ),
        TokenError::UnknownKey | TokenError::Authentication => format!(
            "none of the keys here ({}) opens it: a byte of it was changed, or it was sealed with another",
            names_of(rings)
        ),
        TokenError::Structure | TokenError::Length => {
            "it is no token: not five parts between dots as they should be; it may have been cut when it was copied"
                .to_owned()
        }
        TokenError::Encoding => {
            "it has a character that tokens do not have; it was changed or cut when it was copied".to_owned()
        }
        TokenError::Header => "its header is neither a token's nor a ticket's (dir, A256GCM)".to_owned(),
        other => format!("it is not taken: {other}"),
    }
}

fn names_of(rings: &[KeyRing]) -> String {
    let keys = rings.iter().flat_map(KeyRing::newest_first);
    let names: Vec<_> = keys.map(|key| format!("'{}' ({})", key.id(), key.fingerprint())).collect();
    names.join(", ")
}

/// RFC 3339 UTC, whole seconds; the number alone where no calendar has it.
pub(super) fn moment(date: NumericDate) -> String {
    const LAST_SECOND: f64 = 253_402_300_799.0;
    if (0.0..LAST_SECOND).contains(&date.as_secs_f64()) {
        humantime::format_rfc3339_seconds(date.to_system_time()).to_string()
    } else {
        date.as_secs_f64().to_string()
    }
}

fn span(secs: f64) -> String {
    let whole = Duration::try_from_secs_f64(secs.max(0.0).floor()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use sluice_shared::file_id::FileId;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn claims(change: impl FnOnce(&mut Claims<'static>)) -> Claims<'static> {
        let mut claims = Claims::new(FileId::parse("a").unwrap(), NumericDate::from_secs(NOW + 60));
        change(&mut claims);
        claims
    }

    fn faults(terms: &Terms, change: impl FnOnce(&mut Claims<'static>)) -> Vec<String> {
        terms.judge(&claims(change), NumericDate::from_secs(NOW)).faults
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let (here, head) = (Terms::default(), Terms { is_head: true, ..Terms::default() });
        let from = |address: &str| Terms { client: Some(address.parse().unwrap()), ..Terms::default() };
        assert_eq!(faults(&here, |_| {}), [""; 0]);
        let late = faults(&here, |claims| claims.exp = NumericDate::from_secs(NOW - 90));
        assert_eq!(late, ["it expired at 2027-01-15T07:58:30Z, 1m30s ago"]);
        let early = faults(&here, |claims| claims.nbf = Some(NumericDate::from_secs(NOW + 3600)));
        assert!(early[0].starts_with("it is not good before 2027-01-15T09:00:00Z, in 1h;"), "{early:?}");
        let bound = |claims: &mut Claims<'static>| claims.ip = Some("192.0.2.0/24".into());
        assert_eq!(faults(&from("192.0.2.7"), bound), [""; 0]);
        assert_eq!(faults(&here, bound), [""; 0]);
        let elsewhere = faults(&from("198.51.100.1"), bound);
        assert_eq!(elsewhere, ["it is bound to 192.0.2.0/24, and 198.51.100.1 is not in there"]);
        assert_eq!(faults(&head, |claims| claims.head = true), [""; 0]);
        assert!(faults(&here, |claims| claims.head = true)[0].contains("HEAD only"));
    }

    #[test]
    fn notes_tell_of_other_edges_and_living_links() {
        let terms = Terms { edge: Some("edge-1".into()), ..Terms::default() };
        let judged = terms.judge(
            &claims(|claims| {
                claims.edg = Some("edge-2".into());
                claims.exp = NumericDate::from_secs(NOW - 1);
                claims.lxp = Some(NumericDate::from_secs(NOW + 5));
            }),
            NumericDate::from_secs(NOW),
        );
        assert_eq!(judged.faults.len(), 1);
        assert!(judged.notes[0].contains("/renew") && judged.notes[1].contains("'edge-2'"), "{judged:?}");
    }
}

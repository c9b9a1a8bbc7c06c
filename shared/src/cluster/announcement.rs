//! What an edge says of itself in etcd: written by edges, read by coordinators, which may be of other versions and
//! believe nothing.

use serde::{Deserialize, Serialize};

use super::{EdgeId, EdgeRecord, Weight};
use crate::units::BaseUrl;

/// What the members of a record mean. A change that older programs would misread has another number; new members have
/// not, for whoever does not know them passes them over.
pub const FORMAT: u32 = 1;
const ZONE_BYTES_MAX: usize = 63;
const WORD_BYTES_MAX: usize = 64;

/// An edge's record under `edges/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    #[serde(default = "this_format")]
    pub format: u32,
    /// The key's; there for whoever reads records without their keys.
    pub id: EdgeId,
    /// Where clients are sent.
    pub url: BaseUrl,
    /// Where its health is asked.
    pub admin_url: BaseUrl,
    #[serde(default)]
    pub zone: String,
    #[serde(default = "usual_weight")]
    pub weight: Weight,
    #[serde(default)]
    pub state: AnnouncedState,
    #[serde(default)]
    pub load: AnnouncedLoad,
    /// Bytes a second that it can send, where its configuration says so.
    #[serde(default)]
    pub capacity: Option<u64>,
    /// Of the program.
    #[serde(default)]
    pub version: String,
    /// Names the process.
    pub instance: String,
}

fn this_format() -> u32 {
    FORMAT
}

fn usual_weight() -> Weight {
    Weight::USUAL
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnouncedState {
    #[default]
    Serving,
    /// It leaves, and its record with it.
    Draining,
    /// Its store does not answer.
    Degraded,
    /// A state of later versions.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnnouncedLoad {
    /// Bodies that are being sent.
    pub transfers: u64,
    /// Bytes of bodies that were sent in each second, lately.
    pub rate: u64,
    /// Bytes of bodies that were sent since the start. `None` here and below: it is of a version that does not say.
    pub sent: Option<u64>,
    /// Since the start: parts of files that were in the cache when a transfer came to them, and those it waited for.
    pub hits: Option<u64>,
    pub misses: Option<u64>,
    /// Operations that are stuck in the store.
    pub stuck: Option<u64>,
}

/// Why a record is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncementError {
    #[error("the key is no edge id: 1 to 63 of A-Z a-z 0-9 . _ -")]
    Key,
    #[error("it is no record of an edge: {0}")]
    Content(#[from] serde_json::Error),
    #[error("it is of format {0}, and this program reads format {FORMAT}")]
    Format(u32),
    #[error("it says that it is of '{0}'")]
    Id(String),
    #[error("its {0} is longer than this program takes, or unprintable")]
    Member(&'static str),
    #[error("its admin_url does not begin with http://; edges are probed without TLS")]
    AdminUrl,
}

impl Announcement {
    /// Reads a record.
    ///
    /// # Errors
    /// It is of another format, of another edge, or says what no edge says.
    pub fn parse(key: &str, value: &[u8]) -> Result<Self, AnnouncementError> {
        let id = EdgeId::parse(key).ok_or(AnnouncementError::Key)?;
        // The format first: of another one, nothing else is known.
        #[derive(Deserialize)]
        struct Head {
            #[serde(default = "this_format")]
            format: u32,
        }
        let head: Head = serde_json::from_slice(value)?;
        if head.format != FORMAT {
            return Err(AnnouncementError::Format(head.format));
        }
        let read: Self = serde_json::from_slice(value)?;
        if read.id != id {
            return Err(AnnouncementError::Id(read.id.as_str().to_owned()));
        }
        let plain = |text: &str| text.chars().all(|character| !character.is_control());
        let members = [
            ("zone", &read.zone, ZONE_BYTES_MAX),
            ("version", &read.version, WORD_BYTES_MAX),
            ("instance", &read.instance, WORD_BYTES_MAX),
        ];
        if let Some((name, ..)) =
            members.iter().find(|(_, text, bytes_max)| text.len() > *bytes_max || !plain(text))
        {
            return Err(AnnouncementError::Member(name));
        }
        if !read.admin_url.as_str().starts_with("http://") {
            return Err(AnnouncementError::AdminUrl);
        }
        Ok(read)
    }

    /// The record as it stands under its key.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are JSON")
    }

    /// What routing and probing go by.
    pub fn record(&self) -> EdgeRecord {
        EdgeRecord {
            id: self.id.clone(),
            url: self.url.clone(),
            admin_url: self.admin_url.clone(),
            weight: self.weight,
            zone: self.zone.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Announcement {
        Announcement {
            format: FORMAT,
            id: EdgeId::parse("edge-1").unwrap(),
            url: BaseUrl::parse("https://edge-1.example").unwrap(),
            admin_url: BaseUrl::parse("http://10.0.0.1:9101").unwrap(),
            zone: "a".into(),
            weight: Weight::new(50).unwrap(),
            state: AnnouncedState::Degraded,
            load: AnnouncedLoad {
                transfers: 7,
                rate: 1_000_000,
                sent: Some(5_000_000),
                hits: Some(90),
                misses: Some(10),
                stuck: Some(0),
            },
            capacity: Some(1 << 30),
            version: "0.1.0".into(),
            instance: "abc".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (whole, bytes) = (whole(), whole().to_json());
        assert_eq!(Announcement::parse("edge-1", &bytes).unwrap(), whole);
        assert_eq!(whole.record().weight.value(), 50);
    }

    /// Members of later versions are passed over; those of later versions that are missing have their defaults.
    #[test]
    fn records_of_other_versions_are_read() {
        let new = r#"{"format":1,"id":"e","url":"http://e:1","admin_url":"http://e:2","instance":"i",
            "state":"hibernating","load":{"transfers":1,"temperature":40},"colour":"blue"}"#;
        let read = Announcement::parse("e", new.as_bytes()).unwrap();
        assert_eq!((read.state, read.load.transfers, read.capacity), (AnnouncedState::Unknown, 1, None));
        let old = r#"{"id":"e","url":"http://e:1","admin_url":"http://e:2","instance":"i"}"#;
        let read = Announcement::parse("e", old.as_bytes()).unwrap();
        assert_eq!((read.state, read.weight), (AnnouncedState::Serving, Weight::USUAL));
        let before_caches = r#"{"id":"e","url":"http://e:1","admin_url":"http://e:2","instance":"i",
            "load":{"transfers":3,"rate":9}}"#;
        let load = Announcement::parse("e", before_caches.as_bytes()).unwrap().load;
        assert_eq!((load.transfers, load.rate), (3, 9));
        assert_eq!((load.sent, load.hits, load.misses, load.stuck), (None, None, None, None));
    }

    #[test]
    fn hostile_records_are_refused_by_their_fault() {
        let text = String::from_utf8(whole().to_json()).unwrap();
        let with = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        };
        let table = [
            (String::new(), "no record"),
            ("null".into(), "no record"),
            ("[]".into(), "no record"),
            ("[".repeat(50_000), "no record"),
            (with("\"format\":1", "\"format\":2"), "format 2"),
            ("{\"format\":2}".into(), "format 2"),
            (with("\"format\":1", "\"format\":\"1\""), "no record"),
            (with("\"id\":\"edge-1\"", "\"id\":\"edge-2\""), "of 'edge-2'"),
            (with("\"id\":\"edge-1\"", "\"id\":\"../x\""), "no record"),
            (with("\"id\":\"edge-1\",", ""), "no record"),
            (with("\"weight\":50", "\"weight\":0"), "weight is a whole number from 1"),
            (with("\"weight\":50", "\"weight\":-1"), "weight is a whole number from 1"),
            (with("\"weight\":50", "\"weight\":1e9"), "no record"),
            (with("\"weight\":50", "\"weight\":50,\"weight\":60"), "duplicate"),
            (with("https://edge-1.example", "javascript:alert(1)"), "no base URL"),
            (with("https://edge-1.example", "https://u:p@edge-1.example"), "no base URL"),
            (with("http://10.0.0.1:9101", "https://10.0.0.1:9101"), "admin_url"),
            (with("\"zone\":\"a\"", &format!("\"zone\":\"{}\"", "z".repeat(64))), "its zone"),
            (with("\"zone\":\"a\"", "\"zone\":\"a\\n\""), "its zone"),
            (with("\"instance\":\"abc\"", "\"instance\":7"), "no record"),
            (with("\"transfers\":7", "\"transfers\":-7"), "no record"),
            (with("\"capacity\":1073741824", "\"capacity\":\"all\""), "no record"),
        ];
        for (value, expected) in table {
            let fault = Announcement::parse("edge-1", value.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{expected:?} in {fault:?}");
        }
        assert!(matches!(Announcement::parse("a b", &whole().to_json()), Err(AnnouncementError::Key)));
    }
}

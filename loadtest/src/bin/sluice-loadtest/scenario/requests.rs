//! What clients do with files: the mix of whole downloads, ranges, resumptions, renewals and aborts.

use std::num::NonZeroU64;

use sluice_shared::config::ConfigError;
use toml::Spanned;

use super::Source;
use super::fractions::Fractions;
use super::raw::{Kind, RawRequests};

/// Slower than this nobody waits for, and a slow client wakes twice a second.
const RATE_MIN: u64 = 16;

/// One way to ask for a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    /// Length of a range.
    pub(crate) bytes: u64,
    /// Which part of the file has come when the client breaks off, 0 to 1; at random where none is said.
    pub(crate) after: Option<f64>,
    /// Bytes a second that a slow client takes.
    pub(crate) rate: Option<NonZeroU64>,
}

/// Not empty.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    list: Vec<Wanted>,
    fractions: Fractions,
}

impl Requests {
    pub(super) fn of(source: &Source, raw: &[Spanned<RawRequests>]) -> Result<Self, ConfigError> {
        let weights: Vec<_> = raw.iter().map(|raw| raw.get_ref().weight.clone()).collect();
        let fractions = Fractions::of(source, &weights)?;
        let list = raw.iter().map(|raw| Wanted::of(source, raw)).collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            let whole = Wanted { kind: Kind::Whole, bytes: 0, after: None, rate: None };
            return Ok(Self { list: vec![whole], fractions: Fractions::of(source, &[None])? });
        }
        Ok(Self { list, fractions })
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.list.iter().any(|wanted| wanted.kind == kind)
    }

    /// The one that a number from 0 to 1 falls to.
    pub(crate) fn pick(&self, unit: f64) -> &Wanted {
        &self.list[self.fractions.pick(unit)]
    }
}

impl Wanted {
    fn of(source: &Source, spanned: &Spanned<RawRequests>) -> Result<Self, ConfigError> {
        let raw = spanned.get_ref();
        let kind = raw.kind.as_ref().map_or(Kind::Whole, |kind| *kind.get_ref());
        let bytes = match (&raw.bytes, kind) {
            (Some(key), Kind::Range) if key.get_ref().0 == 0 => {
                return Err(source.fault(key, "has to be more than 0"));
            }
            (Some(key), Kind::Range) => key.get_ref().0,
            (Some(key), _) => return Err(source.fault(key, "is for kind = \"range\" only")),
            (None, _) => 64 << 10,
        };
        if let Some(key) = &raw.after {
            if !matches!(kind, Kind::Resume | Kind::Renew | Kind::Abort) {
                return Err(source.fault(key, "is for the kinds \"resume\", \"renew\" and \"abort\" only"));
            }
            if !(0.0..=1.0).contains(key.get_ref()) {
                return Err(source.fault(key, "is a part of the file, from 0.0 to 1.0"));
            }
        }
        if let Some(key) = &raw.rate
            && key.get_ref().0 < RATE_MIN
        {
            return Err(source.fault(key, format!("is bytes a second, {RATE_MIN} at least")));
        }
        let rate = raw.rate.as_ref().and_then(|rate| NonZeroU64::new(rate.get_ref().0));
        Ok(Self { kind, bytes, after: raw.after.as_ref().map(|after| *after.get_ref()), rate })
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Range => "range",
            Self::Resume => "resume",
            Self::Renew => "renew",
            Self::Abort => "abort",
        }
    }
}

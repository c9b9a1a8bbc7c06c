//! What the two tools saw of one server, and what of it has to agree.

use std::fmt;

use sluice_loadtest::median::median;

/// How far two tools may be apart that measure the same.
const AGREEMENT: f64 = 0.10;
/// Of the time that the load test counts, the part that wrk has to have counted for its percentiles to be the server's.
const COUNTED_MIN: f64 = 1.0 - AGREEMENT;
/// wrk is the limit where it uses more than this part of its core.
const BUSY_MAX: f64 = 0.9;
/// A tool that uses more than half of its core lets answers wait for itself as long as it takes for one, or longer: its
/// percentiles are its own.
const IDLE_ENOUGH: f64 = 0.5;
/// Of a file that is asked for with no delay between: wrk reads 8 KiB at a time, with the head.
const AT_ONCE_BYTES_MAX: u64 = 7 << 10;
/// The load test's processor time for a download, as a multiple of wrk's.
const CPU_MAX: f64 = 2.0;
/// What is compared, in order.
pub(crate) const FIGURES: [&str; 5] = ["rate", "p50", "p90", "p99", "CPU"];

/// What a tool saw: downloads a second, quantiles of the latency in seconds, processor time for a download.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) cpu: f64,
    /// Of the latency.
    pub(crate) mean: f64,
}

/// The load test beside wrk, by one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compared {
    /// The parts of their core that wrk and the load test used.
    pub(crate) busy: [f64; 2],
    /// The part of the time of all connections that wrk's latencies have, over the load test's.
    pub(crate) counted: f64,
    /// The load test's figures over wrk's.
    pub(crate) ratios: [f64; 5],
    /// The server did the same for both.
    is_alike: bool,
}

/// Which of the figures both tools measured of the server, and not of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    Cost,
    CostAndRate,
    All,
}

impl Seen {
    /// How many connections waited at a time.
    fn waited(&self) -> f64 {
        self.rate * self.mean
    }

    /// As [`FIGURES`] has them.
    fn figures(&self) -> [f64; 5] {
        [self.rate, self.p50, self.p90, self.p99, self.cpu]
    }
}

impl Compared {
    /// Of rounds, each of wrk and the load test, for a file of this size; `is_direct` with no delay between.
    pub(crate) fn new(rounds: &[(Seen, Seen)], size: u64, is_direct: bool) -> Self {
        let of = |figure: &dyn Fn(&(Seen, Seen)) -> f64| median(rounds.iter().map(figure));
        Self {
            busy: [of(&|(wrk, _)| wrk.rate * wrk.cpu), of(&|(_, ours)| ours.rate * ours.cpu)],
            counted: of(&|(wrk, ours)| wrk.waited() / ours.waited()),
            ratios: std::array::from_fn(|at| of(&|(wrk, ours)| ours.figures()[at] / wrk.figures()[at])),
            is_alike: !is_direct || size <= AT_ONCE_BYTES_MAX,
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        let [wrk, ours] = self.busy;
        if !self.is_alike || wrk > BUSY_MAX {
            Extent::Cost
        } else if wrk.max(ours) > IDLE_ENOUGH || self.counted < COUNTED_MIN {
            Extent::CostAndRate
        } else {
            Extent::All
        }
    }

    /// All that both measured agrees.
    pub(crate) fn holds(&self) -> bool {
        let agrees = |ratio: f64| (ratio - 1.0).abs() <= AGREEMENT;
        let [rate, percentiles @ .., cpu] = self.ratios;
        let extent = self.extent();
        cpu <= CPU_MAX
            && (extent < Extent::CostAndRate || agrees(rate))
            && (extent < Extent::All || percentiles.into_iter().all(agrees))
    }
}

/// A row of the table: busy, counted, [`FIGURES`], what was compared.
impl fmt::Display for Compared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [self.busy[0], self.busy[1], self.counted] {
            write!(formatter, "{:>7.0} %", part * 100.0)?;
        }
        for ratio in self.ratios {
            write!(formatter, "{ratio:>9.2}")?;
        }
        let beyond = if self.holds() { "" } else { ": beyond" };
        write!(formatter, "  {}{beyond}", self.extent())
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cost => "cost",
            Self::CostAndRate => "cost, rate",
            Self::All => "all",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_can_measure_is_held_against_wrk() {
        let compared =
            |busy, counted, ratios| Compared { busy: [busy, 0.2], counted, ratios, is_alike: true };
        let all = compared(0.4, 1.0, [1.0, 1.09, 0.91, 1.0, 2.0]);
        assert!(all.holds() && all.extent() == Extent::All);
        assert!(!compared(0.4, 1.0, [1.0, 1.2, 1.0, 1.0, 1.0]).holds(), "a median");
        assert!(!compared(0.4, 1.0, [1.0, 1.0, 1.0, f64::NAN, 1.0]).holds(), "no number");
        let counts_too_little = compared(0.4, 0.8, [1.0, 1.9, 1.0, 1.0, 1.0]);
        assert!(counts_too_little.holds() && counts_too_little.extent() == Extent::CostAndRate);
        assert!(!compared(0.4, 0.8, [0.8, 1.0, 1.0, 1.0, 1.0]).holds(), "the rate is counted all the same");
        let waits_for_itself = compared(0.8, 1.0, [1.0, 1.9, 1.0, 1.0, 1.0]);
        assert!(waits_for_itself.holds() && waits_for_itself.extent() == Extent::CostAndRate);
        assert_eq!(Compared { busy: [0.2, 0.8], ..all }.extent(), Extent::CostAndRate, "the load test does");
        let is_full = compared(0.99, 1.0, [0.8, 1.9, 1.0, 1.0, 1.0]);
        assert!(is_full.holds() && is_full.extent() == Extent::Cost);
        assert!(!compared(0.99, 1.0, [1.0, 1.0, 1.0, 1.0, 2.1]).holds(), "the cost");
    }

    #[test]
    fn medians_of_ratios_count() {
        let seen = |rate, mean| Seen { rate, p50: mean, p90: mean, p99: mean, cpu: 1e-5, mean };
        let rounds = [0.5, 1.0, 9.0].map(|factor| (seen(10_000.0, 1e-3), seen(10_000.0 * factor, 1e-3)));
        let compared = Compared::new(&rounds, 1 << 10, true);
        assert_eq!(compared.ratios, [1.0; 5]);
        assert!((compared.busy[0] - 0.1).abs() < 1e-9 && (compared.counted - 1.0).abs() < 1e-9);
        assert_eq!(compared.extent(), Extent::All);
        assert_eq!(Compared::new(&rounds, 1 << 20, true).extent(), Extent::Cost, "it reads bit by bit");
        assert_eq!(Compared::new(&rounds, 1 << 20, false).extent(), Extent::All);
    }
}

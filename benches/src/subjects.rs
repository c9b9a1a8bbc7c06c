//! The parts of a download's way that are measured by themselves: by time (`benches/parts.rs`) and by instructions
//! (`benches/instructions.rs`). Each is made of public parts of the crates that it is of.

mod cluster;
mod mint;
mod request;
mod route;
mod signature;
mod token;

pub use cluster::{NOW, cluster, places, questions};

/// Does the measured thing once.
pub type Operation = Box<dyn FnMut()>;

/// A thing that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// `group/name`
    pub name: &'static str,
    /// The subject that stands beside it, for scale.
    pub beside: Option<&'static str>,
    /// What most of its time goes into.
    pub limit: &'static str,
    /// How often it is done to count its instructions; the counts of one differ little.
    pub counted: u32,
    /// Prepares it.
    pub make: fn() -> Operation,
}

/// All of them, in the order of a download's way.
pub fn all() -> impl Iterator<Item = &'static Subject> {
    [signature::SUBJECTS, route::SUBJECTS, mint::SUBJECTS, token::SUBJECTS, request::SUBJECTS]
        .into_iter()
        .flatten()
}

/// One by its name.
pub fn find(name: &str) -> Option<&'static Subject> {
    all().find(|subject| subject.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_does_what_it_says_and_stands_beside_one_that_is_there() {
        for subject in all() {
            assert!(!subject.limit.is_empty() && subject.counted > 0, "{}", subject.name);
            assert!(subject.beside.is_none_or(|other| find(other).is_some()), "{}", subject.name);
            // Each asserts that what it measures succeeds, or fails as it should.
            let mut operation = (subject.make)();
            operation();
            operation();
        }
    }
}

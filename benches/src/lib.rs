//! What benches measure (`subjects`), what all of them are called and limited by (`known`), the machine that they ran on
//! (`host`), and documents held against results (`figures`). Side-by-side runs are in `src/bin/`. Nothing depends on it.

pub mod figures;
pub mod known;
pub mod subjects;

//! What the documents say of speed and memory is what the results under `benches/results/` say.

use std::path::Path;

use sluice_benches::figures::Figures;

#[test]
fn the_documents_have_the_figures_that_were_measured() -> anyhow::Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let findings = Figures::load(&repository)?.check(&repository)?;
    assert!(findings.faults.is_empty(), "`make figures` mends numbers:\n{}", findings.faults.join("\n"));
    Ok(())
}

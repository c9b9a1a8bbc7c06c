//! The time that each part of a download's way takes by itself (`sluice_benches::subjects`).

use criterion::{Criterion, criterion_group, criterion_main};
use sluice_benches::subjects;

fn parts(c: &mut Criterion) {
    for subject in subjects::all() {
        let (group, name) = subject.name.split_once('/').expect("a subject's name is group and name");
        let mut group = c.benchmark_group(group);
        // A change of a thousand edges takes tens of milliseconds.
        if subject.counted < 100 {
            group.sample_size(10);
        }
        let mut operation = None;
        group.bench_function(name, |b| b.iter(operation.get_or_insert_with(subject.make)));
        group.finish();
    }
}

criterion_group!(benches, parts);
criterion_main!(benches);
